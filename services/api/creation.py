"""From a request to the command that creates an orchestration."""

from collections.abc import Collection
from typing import Any

from services.api.links import Outline, dependencies, order
from services.api.problems import InvalidRequestError, Problem
from services.api.schemas import BulkRequest, CreateRequest, RequestT, TaskRequest, check_bulk, check_create
from shared.domain.commands import CreateOrchestration
from shared.domain.events import OrchestrationSpec, Schedule, TaskSpec
from shared.domain.ids import derive_id
from shared.domain.models import BY_COMPLEXITY, UnknownModelError, resolve


def read_create(body: Any, known_models: Collection[str], *, allow_private_webhooks: bool) -> CreateRequest:
    """Check a request as a whole.

    Args:
        body: what the JSON holds.
        known_models: the names that the provider takes.

    Raises:
        InvalidRequestError: names everything that is wrong.
    """
    return _accepted(check_create(body, allow_private_webhooks=allow_private_webhooks), body, known_models)


def read_bulk(body: Any, known_models: Collection[str], *, allow_private_webhooks: bool) -> BulkRequest:
    """Like `read_create`, for what all repositories share."""
    return _accepted(check_bulk(body, allow_private_webhooks=allow_private_webhooks), body, known_models)


def _accepted(checked: tuple[RequestT | None, list[Problem]], body: Any, known_models: Collection[str]) -> RequestT:
    request, problems = checked
    problems += _model_problems(body, known_models)
    if request is None or problems:
        raise InvalidRequestError(problems)
    return request


def _model_problems(body: Any, known: Collection[str]) -> list[Problem]:
    """Unknown models where the user insists; read from the body, so that they are told with all else."""
    if not isinstance(body, dict) or (body.get("strictModel") or body.get("strict_model")) is not True:
        return []
    places = [("model", body)]
    if isinstance(body.get("tasks"), list):
        places += [(f"tasks[{i}].model", task) for i, task in enumerate(body["tasks"]) if isinstance(task, dict)]
    found = []
    for field, holder in places:
        model = holder.get("model")
        if isinstance(model, str) and model.strip():
            try:
                resolve(model.strip(), "moderate", known, strict=True)
            except UnknownModelError as exc:
                found.append(Problem(field, str(exc), "INVALID_MODEL"))
    return found


def create_command(
    request: CreateRequest, known_models: Collection[str], *, orchestration_id: str, team: str, created_by: str
) -> CreateOrchestration:
    """The command: ids made, dependencies and order resolved, models chosen."""
    models = _Models(request, known_models)
    links, _ = dependencies([Outline(task.title, task.depends_on, "") for task in request.tasks])
    indexes = order([task.order_index for task in request.tasks])
    ids = [derive_id("task", orchestration_id, index) for index in range(len(request.tasks))]
    tasks = tuple(
        TaskSpec(
            task_id=ids[index],
            title=task.title,
            description=task.description,
            priority=task.priority,
            complexity=task.complexity,
            max_retries=task.max_retries,
            model=models.of_task(task),
            depends_on=tuple(ids[target] for target in links[index]),
            order_index=indexes[index],
            timeout_minutes=task.timeout_minutes,
            metadata=task.metadata,
        )
        for index, task in enumerate(request.tasks)
    )
    return CreateOrchestration(
        orchestration_id=orchestration_id,
        team=team,
        created_by=created_by,
        spec=_spec(request, models.of_orchestration()),
        tasks=tasks,
        warnings=models.warnings,
        activate=request.activate,
    )


def _spec(request: CreateRequest, model: str | None) -> OrchestrationSpec:
    schedule = request.schedule
    return OrchestrationSpec(
        repository=request.repository,
        ref=request.ref,
        name=request.name or None,
        description=request.description or None,
        tags=tuple(request.tags),
        metadata=request.metadata,
        model=model,
        strict_model=request.strict_model,
        priority=request.priority,
        auto_create_pr=request.auto_create_pr,
        webhook_url=request.webhook_url,
        execution_mode=request.execution_mode,
        max_parallel=request.max_parallel,
        failure_policy=request.failure_policy,
        base=request.base,
        deliverable=request.deliverable,
        max_cost=request.max_cost,
        start_at=request.start_at,
        schedule=Schedule(cron=schedule.cron, timezone=schedule.timezone) if schedule else None,
    )


class _Models:
    """Chooses a model for each task and for the whole, and collects what there is to say about it."""

    def __init__(self, request: CreateRequest, known: Collection[str]) -> None:
        self._request = request
        self._known = known
        self._warnings: dict[str, None] = {}
        self._unmet = False

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    def of_task(self, task: TaskRequest) -> str | None:
        """None where the orchestration's own holds, or the provider is to choose."""
        inherited = self._request.model if self._request.model == BY_COMPLEXITY else None
        asked = task.model or inherited
        resolution = resolve(asked, task.complexity, self._known, strict=self._request.strict_model)
        self._warn(resolution.warning)
        if asked == BY_COMPLEXITY and resolution.model is None:
            self._unmet = True
            self._warn("the provider does not offer the models of by-complexity; it chooses one itself")
        return resolution.model

    def of_orchestration(self) -> str | None:
        """Asked after all tasks. A task without a model takes this one, so it must be a model's name.

        `by-complexity` stays only where each task got a model by it.
        """
        if self._request.model == BY_COMPLEXITY:
            return None if self._unmet else BY_COMPLEXITY
        resolution = resolve(self._request.model, "moderate", self._known, strict=self._request.strict_model)
        self._warn(resolution.warning)
        return resolution.model

    def _warn(self, warning: str | None) -> None:
        if warning is not None:
            self._warnings[warning] = None

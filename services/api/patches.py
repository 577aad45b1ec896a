"""Changes to what there is, and tasks that come later: from a request to what a command takes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, create_model

from services.api.links import existing
from services.api.problems import InvalidRequestError, Problem
from services.api.schemas import CreateRequest, Strict, TaskRequest, check_part
from shared.domain.events import Complexity, PauseMode, TaskSpec
from shared.domain.models import BY_COMPLEXITY, UnknownModelError, resolve
from shared.views import View

_NOT_OFFERED: Final = "the provider does not offer the models of by-complexity; name one"
_NOT_LATER: Final = "by-complexity can be chosen for all tasks only when they are created; give each task a model"

_ELSEWHERE: Final = {
    "tasks": "are changed one by one, at /api/tasks/{id}, and added at /api/orchestrations/{id}/tasks",
    "activate": "is a command of its own, POST /api/orchestrations/{id}/activate",
    **dict.fromkeys(("checkRepository", "check_repository"), "is for the request that creates"),
}


def _changes_of(base: type[BaseModel], *, without: Collection[str] = (), cleared_by_null: Collection[str]) -> Any:
    """The fields of a request that creates, by the same rules, each of which may be absent."""
    fields: dict[str, Any] = {}
    for name, rule in base.model_fields.items():
        if name not in without:
            kind: Any = Annotated[(rule.annotation, *rule.metadata)] if rule.metadata else rule.annotation
            # Made by a function, the default stays out of the document: what is absent is not set to anything.
            absent = Field(default_factory=lambda: None, description=rule.description)
            fields[name] = (kind | None if name in cleared_by_null else kind, absent)
    return fields


OrchestrationPatch: Final = create_model(
    "OrchestrationPatch",
    __base__=Strict,
    __doc__="What is to be different. What is absent stays as it is; null clears what may be empty.",
    **_changes_of(
        CreateRequest,
        without=("tasks", "activate", "check_repository"),
        cleared_by_null=(
            *("name", "description", "tags", "metadata", "model", "webhook_url", "max_parallel", "max_cost"),
            *("start_at", "schedule"),
        ),
    ),
)

TaskPatch: Final = create_model(
    "TaskPatch",
    __base__=Strict,
    __doc__="What is to be different in a task. What is absent stays as it is; null clears what may be empty.",
    **{
        **_changes_of(TaskRequest, without=("order_index",), cleared_by_null=("model", "depends_on", "metadata")),
        "order_index": (
            Annotated[(int, *TaskRequest.model_fields["order_index"].metadata)],
            Field(default_factory=lambda: None, description=TaskRequest.model_fields["order_index"].description),
        ),
    },
)


class PauseRequest(Strict):
    """What becomes of the agents that are at work."""

    mode: PauseMode = "stop"
    """`stop`: they are stopped, and go on after a resume where the provider can. `drain`: they may finish."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a command is to change, by the names of the spec and as JSON; None clears a field."""

    values: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to add; `at_end` where it was not asked for at a certain place."""

    spec: TaskSpec
    at_end: bool
    warnings: tuple[str, ...] = ()


def read_mode(body: Any) -> PauseMode:
    """How to pause.

    Raises:
        InvalidRequestError: names everything that is wrong.
    """
    request, problems = check_part(PauseRequest, body, {})
    if request is None:
        raise InvalidRequestError(problems)
    return request.mode


def read_orchestration_patch(
    body: Any, orchestration: View, known_models: Collection[str], *, allow_private_webhooks: bool
) -> Changes:
    """Check a request to change `orchestration`, which is shown as it is now.

    Raises:
        InvalidRequestError: names everything that is wrong.
    """
    standing = {name: orchestration[name] for name in ("execution_mode", "max_parallel")}
    patch, problems = check_part(OrchestrationPatch, body, standing, allow_private_webhooks=allow_private_webhooks)
    models = _Models(known_models, strict=_is_strict(body, orchestration))
    model = models.of_orchestration(body, orchestration)
    problems = [replace(found, message=_ELSEWHERE.get(found.field, found.message)) for found in problems]
    problems += models.problems
    if patch is None or problems:
        raise InvalidRequestError(problems)
    given = _given(patch)
    # An empty text says that there is none, as it does when it is created.
    given.update({name: given[name] or None for name in ("name", "description") if name in given})
    return Changes({**given, **({"model": model} if "model" in given else {})}, models.warnings)


def read_task_patch(
    body: Any, task: View, orchestration: View, tasks: Sequence[View], known_models: Collection[str]
) -> Changes:
    """Check a request to change `task`, one of the `tasks` of `orchestration`, all of which are shown as they are now.

    Raises:
        InvalidRequestError: names everything that is wrong.
    """
    patch, problems = check_part(TaskPatch, body, {})
    links, link_problems = _links(body, tasks, task["id"])
    models = _Models(known_models, strict=orchestration["strict_model"])
    model = models.of_changed_task(body, task, orchestration)
    problems += [*link_problems, *models.problems]
    if patch is None or problems:
        raise InvalidRequestError(_of_task(problems))
    given = _given(patch)
    if "depends_on" in given:
        given["depends_on"] = list(links)
    return Changes({**given, **model}, models.warnings)


def read_new_task(
    body: Any, orchestration: View, tasks: Sequence[View], known_models: Collection[str], *, task_id: str
) -> NewTask:
    """Check a request to add a task to `orchestration`, which has these `tasks` now.

    Raises:
        InvalidRequestError: names everything that is wrong.
    """
    request, problems = check_part(TaskRequest, body, {})
    links, link_problems = _links(body, tasks, None)
    models = _Models(known_models, strict=orchestration["strict_model"])
    model = models.of_new_task(body, orchestration)
    problems += [*link_problems, *models.problems]
    if request is None or problems:
        raise InvalidRequestError(_of_task(problems))
    spec = TaskSpec(
        task_id=task_id,
        title=request.title,
        description=request.description,
        priority=request.priority,
        complexity=request.complexity,
        max_retries=request.max_retries,
        model=model,
        depends_on=links,
        order_index=request.order_index or 0,
        timeout_minutes=request.timeout_minutes,
        metadata=request.metadata,
    )
    return NewTask(spec, request.order_index is None, models.warnings)


def _given(patch: BaseModel) -> dict[str, Any]:
    """What the request names, as JSON."""
    return patch.model_dump(mode="json", include=set(patch.model_fields_set))


def _fields(body: Any) -> Mapping[str, Any]:
    return body if isinstance(body, dict) else {}


def _is_strict(body: Any, orchestration: View) -> bool:
    fields = _fields(body)
    given = fields.get("strictModel", fields.get("strict_model"))
    return given if isinstance(given, bool) else bool(orchestration["strict_model"])


def _links(body: Any, tasks: Sequence[View], own_id: str | None) -> tuple[tuple[str, ...], list[Problem]]:
    fields = _fields(body)
    name = "depends_on" if "depends_on" in fields else "dependsOn"
    wanted = fields.get(name)
    return existing(tasks, wanted, name, own_id) if isinstance(wanted, list) else ((), [])


def _of_task(problems: Sequence[Problem]) -> list[Problem]:
    """Everything that is wrong with a task has one code, but for the model's and for a field that is missing alone."""
    broad = any(problem.code == "INVALID_REQUEST" for problem in problems)
    codes = ("INVALID_REQUEST", "MISSING_REQUIRED_FIELD") if broad else ("INVALID_REQUEST",)
    return [replace(problem, code="INVALID_TASK") if problem.code in codes else problem for problem in problems]


class _Models:
    """Chooses models as on creation, from bodies that may be wrong in any way, and collects what there is to say."""

    def __init__(self, known: Collection[str], *, strict: bool) -> None:
        self._known = known
        self._strict = strict
        self.problems: list[Problem] = []
        self.warnings: tuple[str, ...] = ()

    def of_orchestration(self, body: Any, orchestration: View) -> str | None:
        asked = _asked(body)
        if asked == BY_COMPLEXITY:
            # The tasks had their models chosen one by one: those would not change with it.
            if orchestration["model"] != BY_COMPLEXITY:
                self.problems.append(Problem("model", _NOT_LATER, "INVALID_MODEL"))
            return BY_COMPLEXITY
        return self._choose(asked, "moderate")

    def of_new_task(self, body: Any, orchestration: View) -> str | None:
        return self._choose(_asked(body) or _inherited(orchestration), _complexity(body) or "moderate")

    def of_changed_task(self, body: Any, task: View, orchestration: View) -> dict[str, str | None]:
        """The change to the task's model, empty where it stays.

        A model that was chosen by complexity follows the complexity.
        """
        complexity = _complexity(body)
        if "model" in _fields(body):
            asked = _asked(body) or _inherited(orchestration)
            return {"model": self._choose(asked, complexity or task["complexity"])}
        inherited = _inherited(orchestration)
        if complexity is None or inherited is None:
            return {}
        chosen = resolve(inherited, task["complexity"], self._known, strict=False).model
        return {"model": self._choose(inherited, complexity)} if chosen == task["model"] else {}

    def _choose(self, asked: str | None, complexity: Complexity) -> str | None:
        try:
            resolution = resolve(asked, complexity, self._known, strict=self._strict)
        except UnknownModelError as exc:
            self.problems.append(Problem("model", str(exc), "INVALID_MODEL"))
            return None
        if asked == BY_COMPLEXITY and resolution.model is None:
            self.problems.append(Problem("model", _NOT_OFFERED, "INVALID_MODEL"))
        if resolution.warning is not None:
            self.warnings += (resolution.warning,)
        return resolution.model


def _asked(body: Any) -> str | None:
    model = _fields(body).get("model")
    return (model.strip() or None) if isinstance(model, str) else None


def _inherited(orchestration: View) -> str | None:
    """What stands for a task without a model of its own, where that is not a model's name."""
    return BY_COMPLEXITY if orchestration["model"] == BY_COMPLEXITY else None


def _complexity(body: Any) -> Complexity | None:
    complexity = _fields(body).get("complexity")
    return complexity if complexity in ("simple", "moderate", "complex") else None

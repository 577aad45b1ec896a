"""The requests that the API takes, field by field, and every problem that one can have."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from services.api.field_types import (
    CronLine,
    Metadata,
    ModelName,
    Moment,
    Ref,
    Repository,
    Tag,
    TimeZone,
    WebhookUrl,
    text,
)
from services.api.links import dependencies, outline
from services.api.problems import Problem, path, problem, sentence
from shared.domain.events import Complexity, Level

MAX_TASKS: Final = 50
MAX_REPOSITORIES: Final = 100
_DEPTH: Final = 32  # well below what encoding and the database can take
_MOST_VALUES: Final = 20_000  # of all lists and objects together
_NUL: Final = "must not contain NUL characters"
_SERVER_SET: Final = frozenset(
    [
        "id",
        "orchestration_id",
        "task_id",
        "status",
        "team",
        "created_by",
        "created_at",
        "updated_at",
        "activated_at",
        "started_at",
        "completed_at",
        "failed_at",
        "version",
        "sequence",
        "summary",
        "statistics",
        "attempts",
        "cost",
        "duration",
        "outcome",
        "result_summary",
        "result_branch",
        "result_pr_url",
        "cloud_agent_id",
        "cloud_agent_status",
        "cloud_agent_url",
        "error_code",
        "error_message",
        "retry_count",
        "warnings",
        "waiting_for",
        "waiting_until",
    ]
)

DependsOn = Annotated[
    list[Any],  # titles and indexes are told apart, and looked up, in `links`
    Field(max_length=MAX_TASKS),
    WithJsonSchema({"type": "array", "maxItems": MAX_TASKS, "items": {"type": ["string", "integer"]}}),
]


RequestT = TypeVar("RequestT", bound="Strict")


class Strict(BaseModel):
    """Nothing is converted, nothing unknown is taken; each field is known by its camelCase and snake_case name.

    The text below a field is its description in the OpenAPI document.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class TaskRequest(Strict):
    """One task in plain language."""

    title: Annotated[str, text(1, 200)]
    """What it is called, in the agent's prompt, too."""
    description: Annotated[str, text(10, 5000)]
    """What the agent is to do."""
    priority: Level = "medium"
    """Its place in the queue: high before medium before low, and of those the older first; none waits for ever."""
    complexity: Complexity = "moderate"
    """What `by-complexity` chooses the model by."""
    max_retries: int = Field(default=3, ge=0, le=10)
    """Further attempts after failures that may pass."""
    model: ModelName | None = None
    """Instead of the orchestration's."""
    depends_on: DependsOn = []
    """Titles or indexes (from 0) of tasks that must be COMPLETED or SKIPPED before it starts."""
    order_index: int | None = Field(default=None, ge=0, le=1_000_000)
    """Its place among the tasks; if absent, the one in the request."""
    timeout_minutes: int = Field(default=120, ge=1, le=1440)
    """An attempt that takes longer is stopped and has failed, with TIMEOUT."""
    metadata: Metadata = {}
    """Anything of the caller's own; it is kept and shown."""


class ScheduleRequest(Strict):
    """A cron line and the name of its time zone."""

    cron: CronLine
    """Five fields, or six with seconds in front."""
    timezone: TimeZone = "UTC"
    """Such as Europe/Berlin."""


class _InOneRepository(Strict):
    repository: Repository
    """`owner/repo`, or its https address on GitHub."""


class BulkRepository(Strict):
    """One of many repositories, with what differs from the others."""

    repository: Repository
    """`owner/repo`, or its https address on GitHub."""
    ref: Ref | None = None
    """Instead of the `ref` of all."""
    name: Annotated[str, text(0, 200)] | None = None
    """Instead of the `name` of all."""


class _InManyRepositories(Strict):
    # Not validated here but each by itself, so that one that is wrong does not stop the others.
    repositories: Annotated[
        list[SkipValidation[str | BulkRepository]],
        Field(
            min_length=1,
            max_length=MAX_REPOSITORIES,
            examples=[["acme/shop", {"repository": "acme/blog", "ref": "develop"}]],
        ),
    ]
    """The name of each, or an object where something is different in it."""


class Work(Strict):
    """What is to be done, wherever it is."""

    ref: Ref = "main"
    """The branch or tag that tasks start from."""
    tasks: Annotated[list[TaskRequest], Field(min_length=1, max_length=MAX_TASKS)]
    """In their order."""
    name: Annotated[str, text(0, 200)] | None = None
    """For people."""
    description: Annotated[str, text(0, 5000)] | None = None
    """For people. Lists find it, the name and the titles of tasks by their words (`q`)."""
    tags: Annotated[list[Tag], Field(max_length=20)] = []
    """For finding it in lists."""
    metadata: Metadata = {}
    """Anything of the caller's own; it is kept and shown."""
    model: ModelName | None = None
    """Of the agents. If absent, the provider chooses, which is recommended. A name or alias of `/api/models`, or
    `by-complexity`: the strongest for complex tasks, a cheap one for the others. What is not known becomes
    `claude-4-sonnet-thinking`, with a warning."""
    strict_model: bool = False
    """Refuse a model that is not known, and let a task fail whose model the provider refuses when it is launched. If
    false, another one is taken, with a warning."""
    priority: Literal["speed", "balanced", "quality"] = "balanced"
    """`speed` lifts each of its tasks one level in the queue."""
    auto_create_pr: bool = True
    """Agents open pull requests for what they did."""
    webhook_url: WebhookUrl | None = None
    """Told by a signed POST when it has ended or is paused; https."""
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    """One task at a time in their order, or all that can start."""
    max_parallel: int | None = Field(default=None, ge=1, le=50)
    """In parallel mode, how many at once at most."""
    failure_policy: Literal["fail_fast", "continue"] = "fail_fast"
    """`fail_fast`: a task that has failed for good ends it, and whatever else is under way or to come is given up.
    `continue`: what does not depend on that task is done all the same. Where the provider refuses the account (plan,
    limit, key), nothing further is begun under either, and it has failed."""
    base: Literal["ref", "previous"] = "ref"
    """`previous`: a task starts from the branch of the one before it, or of the one that it depends on, and so has the
    work of that one. `ref`: each starts from `ref`."""
    deliverable: Literal["any", "branch", "pr"] = "any"
    """What an agent must leave behind to count as successful; `any`: it may also have changed nothing."""
    max_cost: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Dollars; once they are spent, no further agent is launched. Those at work by then may finish."""
    start_at: Moment | None = None
    """It is activated by itself at this time."""
    schedule: ScheduleRequest | None = None
    """It stays PENDING, and for each time that comes an orchestration like it is created and activated."""
    check_repository: bool = False
    """Ask GitHub first whether repository and ref are there; if the operator has set no token for it, there is only a
    warning that this was not done."""
    activate: bool = False
    """Start at once."""


class CreateRequest(Work, _InOneRepository):
    """What is to be done in which repository."""


class BulkRequest(Work, _InManyRepositories):
    """What is to be done in each of many repositories."""

    def of(self, one: BulkRepository) -> CreateRequest:
        """The request for one of them."""
        work = {name: getattr(self, name) for name in Work.model_fields}
        own = {name: value for name, value in one if value is not None}
        return CreateRequest.model_construct(**(work | own))  # all of it is checked


def check_create(body: Any, *, allow_private_webhooks: bool) -> tuple[CreateRequest | None, list[Problem]]:
    """Read a request to create an orchestration, and everything that is wrong with it.

    Args:
        body: what the JSON holds, of any type.
        allow_private_webhooks: take http and private addresses in `webhookUrl`.

    Returns:
        The request, None when there are problems.
    """
    return _check(CreateRequest, body, allow_private_webhooks)


def check_bulk(body: Any, *, allow_private_webhooks: bool) -> tuple[BulkRequest | None, list[Problem]]:
    """Like `check_create`, for what all repositories share; see `check_repository` for each of them."""
    return _check(BulkRequest, body, allow_private_webhooks, apart="repositories")


def check_repository(value: Any, index: int) -> tuple[BulkRepository | None, list[Problem]]:
    """Read one of the `repositories`, at `index`: the name of one, or an object."""
    place = ("repositories", index)
    if not isinstance(value, str | dict):
        return None, [problem(path(place), "must be a string or a JSON object")]
    problems = list(_content_problems(value, place))
    if problems:
        return None, problems
    try:
        return BulkRepository.model_validate({"repository": value} if isinstance(value, str) else value), []
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False)
        within = len(place) if isinstance(value, str) else None
        return None, [_problem(BulkRepository, error, place, within) for error in found]


def check_part(
    model: type[RequestT], body: Any, standing: Mapping[str, Any], *, allow_private_webhooks: bool = False
) -> tuple[RequestT | None, list[Problem]]:
    """Like `check_create`, for changes to what there is: `standing` are its values where rules bind several fields."""
    return _check(model, body, allow_private_webhooks, standing=standing)


def _check(
    model: type[RequestT],
    body: Any,
    allow_private_webhooks: bool,
    apart: str | None = None,
    standing: Mapping[str, Any] | None = None,
) -> tuple[RequestT | None, list[Problem]]:
    """`apart` names a field whose content is looked at elsewhere, `standing` holds where the body says nothing."""
    looked_at = {key: value for key, value in body.items() if key != apart} if isinstance(body, dict) else body
    problems = list(_content_problems(looked_at))
    if problems:
        return None, problems
    request: RequestT | None = None
    try:
        request = model.model_validate(body, context={"allow_private_webhooks": allow_private_webhooks})
    except ValidationError as exc:
        problems += [_problem(model, error) for error in exc.errors(include_url=False, include_input=False)]
    if isinstance(body, dict):
        kept = {name: value for name, value in (standing or {}).items() if to_camel(name) not in body}
        problems += _across_fields({**kept, **body}, {problem.field for problem in problems})
    return (None if problems else request), problems


def _content_problems(body: Any, within: tuple[str | int, ...] = ()) -> Iterator[Problem]:
    """What no field may hold: NUL, which the database does not store, and values without number or depth.

    Looked at first, for what comes after takes a second for a megabyte of tiny values, and all others wait.
    """
    if isinstance(body, str) and "\0" in body:
        yield problem(path(within), _NUL)
    stack: list[tuple[tuple[str | int, ...], Any]] = [(within, body)] if isinstance(body, dict | list) else []
    values = 0
    while stack:
        place, holder = stack.pop()
        values += len(holder)
        if values > _MOST_VALUES:
            yield Problem("body", f"must not hold more than {_MOST_VALUES} values in all", "INVALID_REQUEST")
            return
        if len(place) >= _DEPTH and holder:
            yield problem(path(place[:3]), f"must not be nested deeper than {_DEPTH} levels")
            continue
        if isinstance(holder, dict) and any("\0" in key for key in holder):
            yield problem(path(place), "must not have NUL characters in names")
        for key, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(item, dict | list):
                stack.append(((*place, key), item))
            elif isinstance(item, str) and "\0" in item:
                yield problem(path((*place, key)), _NUL)


def _across_fields(body: dict[str, Any], wrong: set[str]) -> Iterator[Problem]:
    """Rules that bind several fields, as far as those are right by themselves."""
    tasks = body.get("tasks")
    if isinstance(tasks, list) and len(tasks) <= MAX_TASKS:
        yield from dependencies(outline(tasks))[1]
    parallel_name, max_parallel = _given(body, "max_parallel")
    _, mode = _given(body, "execution_mode")
    if max_parallel is not None and mode in (None, "sequential") and parallel_name not in wrong:
        yield problem(parallel_name, "is only for executionMode parallel")
    start_name, start_at = _given(body, "start_at")
    if start_at is not None and body.get("activate") is True and start_name not in wrong:
        yield problem(start_name, "cannot be combined with activate, which starts at once")
    if body.get("schedule") is not None and not any(name.startswith("schedule") for name in wrong):
        if body.get("activate") is True:
            yield problem("schedule", "cannot be combined with activate: the schedule starts it")
        if start_at is not None:
            yield problem(start_name, "cannot be combined with schedule")


def _given(body: dict[str, Any], name: str) -> tuple[str, Any]:
    """The field in the request's own spelling, and its value."""
    spelling = name if name in body else to_camel(name)
    return spelling, body.get(spelling)


def _problem(
    model: type[BaseModel], error: ErrorDetails, place: tuple[str | int, ...] = (), shown: int | None = None
) -> Problem:
    """A problem of `model`, which stands at `place`; of the whole address `shown` parts are told."""
    field = path((*place, *error["loc"])[:shown])
    kind = error["type"]
    if kind == "missing":
        return Problem(field, "is required", "MISSING_REQUIRED_FIELD")
    if kind == "extra_forbidden":
        return problem(field, _why_unknown(model, error["loc"]))
    if kind == "model_type":
        return problem(field, "must be a JSON object")
    return problem(field, sentence(error["msg"]))


def _why_unknown(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    name = str(place[-1])
    if len(place) == 3 and place[0] == "tasks":
        model = TaskRequest
    if name in model.model_fields:
        return f"is given twice, also as {to_camel(name)}"
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    if snake in _SERVER_SET:
        return "is set by the server and cannot be given"
    return "is not a known field"

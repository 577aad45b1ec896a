"""The requests that the API takes, field by field, and every problem that one can have."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from zoneinfo import available_timezones

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from services.api import rules
from services.api.cron import cron_line
from services.api.links import dependencies, outline
from services.api.problems import Problem, path, problem
from shared.domain.events import Complexity, Level

MAX_TASKS: Final = 50
_METADATA_BYTES: Final = 16 * 1024
_DEPTH: Final = 32  # well below what encoding and the database can take
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
_NO_SCHEDULE: Final = "recurring schedules are not available yet; use startAt"


def _refuse(error: ValueError) -> PydanticCustomError:
    # The rule's text goes through as it is: braces in it are no placeholders.
    return PydanticCustomError("rule", "{reason}", {"reason": str(error)})


def _repository(value: str) -> str:
    try:
        return rules.repository(value)
    except ValueError as exc:
        raise _refuse(exc) from None


def _ref(value: str) -> str:
    try:
        return rules.git_ref(value)
    except ValueError as exc:
        raise _refuse(exc) from None


def _webhook_url(value: str, info: ValidationInfo) -> str:
    allow_private = bool((info.context or {}).get("allow_private_webhooks"))
    try:
        return rules.webhook_url(value, allow_private=allow_private)
    except ValueError as exc:
        raise _refuse(exc) from None


def _moment(value: object) -> datetime:
    if not isinstance(value, str):
        raise PydanticCustomError("rule", "must be a string with a time in ISO 8601")
    try:
        return rules.moment(value)
    except ValueError as exc:
        raise _refuse(exc) from None


def _cron(value: str) -> str:
    try:
        return cron_line(value)
    except ValueError as exc:
        raise _refuse(exc) from None


def _timezone(value: str) -> str:
    if value not in available_timezones():
        raise PydanticCustomError("rule", "is not the name of a time zone, such as Europe/Berlin")
    return value


def _metadata(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(orjson.dumps(value)) > _METADATA_BYTES:
        raise PydanticCustomError("rule", "must have at most 16 KiB as JSON")
    return value


def _text(shortest: int, longest: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=shortest, max_length=longest)


Repository = Annotated[str, AfterValidator(_repository), Field(examples=["acme/shop", "https://github.com/acme/shop"])]
Ref = Annotated[str, AfterValidator(_ref)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url), WithJsonSchema({"type": "string", "format": "uri"})]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
ModelName = Annotated[str, _text(1, 100)]
Tag = Annotated[str, _text(1, 64)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_metadata)]
DependsOn = Annotated[
    list[Any],  # titles and indexes are told apart, and looked up, in `links`
    Field(max_length=MAX_TASKS),
    WithJsonSchema({"type": "array", "maxItems": MAX_TASKS, "items": {"type": ["string", "integer"]}}),
]


class Strict(BaseModel):
    """Nothing is converted, nothing unknown is taken; each field is known by its camelCase and snake_case name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class TaskRequest(Strict):
    """One task in plain language."""

    title: Annotated[str, _text(1, 200)]
    description: Annotated[str, _text(10, 5000)]
    priority: Level = "medium"
    complexity: Complexity = "moderate"
    max_retries: int = Field(default=3, ge=0, le=10)
    model: ModelName | None = None
    depends_on: DependsOn = []
    order_index: int | None = Field(default=None, ge=0, le=1_000_000)
    timeout_minutes: int = Field(default=120, ge=1, le=1440)
    metadata: Metadata = {}


class ScheduleRequest(Strict):
    """A cron line and the name of its time zone."""

    cron: Annotated[str, AfterValidator(_cron)]
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"


class CreateRequest(Strict):
    """What is to be done in which repository."""

    repository: Repository
    ref: Ref = "main"
    tasks: Annotated[list[TaskRequest], Field(min_length=1, max_length=MAX_TASKS)]
    name: Annotated[str, _text(0, 200)] | None = None
    description: Annotated[str, _text(0, 5000)] | None = None
    tags: Annotated[list[Tag], Field(max_length=20)] = []
    metadata: Metadata = {}
    model: ModelName | None = None
    strict_model: bool = False
    priority: Literal["speed", "balanced", "quality"] = "balanced"
    auto_create_pr: bool = True
    webhook_url: WebhookUrl | None = None
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    max_parallel: int | None = Field(default=None, ge=1, le=50)
    failure_policy: Literal["fail_fast", "continue"] = "fail_fast"
    base: Literal["ref", "previous"] = "ref"
    deliverable: Literal["any", "branch", "pr"] = "any"
    max_cost: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    start_at: Moment | None = None
    schedule: ScheduleRequest | None = None
    activate: bool = False


def check_create(body: Any, *, allow_private_webhooks: bool) -> tuple[CreateRequest | None, list[Problem]]:
    """Read a request to create an orchestration, and everything that is wrong with it.

    Args:
        body: what the JSON holds, of any type.
        allow_private_webhooks: take http and private addresses in `webhookUrl`.

    Returns:
        The request, None when there are problems.
    """
    problems = list(_content_problems(body))
    if problems:
        return None, problems
    request: CreateRequest | None = None
    try:
        request = CreateRequest.model_validate(body, context={"allow_private_webhooks": allow_private_webhooks})
    except ValidationError as exc:
        problems += [_problem(error) for error in exc.errors(include_url=False, include_input=False)]
    if isinstance(body, dict):
        problems += _across_fields(body, {problem.field for problem in problems})
    return (None if problems else request), problems


def _content_problems(body: Any) -> Iterator[Problem]:
    """What no field may hold: NUL, which the database does not store, and nesting without end."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), body)]
    while stack:
        place, value = stack.pop()
        if len(place) > _DEPTH:
            yield problem(path(place[:3]), f"must not be nested deeper than {_DEPTH} levels")
        elif isinstance(value, str) and "\0" in value:
            yield problem(path(place), "must not contain NUL characters")
        elif isinstance(value, dict):
            if any("\0" in key for key in value):
                yield problem(path(place), "must not have NUL characters in names")
            stack += [((*place, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [((*place, index), item) for index, item in enumerate(value)]


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
        yield problem("schedule", _NO_SCHEDULE)


def _given(body: dict[str, Any], name: str) -> tuple[str, Any]:
    """The field in the request's own spelling, and its value."""
    spelling = name if name in body else to_camel(name)
    return spelling, body.get(spelling)


def _problem(error: ErrorDetails) -> Problem:
    field = path(error["loc"])
    kind = error["type"]
    if kind == "missing":
        return Problem(field, "is required", "MISSING_REQUIRED_FIELD")
    if kind == "extra_forbidden":
        return problem(field, _why_unknown(error["loc"]))
    if kind == "model_type":
        return problem(field, "must be a JSON object")
    message = error["msg"]
    return problem(field, message[0].lower() + message[1:])


def _why_unknown(place: tuple[int | str, ...]) -> str:
    name = str(place[-1])
    model: type[BaseModel] = TaskRequest if len(place) == 3 and place[0] == "tasks" else CreateRequest
    if name in model.model_fields:
        return f"is given twice, also as {to_camel(name)}"
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    if snake in _SERVER_SET:
        return "is set by the server and cannot be given"
    return "is not a known field"

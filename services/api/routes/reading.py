"""Reading one orchestration: whole, its tasks, its statistics; as it is now, or as it was."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.api.auth import Principal, Reader
from services.api.errors import not_found
from services.api.parts import Parts, TheParts
from services.api.past import AsOf, At, FutureError
from services.api.problems import InvalidRequestError, problem
from services.api.responses import DetailShape, Json, StatisticsShape, TasksPage
from services.api.routes.answers import OrchestrationId, found, page, refuse_unknown_parameters
from services.api.routes.documented import AUTH_CODES, errors
from shared.views import statistics

router = APIRouter(prefix="/api/orchestrations", tags=["orchestrations"])

AS_OF: Final = "X-As-Of"
_ERRORS: Final = errors("INVALID_REQUEST", *AUTH_CODES, "ORCHESTRATION_NOT_FOUND")
_HEADERS: Final[dict[str, Any]] = {
    AS_OF: {
        "description": "What the answer shows: the sequence of the newest commit in it, and the time as of which "
        "statistics are counted. Sent as `at`, it gets the same bytes again, from the same release.",
        "schema": {"type": "string"},
        "example": "4711,2030-01-31T09:00:00.123456Z",
    }
}
_EXAMPLES: Final[dict[str, Any]] = {
    "sequence": {"summary": "behind a commit of the log", "value": "4711"},
    "time": {"summary": "with everything that was recorded by then", "value": "2030-01-31T09:00:00Z"},
    "answer": {"summary": "as an earlier answer showed it", "value": "4711,2030-01-31T09:00:00.123456Z"},
}

AtParameter = Annotated[
    str | None,
    Query(
        max_length=100,
        description="A moment of the past: a sequence of the log, a time in ISO 8601 with a time zone, or the value "
        f"of the header `{AS_OF}` of an earlier answer. At a sequence, statistics are counted as of the time of its "
        "commit. What is being decided while it is asked for may still be recorded with an earlier time, so a time "
        "gives the same answer for good once it is a minute old.",
        openapi_examples=_EXAMPLES,
    ),
]


@router.get(
    "/{orchestration_id}",
    operation_id="getOrchestration",
    summary="Get an orchestration with its tasks and statistics",
    responses={
        200: {"model": DetailShape, "description": "As it is, or was then.", "headers": _HEADERS},
        **_ERRORS,
    },
)
async def get(
    request: Request,
    principal: Reader,
    orchestration_id: OrchestrationId,
    parts: TheParts,
    at: AtParameter = None,
) -> Response:
    """With `at`, the state as it was at an earlier moment, folded from the log."""
    seen = await _seen(request, principal, parts, orchestration_id, at)
    return _answer(seen, seen.shown.detail(seen.time))


@router.get(
    "/{orchestration_id}/tasks",
    operation_id="listTasks",
    summary="List the tasks of an orchestration in their order",
    responses={200: {"model": TasksPage, "description": "All of them.", "headers": _HEADERS}, **_ERRORS},
)
async def tasks(
    request: Request,
    principal: Reader,
    orchestration_id: OrchestrationId,
    parts: TheParts,
    at: AtParameter = None,
) -> Response:
    """At most 50, so there is one page."""
    seen = await _seen(request, principal, parts, orchestration_id, at)
    return _answer(seen, page(seen.shown.tasks, None))


@router.get(
    "/{orchestration_id}/stats",
    operation_id="getStatistics",
    summary="Get the statistics of an orchestration",
    responses={
        200: {"model": StatisticsShape, "description": "As of now, or of then.", "headers": _HEADERS},
        **_ERRORS,
    },
)
async def stats(
    request: Request,
    principal: Reader,
    orchestration_id: OrchestrationId,
    parts: TheParts,
    at: AtParameter = None,
) -> Response:
    """Durations are in milliseconds, progress in percent of tasks finished, cost in dollars."""
    seen = await _seen(request, principal, parts, orchestration_id, at)
    return _answer(seen, statistics(seen.shown.orchestration, seen.shown.tasks, seen.time))


async def _seen(request: Request, principal: Principal, parts: Parts, orchestration_id: str, at: str | None) -> AsOf:
    refuse_unknown_parameters(request, {"at"})
    if at is None:
        shown = found(await parts.reader.find(principal.team, orchestration_id))
        return AsOf(shown, parts.clock.now())
    moment = _moment(parts, at)
    # One that was deleted is gone, and its past with it. Rows that do not have it yet are not believed.
    now = found(await parts.reader.exists(principal.team, orchestration_id))
    try:
        seen = await parts.past.find(principal.team, orchestration_id, moment, known=now.sequence)
    except FutureError as exc:
        raise InvalidRequestError([problem("at", str(exc))]) from None
    if seen is None:
        raise not_found()
    return seen


def _moment(parts: Parts, at: str) -> At:
    try:
        return parts.past.read(at)
    except ValueError as exc:
        raise InvalidRequestError([problem("at", str(exc))]) from None


def _answer(seen: AsOf, body: Any) -> Json:
    return Json(body, headers={AS_OF: seen.stamp})

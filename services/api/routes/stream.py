"""Live updates of an orchestration as server-sent events."""

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from services.api.auth import Reader
from services.api.errors import not_found, unavailable
from services.api.live import BadResumeError, HubClosedError, Listener, UnknownOrchestrationError
from services.api.parts import Parts, TheParts
from services.api.problems import InvalidRequestError, problem
from services.api.routes.answers import OrchestrationId
from services.api.routes.documented import AUTH_CODES, errors
from services.api.sse import EventStream

router = APIRouter(prefix="/api/orchestrations", tags=["live"])

_LONGEST: Final = 19  # digits that fit into 64 bits
_EXAMPLE: Final = (
    'data: {"type":"status","id":42,"data":{"orchestration":{},"tasks":[],"statistics":{}}}\nid: 42\n\n'
    'data: {"type":"task_updated","id":45,"task":{}}\n\n'
    'id: 45\ndata: {"type":"orchestration_updated","id":45,"data":{"orchestration":{},"statistics":{}}}\n\n'
)


@router.get(
    "/{orchestration_id}/stream",
    operation_id="streamOrchestration",
    summary="Follow an orchestration live",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": "Messages as they come; the last event of a commit carries its sequence as `id`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **errors("INVALID_REQUEST", *AUTH_CODES, "ORCHESTRATION_NOT_FOUND"),
    },
)
async def stream(
    principal: Reader,
    orchestration_id: OrchestrationId,
    parts: TheParts,
    last_event_id: Annotated[str | None, Header(description="go on behind this id, without the first state")] = None,
    after: Annotated[str | None, Query(description="like Last-Event-ID, for clients that cannot set headers")] = None,
) -> Response:
    """First the whole state (`status`), then every change. Resumes from the log: nothing is left out or repeated.

    A stream that is cut off ends with an event `resume`: connect again with the last id.
    """
    place = _sequence("Last-Event-ID", last_event_id) if last_event_id else _sequence("after", after)
    listener = await _join(parts, principal.team, orchestration_id, place)
    return EventStream(
        parts.hub,
        listener,
        heartbeat=parts.settings.heartbeat_seconds,
        idle_after_end=parts.settings.idle_after_end_seconds,
    )


async def _join(parts: Parts, team: str, orchestration_id: str, after: int | None) -> Listener:
    try:
        return await parts.hub.join(team, orchestration_id, after=after)
    except UnknownOrchestrationError:
        raise not_found() from None
    except BadResumeError as exc:
        raise InvalidRequestError([problem("Last-Event-ID", str(exc))]) from None
    except HubClosedError:
        raise unavailable("live updates are not available here at the moment") from None


def _sequence(field: str, text: str | None) -> int | None:
    """The sequence that a client names, None if it names none."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST):
        raise InvalidRequestError([problem(field, "must be the id of an earlier message")])
    return int(text)

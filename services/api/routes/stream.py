"""Live updates of an orchestration as server-sent events."""

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from services.api.auth import Reader
from services.api.parts import TheParts
from services.api.routes.answers import OrchestrationId, refuse_unknown_parameters
from services.api.routes.documented import AUTH_CODES, errors
from services.api.routes.joining import join, pace, permit, sequence
from services.api.sse import EventStream
from services.api.telling import Channel, tell

router = APIRouter(prefix="/api/orchestrations", tags=["live"])

_EXAMPLE: Final = (
    'id: 42\ndata: {"type":"status","id":42,"data":{"orchestration":{},"tasks":[],"statistics":{}}}\n\n'
    'data: {"type":"task_updated","id":45,"task":{},"more":true}\n\n'
    'id: 45\ndata: {"type":"orchestration_updated","id":45,"data":{"orchestration":{},"statistics":{}}}\n\n'
    'data: {"type":"agent_progress","data":{"taskId":"…","attemptId":"…","agentId":"bc-…",'
    '"tool":"run_terminal_cmd make test","text":"I run the tests.","at":"2026-11-26T12:00:00Z"}}\n\n'
)
_DESCRIPTION: Final = """First the whole state (`status`), then every change. Resumes from the log: nothing is left
out or repeated, through restarts of the API and of the broker.

Each message is a JSON object with a `type` and, as its `id`, the sequence of the commit that it tells of:

| `type` | has |
| --- | --- |
| `status` | `data`: `{orchestration, tasks, statistics}` |
| `task_updated` | `task`, for each task that looks different now, or is new |
| `orchestration_updated` | `data`: `{orchestration, statistics}` |
| `orchestration_completed` | `data`: the orchestration with its `statistics`. The stream goes on should that do so |
| `orchestration_deleted` | `data`: `{id, status}`; the stream ends |
| `agent_progress` | `data`: `{taskId, attemptId, agentId, tool?, text?, at}`, without an `id`, see below |
| `resume` | the last one of a stream that was cut off: connect again with `after` |
| `error` | the last one of a stream whose key is no longer valid: `error`, as in an answer |

Several messages may tell of one commit; all but the last of them have `"more": true`. A client resumes behind the last
`id` that came without `more`. In server-sent events that is what `Last-Event-ID` is, and `resume` and `error` are
the names of their events.

`agent_progress` says what an agent is at, about once a second at most: the `tool` that it uses, and its last words. It
tells of no commit, so it has no `id`, moves no place to resume, and is not repeated; a client that is slow misses some
of it before it misses anything else. It comes where the provider tells of agents as they work (its API version 1).

The same messages come over **WebSocket** at `/ws/orchestrations/{orchestration_id}`, one in each text frame, with
`?after=` to resume, and `{"type":"heartbeat"}` when nothing else has come for a while. It is authorized by the same
headers; a browser, which cannot set any, offers the subprotocols `orchestrator.v1` and `bearer.<key>`. What is refused
here with a status is refused there before the upgrade with the same answer. The codes of its end: 1000 the
orchestration has ended or is deleted, 1003 the client sent something, 1012 and 1013 resume, 3000 the key is not valid
any more, 3003 it lacks the permission, 1011 a failure on our side.
"""


@router.get(
    "/{orchestration_id}/stream",
    operation_id="streamOrchestration",
    summary="Follow an orchestration live",
    description=_DESCRIPTION,
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
    request: Request,
    principal: Reader,
    orchestration_id: OrchestrationId,
    parts: TheParts,
    last_event_id: Annotated[str | None, Header(description="go on behind this id, without the first state")] = None,
    after: Annotated[str | None, Query(description="like Last-Event-ID, for clients that cannot set headers")] = None,
) -> Response:
    """See the description above, which is for those who read the API's documentation."""
    refuse_unknown_parameters(request, {"after"})
    place = sequence("Last-Event-ID", last_event_id) if last_event_id else sequence("after", after)
    listener = await join(parts, principal.team, orchestration_id, place)

    async def telling(channel: Channel) -> None:
        await tell(listener, channel, permit(request, principal, parts), pace(parts))

    return EventStream(listener, telling, leave=lambda: parts.hub.leave(listener))

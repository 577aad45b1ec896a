"""Live updates of an orchestration over WebSocket: the messages of the event stream, see `stream`."""

from fastapi import APIRouter, WebSocket

from services.api.auth import WebSocketReader
from services.api.parts import Parts
from services.api.routes.answers import known_form, refuse_unknown_parameters
from services.api.routes.joining import join, pace, permit, sequence
from services.api.telling import Channel, tell
from services.api.websocket import serve

router = APIRouter(tags=["live"])


@router.websocket("/ws/orchestrations/{orchestration_id}")
async def follow(websocket: WebSocket, principal: WebSocketReader, orchestration_id: str) -> None:
    """Whatever is wrong is answered before the connection is accepted, with the status that the stream answers."""
    refuse_unknown_parameters(websocket, {"after"})
    parts: Parts = websocket.app.state.parts
    place = sequence("after", websocket.query_params.get("after"))
    listener = await join(parts, principal.team, known_form(orchestration_id), place)
    try:

        async def telling(channel: Channel) -> None:
            await tell(listener, channel, permit(websocket, principal, parts), pace(parts))

        await serve(websocket, listener, telling)
    finally:
        parts.hub.leave(listener)

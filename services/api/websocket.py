"""WebSocket: how one client is told."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from services.api.changes import AgentProgress, Change
from services.api.listener import Cut, Listener
from services.api.telling import Channel, Ending

_log = logging.getLogger(__name__)

PROTOCOL: Final = "orchestrator.v1"
"""The subprotocol that is chosen where a client offers it, as one must that offers its key in another."""
_HEARTBEAT: Final = '{"type":"heartbeat"}'
_UNASKED: Final = Ending(1003, "nothing is to be sent here")


class ClientGoneError(Exception):
    """The connection is closed, so nothing can be told any more."""


class WebSocketChannel:
    """`Channel` in text frames, one for each message."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def tell(self, news: Change | AgentProgress) -> None:
        for text in news.texts:
            await _sent(self._websocket.send_text(text))

    async def beat(self) -> None:
        await _sent(self._websocket.send_text(_HEARTBEAT))

    async def end(self, ending: Ending) -> None:
        if ending.message is not None:
            await _sent(self._websocket.send_text(orjson.dumps(ending.message).decode()))
        await _sent(self._websocket.close(ending.code, ending.reason))


async def _sent(sending: Awaitable[None]) -> None:
    try:
        await sending
    except (WebSocketDisconnect, OSError, RuntimeError) as exc:
        # The server says RuntimeError when it has closed the connection itself, for a ping without an answer.
        raise ClientGoneError from exc


async def serve(websocket: WebSocket, listener: Listener, telling: Callable[[Channel], Awaitable[None]]) -> None:
    """Accept, and let `telling` write until the stream or the client ends; the listener is cut off when that goes."""
    offered = websocket.scope.get("subprotocols", [])
    try:
        await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    except OSError:
        return  # it went before it was let in
    channel = WebSocketChannel(websocket)
    watching = asyncio.create_task(_watch(websocket, listener), name="websocket-receive")
    try:
        await telling(channel)
        if watching.done() and watching.result():
            await channel.end(_UNASKED)
    except TimeoutError:
        _log.info("A client takes nothing, its stream is closed")
    except ClientGoneError:
        pass  # it closed, or was closed, and knows
    finally:
        watching.cancel()


async def _watch(websocket: WebSocket, listener: Listener) -> bool:
    """Cuts the listener off with the first thing that comes: whether that was a message."""
    message = await websocket.receive()
    listener.cut(Cut.GONE)
    return bool(message["type"] == "websocket.receive")

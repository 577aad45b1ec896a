"""A client of a WebSocket that goes before it is let in."""

from typing import cast

from starlette.types import Message
from starlette.websockets import WebSocket
from uvicorn.protocols.utils import ClientDisconnected

from services.api.listener import Listener
from services.api.telling import Channel
from services.api.websocket import serve


async def test_a_client_that_goes_before_it_is_let_in_is_told_nothing_and_is_no_crash() -> None:
    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(_: Message) -> None:
        raise ClientDisconnected  # as uvicorn does

    async def telling(_: Channel) -> None:
        raise AssertionError("nobody is there to be told")

    websocket = WebSocket({"type": "websocket"}, receive, send)
    await serve(websocket, cast(Listener, None), telling)

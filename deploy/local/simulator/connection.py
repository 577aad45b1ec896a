"""Breaks connections, as networks and load balancers do."""

import asyncio
import os
import socket
import struct
from typing import Any, cast

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_NO_LINGER = struct.pack("ii", 1, 0)


class DroppedError(Exception):
    """The call is to end without an answer."""


class Droppable(Starlette):
    """An application whose handlers can get at the connection that they answer on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The server's own `send`, before anything wraps it, belongs to the connection.
        scope["simulator.transport"] = getattr(getattr(send, "__self__", None), "transport", None)
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            # The server stops and has waited long enough for this call, whose client is to see it break off.
            if scope["simulator.transport"] is None:
                raise
            await drop(Request(scope, receive))


async def drop(request: Request) -> Response:
    """Reset the connection, at once; what is given back reaches nobody.

    Raises:
        httpx.RemoteProtocolError: what a client sees of it, when there is no connection because the application is
            called in the client's own process.
    """
    transport = request.scope["simulator.transport"]
    if transport is None:
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
    if not transport.is_closing():
        _forget_what_is_unsent(cast(Any, transport.get_extra_info("socket")).fileno())
        transport.abort()
    await gone(request)
    return Response()


async def gone(request: Request) -> None:
    """Wait until the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _forget_what_is_unsent(descriptor: int) -> None:
    """Have the close send a reset (RST) instead of an orderly end (FIN)."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)

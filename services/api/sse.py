"""Server-sent events: how one client is told."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.api.changes import AgentProgress, Change
from services.api.listener import Cut, Listener
from services.api.telling import Channel, Ending

_log = logging.getLogger(__name__)

_HEARTBEAT: Final = b": heartbeat\n\n"
_OPENED: Final = b": the stream is open\n\n"


class SseChannel:
    """`Channel` over the body of an answer. Its last event, when it has something to say, names its kind."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def open(self) -> None:
        await self._write(_OPENED)

    async def tell(self, news: Change | AgentProgress) -> None:
        await self._write(news.sse)

    async def beat(self) -> None:
        await self._write(_HEARTBEAT)

    async def end(self, ending: Ending) -> None:
        last = b""
        if ending.message is not None:
            kind = str(ending.message["type"]).encode()
            last = b"event: " + kind + b"\ndata: " + orjson.dumps(ending.message) + b"\n\n"
        await self._write(last, more=False)

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class EventStream(Response):
    """Written by `telling`, which is given the channel; `listener` is cut off when the client goes.

    Args:
        leave: called at the end, however it comes.
    """

    media_type = "text/event-stream"

    def __init__(
        self, listener: Listener, telling: Callable[[Channel], Awaitable[None]], leave: Callable[[], None]
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._listener = listener
        self._telling = telling
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watching = asyncio.create_task(self._watch(receive), name="sse-disconnect")
        try:
            channel = SseChannel(send)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await channel.open()
            await self._telling(channel)
        except TimeoutError:
            _log.info("A client takes nothing, its stream is closed")
        finally:
            watching.cancel()
            self._leave()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._listener.cut(Cut.GONE)

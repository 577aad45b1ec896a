"""Server-sent events: how changes are written, and the response that writes them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from services.api.changes import Change
from services.api.live import Listener, LiveHub

_log = logging.getLogger(__name__)

_SEND_SECONDS: Final = 60.0
"""A client that takes nothing for so long is gone, whatever its connection says."""
_HEARTBEAT: Final = b": heartbeat\n\n"
_OPENED: Final = b": the stream is open\n\n"


def encode(change: Change) -> bytes:
    """One event for each message of a commit.

    The id stands on the last one only: who got half of a commit resumes before it, not behind it.
    """
    events = [b"data: " + message + b"\n\n" for message in change.messages]
    place = b"id: %d\n" % change.sequence
    if not events:
        return place + b"\n"
    return b"".join(events[:-1]) + place + events[-1]


def resume_hint(reason: str, after: int | None) -> bytes:
    """The last event of a stream that was cut off: connect again, and go on behind `after`."""
    return b"event: resume\ndata: " + orjson.dumps({"type": "resume", "reason": reason, "after": after}) + b"\n\n"


async def frames(listener: Listener, *, heartbeat: float, idle_after_end: float) -> AsyncIterator[bytes]:
    """What is written to one client, until it is cut off, or nothing has come for a while after the end.

    Args:
        heartbeat, idle_after_end: in seconds.
    """
    yield _OPENED
    last: Change | None = None
    heard = time.monotonic()
    while True:
        if change := listener.take():
            last, heard = change, time.monotonic()
            yield encode(change)
        elif listener.cut_off is not None:
            yield resume_hint(listener.cut_off, last.sequence if last else None)
            return
        else:
            left = idle_after_end - (time.monotonic() - heard) if listener.ended else heartbeat
            if left <= 0:
                return
            if not await listener.wait(min(left, heartbeat)):
                yield _HEARTBEAT


class EventStream(StreamingResponse):
    """The frames of a listener, who is taken out of the hub at the end, however it comes."""

    media_type = "text/event-stream"

    def __init__(self, hub: LiveHub, listener: Listener, *, heartbeat: float, idle_after_end: float) -> None:
        super().__init__(
            frames(listener, heartbeat=heartbeat, idle_after_end=idle_after_end),
            headers={"X-Accel-Buffering": "no"},
        )
        self._hub = hub
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patiently(message: Message) -> None:
            async with asyncio.timeout(_SEND_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, patiently)
        except* TimeoutError:
            _log.info("A client took nothing for a minute, its stream is closed")
        finally:
            self._hub.leave(self._listener)

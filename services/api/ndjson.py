"""A list of any length as lines of JSON, written as fast as the client takes them and no further."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/x-ndjson"
_SEND_SECONDS: Final = 60.0
"""A client that takes nothing for so long is gone, whatever its connection says."""


class Lines(StreamingResponse):
    """Chunks of whole lines. When the client leaves, or an error comes in the middle, the connection is cut:
    what has not come whole never looks as if it had.
    """

    media_type = MEDIA_TYPE

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        super().__init__(_behind(first, rest), headers={"X-Accel-Buffering": "no", "Vary": "Accept"})
        self._rest = rest

    @classmethod
    async def begun(cls, chunks: AsyncGenerator[bytes, None]) -> "Lines":
        """With the first chunk in hand, for what goes wrong until then can still be answered as an error."""
        return cls(await anext(chunks, b""), chunks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patiently(message: Message) -> None:
            async with asyncio.timeout(_SEND_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, patiently)
        except* TimeoutError:
            _log.info("A client took nothing for a minute, its lines end here")
        finally:
            await self._rest.aclose()


async def _behind(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def wants_lines(accept: str) -> bool:
    """Whether a header `Accept` asks for lines by name; who takes anything gets a page."""
    return any(_names_lines(part) for part in accept.split(","))


def _names_lines(part: str) -> bool:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    refused = any(parameter.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters)
    return media_type == MEDIA_TYPE and not refused

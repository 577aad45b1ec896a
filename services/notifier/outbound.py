"""One POST to a receiver that nobody here knows: guarded, short, and with nothing of ours but what it is given."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import httpcore
import httpx

from services.notifier.guard import Guard
from services.notifier.schedule import LONGEST_RETRY_AFTER
from shared import failpoints
from shared.retry_after import retry_after

CONNECT_SECONDS: Final = 5.0
SEND_SECONDS: Final = 15.0  # receivers are told to answer first and work afterwards
_READ_AT_MOST: Final = 16 * 1024  # bytes, as they come: nothing is decompressed


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    retry_after: timedelta | None = None


class SendTimeoutError(Exception):
    """No answer in time; the receiver may have got it all the same."""


class UnreachableError(Exception):
    """No connection, no TLS, or no HTTP; the message is the kind of error alone."""


class Outbound:
    """Sends. One connection for each POST: no idle one to fail on, no cookie, no proxy, no redirect.

    `connect_seconds` bound the look-up, the connection and TLS each; `total_seconds` everything.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = SEND_SECONDS,
    ) -> None:
        self._guard = guard
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._connect_seconds = connect_seconds
        self._total_seconds = total_seconds

    @failpoints.around("post")
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send `body` with these headers, Host, Content-Length and Connection, and no other.

        Raises:
            BlockedError: the address is not one to send to; nothing was sent.
            SendTimeoutError, UnreachableError: no answer.
        """
        parsed = self._guard.check(url)
        target = httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)
        request = httpcore.Request(
            "POST",
            target,
            headers=[
                ("Host", parsed.netloc.decode()),
                *headers.items(),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ],
            content=body,
            extensions={
                "timeout": {
                    "connect": self._connect_seconds,
                    "read": self._total_seconds,
                    "write": self._total_seconds,
                },
                **failpoints.when_sent("post"),
            },
        )
        connection = httpcore.AsyncHTTPConnection(
            origin=target.origin, ssl_context=self._ssl_context, network_backend=self._guard
        )
        try:
            return await self._exchange(connection, request)
        finally:
            await connection.aclose()

    async def _exchange(self, connection: httpcore.AsyncHTTPConnection, request: httpcore.Request) -> Answer:
        """The status decides, as soon as it is there; what comes behind it is read out of politeness."""
        answer: Answer | None = None
        try:
            async with asyncio.timeout(self._total_seconds):
                response = await connection.handle_async_request(request)
                answer = Answer(response.status, _retry_after(response))
                await _drain(response)
        except (TimeoutError, httpcore.TimeoutException) as exc:
            if answer is None:
                raise SendTimeoutError(type(exc).__name__) from exc
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as exc:
            if answer is None:
                raise UnreachableError(type(exc).__name__) from exc
        assert answer is not None
        return answer


async def _drain(response: httpcore.Response) -> None:
    """A connection that is closed on unread bytes is reset, which receivers log as an error."""
    size = 0
    async for chunk in response.aiter_stream():
        size += len(chunk)
        if size >= _READ_AT_MOST:
            return


def _retry_after(response: httpcore.Response) -> timedelta | None:
    value = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"").decode("latin-1")
    seconds = retry_after(value, datetime.now(UTC), most=LONGEST_RETRY_AFTER.total_seconds())
    return None if seconds is None else timedelta(seconds=seconds)

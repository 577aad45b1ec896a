"""What lies between a call and its bytes: where they go, how many are taken, what it means when they stop."""

import zlib
from collections.abc import AsyncIterator, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx
from httpx_sse import SSEError

from shared.addresses import is_api_address
from shared.cursor.answers import BAD_RESPONSE, bad_response
from shared.cursor.errors import ProviderError

TIMEOUT = "timeout"
NETWORK_ERROR = "network_error"

ANSWER_LIMIT = 5 * 1024 * 1024  # bytes after decompression; of a stream: of one event
ACCEPTED_ENCODING: Final = "gzip"
"""The `Accept-Encoding` of what `read_bounded` reads. httpx itself would unpack whatever comes, to whatever size."""

# The last is what httpx lets through of an address to be redirected to.
TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, UnicodeError)
# No connection, no request: these leave no doubt. Everything else can come after the request was sent.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def lost(exc: Exception, endpoint: str, *, changes: bool) -> ProviderError:
    """The error for an exchange that brought no whole answer.

    The class is named because several of these have no text. Only a failed connection's own text is repeated:
    others quote what was sent, headers included.
    """
    message = f"{type(exc).__name__} in {endpoint}"
    if isinstance(exc, SSEError | httpx.DecodingError | UnicodeError):
        code = BAD_RESPONSE
    elif isinstance(exc, httpx.TimeoutException | TimeoutError):
        code = TIMEOUT
    else:
        code = NETWORK_ERROR
    if isinstance(exc, httpx.ConnectError) and str(exc):
        message = f"{message}: {str(exc)[:200]}"
    known = not changes or isinstance(exc, _NEVER_SENT)
    return ProviderError(code, message, retryable=True, outcome_known=known)


def cause(exc: Exception) -> Exception | None:
    """What may be chained, and so printed with a traceback: not an error that quotes a header."""
    return None if isinstance(exc, httpx.LocalProtocolError) else exc


def too_long(*, changes: bool = False) -> ProviderError:
    error = bad_response(f"the answer is longer than {ANSWER_LIMIT} bytes")
    error.outcome_known = not changes
    return error


def no_cookies() -> CookieJar:
    """A jar that takes none. One that is not ASCII could not be sent back, and no request at all any more."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


async def read_bounded(response: httpx.Response) -> tuple[bytes, bool]:
    """The unpacked body up to the limit, and whether that is all of it. Of an error that cannot be unpacked there is
    none: its status tells enough.

    Raises:
        httpx.DecodingError: it is not packed as it says, or in a way that was not asked for.
    """
    try:
        return await _unpacked(response)
    except httpx.DecodingError:
        if response.is_success:
            raise
        return b"", True


async def _unpacked(response: httpx.Response) -> tuple[bytes, bool]:
    unpack = _unpacker(response)
    parts: list[bytes] = []
    size = taken = 0
    async for part in _raw(response):
        parts.append(unpack(part))
        size += len(parts[-1])
        taken += len(part)  # what is behind the end of what was packed unpacks to nothing
        if max(size, taken) > ANSWER_LIMIT:
            return b"".join(parts)[:ANSWER_LIMIT], False
    return b"".join(parts), True


def _raw(response: httpx.Response) -> httpx.AsyncByteStream:
    assert isinstance(response.stream, httpx.AsyncByteStream)  # as it is for every asynchronous client
    return response.stream


def _encoding(response: httpx.Response) -> str:
    return response.headers.get("content-encoding", "").strip().lower() or "identity"


def _unpacker(response: httpx.Response) -> Callable[[bytes], bytes]:
    """What unpacks the parts of the body one by one, none to much more than the limit."""
    encoding = _encoding(response)
    if encoding == "identity":
        return bytes
    if encoding != ACCEPTED_ENCODING:
        raise httpx.DecodingError(f"nobody asked for {encoding[:40]}")
    inflating = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def unpack(part: bytes) -> bytes:
        try:
            return inflating.decompress(part, ANSWER_LIMIT + 1)
        except zlib.error as exc:
            raise httpx.DecodingError(str(exc)) from exc

    return unpack


class BoundedStream(httpx.AsyncByteStream):
    """A stream whose reader never holds more than one event of the permitted size; `unread` is in bytes.

    Raises:
        ProviderError: it is packed, so that its bytes do not tell how long an event is.
    """

    def __init__(self, response: httpx.Response) -> None:
        if (encoding := _encoding(response)) != "identity":
            raise bad_response(f"the stream is packed, nobody asked for {encoding[:40]}")
        self._stream = _raw(response)
        self.unread = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self.unread += len(part)
            if self.unread > ANSWER_LIMIT:
                raise too_long()
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def checked_address(base_url: str, whose: str = "the provider's") -> str:
    if not is_api_address(base_url):
        raise ValueError(f"{whose} address must be http(s)://host[:port], without credentials")
    return base_url.rstrip("/")

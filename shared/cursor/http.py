"""One HTTP client for the provider: authentication, time limits, one type of error, reads tried again."""

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

import httpx
from httpx_sse import EventSource, ServerSentEvent

from shared import failpoints
from shared.addresses import is_loopback, is_token
from shared.cursor.answers import JsonObject, parse_object
from shared.cursor.breaker import Breaker, is_outage
from shared.cursor.errors import ProviderError
from shared.cursor.refusals import STREAM_EXPIRED, UNKNOWN, refusal
from shared.cursor.transport import (
    ACCEPTED_ENCODING,
    TRANSPORT_ERRORS,
    BoundedStream,
    cause,
    checked_address,
    lost,
    no_cookies,
    read_bounded,
    too_long,
)

Endpoint = Literal[
    "create_agent",
    "get_agent",
    "list_agents",
    "stop_agent",
    "archive_agent",
    "unarchive_agent",
    "follow_up",
    "delete_agent",
    "usage",
    "models",
    "repositories",
    "artifacts",
    "me",
    "conversation",
    "stream",
]
Limit = Literal["create", "get", "list", "repositories"]
Observe = Callable[[str, int | str, float], None]

_CONNECT = 5.0
_READ = 30.0
_TOTAL = 45.0  # seconds for one read or stop, all its tries together
# A v1 create answers when the machine has booted, after 10 to 60 s: giving up earlier makes orphans.
_CREATE_READ = 120.0
_CREATE_TOTAL = 150.0
_LONG_READ = 75.0  # the list of repositories takes tens of seconds where there are many
_STREAM_READ = 75.0  # seconds of silence; the provider sends a heartbeat after 30 s, then every 15 s
_TRIES = 3
_BACK_OFF = 0.5  # seconds: the upper bound of the first wait, doubled for each further one
_LONGEST_WAIT = 5.0  # seconds: what asks for a longer wait is for the caller to wait for
_THROTTLED_UNTOLD = 5.0  # seconds to hold back after a 429 that does not say how long


class RateLimiter(Protocol):
    """Permission to call, shared by all processes with one key. `endpoint` is one of `Limit`."""

    async def acquire(self, endpoint: str) -> None:
        """Wait for the permission; raises `ProviderError` `rate_limit_exceeded` with `retry_after` where that
        would take too long, and never another error."""

    async def throttled(self, endpoint: str, retry_after: float) -> None:
        """The provider said that it was too much: hold back for `retry_after` seconds. Raises nothing. `endpoint` is
        "stream" where it was one too many of those; opening one is a "get" all the same."""


@dataclass(frozen=True, slots=True)
class _Call:
    method: Literal["GET", "POST", "DELETE"]
    path: str
    endpoint: Endpoint
    limit: Limit = "get"
    missing: str = UNKNOWN
    params: Mapping[str, str | int] | None = None
    content: bytes | None = None
    read_timeout: float = _READ
    secrets: tuple[str, ...] = ()

    @property
    def gone(self) -> str:
        """The code of a 410 that names none: streams end before their agents do."""
        return STREAM_EXPIRED if self.endpoint == "stream" else self.missing

    @property
    def changes(self) -> bool:
        """Whether it may have had an effect although no answer says so."""
        return self.method != "GET"

    @property
    def held_back_by_429(self) -> Limit | Literal["stream"]:
        """Too many streams are no reason to hold back the reads by which every agent is followed, and the stops."""
        return "stream" if self.endpoint == "stream" else self.limit

    @property
    def timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self.read_timeout, connect=_CONNECT, pool=_CONNECT)


class CursorHttp:
    """Calls below one base URL with one key. What goes wrong outside is a `ProviderError`, whatever it is.

    Args:
        base_url: `https://api.cursor.com` or whatever stands for it, without the version.
        api_key: sent as the user of Basic authentication; appears in no error.
        observe: told of every HTTP exchange: endpoint, status or error code, seconds (to a stream's start).
        limiter: asked before every exchange, and told of every 429.
        breaker: lets exchanges through, or not; its own if there is none given.
        transport, rng, sleep: for tests.

    Raises:
        ValueError: the key or the address cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        observe: Observe | None = None,
        limiter: RateLimiter | None = None,
        breaker: Breaker | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not is_token(api_key):
            raise ValueError("the provider's API key is empty or holds a space, a colon or a non-ASCII character")
        self._observe = observe or (lambda endpoint, status, seconds: None)
        self._limiter = limiter
        self._breaker = breaker or Breaker()
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._secrets = (api_key, base64.b64encode(f"{api_key}:".encode()).decode())
        self._client = httpx.AsyncClient(
            base_url=checked_address(base_url),
            auth=httpx.BasicAuth(api_key, ""),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": ACCEPTED_ENCODING,
                "User-Agent": "cursor-orchestrator",
            },
            cookies=no_cookies(),
            # Streams and creates hold a connection for long; they must not starve the reads.
            limits=httpx.Limits(max_connections=1000, max_keepalive_connections=20),
            transport=transport,
            trust_env=not is_loopback(base_url),
        )

    @property
    def origin(self) -> str:
        """Where the calls go, as the operator named it."""
        return str(self._client.base_url.copy_with(raw_path=b"/")).rstrip("/")

    async def aclose(self) -> None:
        await self._client.aclose()

    async def get(
        self,
        path: str,
        *,
        endpoint: Endpoint,
        limit: Limit = "get",
        missing: str = UNKNOWN,
        params: Mapping[str, str | int] | None = None,
    ) -> JsonObject:
        """Read an object. 5xx and transport errors are tried again, three tries and 45 s in all."""
        call = _Call("GET", path, endpoint, limit, missing, params)
        deadline = time.monotonic() + _TOTAL
        for tried in range(_TRIES):
            await self._permission(call)
            try:
                return parse_object(await self._exchange(call, deadline))
            except ProviderError as error:
                wait = self._wait_before_next(error, tried)
                if wait is None or time.monotonic() + wait >= deadline:
                    raise
            await self._sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def get_once(self, path: str, *, endpoint: Endpoint, limit: Limit) -> JsonObject:
        """Read an object that may seldom be asked for and takes its time: one try."""
        call = _Call("GET", path, endpoint, limit, read_timeout=_LONG_READ)
        await self._permission(call)
        return parse_object(await self._exchange(call, time.monotonic() + _LONG_READ))

    async def create(self, path: str, body: JsonObject, *, secrets: Iterable[str] = ()) -> bytes:
        """Send a create, once. `secrets` are what the body holds that no error may repeat."""
        call = _Call(
            "POST",
            path,
            "create_agent",
            "create",
            content=json.dumps(body).encode(),
            read_timeout=_CREATE_READ,
            secrets=tuple(secrets),
        )
        await self._permission(call)
        return await self._exchange(call, time.monotonic() + _CREATE_TOTAL)

    async def follow_up(self, path: str, body: JsonObject, *, missing: str) -> bytes:
        """Send a further prompt, once. It sets a machine to work like a create, and shares its limits."""
        call = _Call(
            "POST",
            path,
            "follow_up",
            "create",
            missing=missing,
            content=json.dumps(body).encode(),
            read_timeout=_CREATE_READ,
        )
        await self._permission(call)
        return await self._exchange(call, time.monotonic() + _CREATE_TOTAL)

    async def delete(self, path: str, *, missing: str) -> None:
        """Send a delete, once; what it answers is of no interest."""
        call = _Call("DELETE", path, "delete_agent", missing=missing)
        await self._permission(call)
        await self._exchange(call, time.monotonic() + _TOTAL)

    async def tell(self, path: str, *, endpoint: Endpoint, missing: str) -> None:
        """Send what needs no further words, once; what it answers is of no interest."""
        call = _Call("POST", path, endpoint, missing=missing)
        await self._permission(call)
        await self._exchange(call, time.monotonic() + _TOTAL)

    async def events(self, path: str, *, after: str | None, missing: str) -> AsyncGenerator[ServerSentEvent, None]:
        """The server-sent events at `path`, from the one after `after`, until they end; one try."""
        call = _Call(
            "GET",
            path,
            "stream",
            missing=missing,
            read_timeout=_STREAM_READ,
        )
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        if after is not None:
            headers["Last-Event-ID"] = after
        await self._permission(call)
        with self._breaker.call() as let_through:
            opening = _Clock()
            failpoints.reached("stream.before")
            try:
                async with self._client.stream("GET", path, headers=headers, timeout=call.timeout) as response:
                    if not response.is_success:
                        raw, _ = await asyncio.wait_for(read_bounded(response), _TOTAL)
                        self._observe(call.endpoint, response.status_code, opening.seconds)
                        raise await self._refused(call, response, raw)
                    self._observe(call.endpoint, response.status_code, opening.stop())
                    self._breaker.answered(let_through)  # that it breaks off later says nothing of the provider
                    failpoints.reached("stream.open")
                    source = BoundedStream(response)
                    response.stream = source
                    async with aclosing(EventSource(response).aiter_sse()) as events:
                        async for event in events:
                            source.unread = 0
                            failpoints.reached("stream.event")
                            yield event
                    failpoints.reached("stream.after")
            except TRANSPORT_ERRORS as exc:
                error = lost(exc, call.endpoint, changes=call.changes)
                if not opening.stopped:
                    self._observe(call.endpoint, error.code, opening.seconds)
                raise error from cause(exc)

    async def _permission(self, call: _Call) -> None:
        self._breaker.check()  # what would not leave takes no share of the limit
        if self._limiter is not None:
            await self._limiter.acquire(call.limit)

    async def _exchange(self, call: _Call, deadline: float) -> bytes:
        """One request and the whole of its answer; anything but a 2xx within `deadline` raises."""
        with self._breaker.call():
            return await self._send(call, deadline)

    @failpoints.around(lambda _, call, __: call.endpoint)
    async def _send(self, call: _Call, deadline: float) -> bytes:
        clock = _Clock()
        try:
            async with (
                asyncio.timeout(deadline - clock.started),
                self._client.stream(
                    call.method,
                    call.path,
                    params=call.params,
                    content=call.content,
                    headers={"Content-Type": "application/json"} if call.content else None,
                    timeout=call.timeout,
                    extensions=failpoints.when_sent(call.endpoint),
                ) as response,
            ):
                raw, whole = await read_bounded(response)
        except TRANSPORT_ERRORS as exc:
            error = lost(exc, call.endpoint, changes=call.changes)
            self._observe(call.endpoint, error.code, clock.seconds)
            raise error from cause(exc)
        self._observe(call.endpoint, response.status_code, clock.seconds)
        if not response.is_success:
            raise await self._refused(call, response, raw)
        if not whole:
            raise too_long(changes=call.changes)
        return raw

    async def _refused(self, call: _Call, response: httpx.Response, raw: bytes) -> ProviderError:
        for secret in (*self._secrets, *call.secrets):
            raw = raw.replace(secret.encode(), b"***")
        error = refusal(
            response.status_code,
            raw,
            response.headers,
            missing=call.missing,
            gone=call.gone,
            changes=call.changes,
            now=datetime.now(UTC),
        )
        if error.status == 429 and not error.billing and self._limiter is not None:
            untold = error.retry_after is None
            pause = _THROTTLED_UNTOLD if untold else error.retry_after or 0.0
            await self._limiter.throttled(call.held_back_by_429, pause)
        return error

    def _wait_before_next(self, error: ProviderError, tried: int) -> float | None:
        """Seconds until a read is tried again, with full jitter; None if it is not."""
        if not is_outage(error) or tried + 1 >= _TRIES:
            return None
        wait = max(self._rng.uniform(0.0, _BACK_OFF * 2**tried), error.retry_after or 0.0)
        return wait if wait <= _LONGEST_WAIT else None


class _Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.stopped = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def stop(self) -> float:
        self.stopped = True
        return self.seconds

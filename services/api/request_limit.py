"""How many requests a key may make in a minute, over all replicas of the api.

A window begins with a key's first request and lasts a minute. Replicas take shares of it from one row in the database
and count their requests against those, so that most requests write nothing. All shares together are never more than
the limit; what a replica does not use of its last share is lost to the others until the window ends, which is why
shares become smaller towards the end.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import psycopg
from psycopg import AsyncConnection
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import ApiError
from shared.postgres.pool import Pool

_log = logging.getLogger(__name__)

WINDOW_SECONDS: Final = 60.0
_SHARES: Final = 20
"""A window is handed out in about as many shares: less than a write for every twenty requests at 600 a minute."""
_MOST_KEYS: Final = 10_000
_PATIENCE_SECONDS: Final = 0.5
"""A request waits no longer than this for its share; then the window is counted in this process alone."""

# One statement, so that replicas which ask at once take turns on the row.
_TAKE: Final = """
INSERT INTO request_windows AS current (key_id, ends_at, granted, latest)
VALUES (%(key)s, now() + make_interval(secs => %(window)s), least(%(share)s, %(limit)s), least(%(share)s, %(limit)s))
ON CONFLICT (key_id) DO UPDATE SET (ends_at, granted, latest) = (
    SELECT CASE WHEN over THEN excluded.ends_at ELSE current.ends_at END,
           CASE WHEN over THEN excluded.granted ELSE current.granted + share END,
           CASE WHEN over THEN excluded.granted ELSE share END
    FROM (SELECT current.ends_at <= now() AS over,
                 least(%(share)s, ceil(greatest(%(limit)s - current.granted, 0) / 4.0))::integer AS share) AS next)
RETURNING latest, granted, extract(epoch FROM ends_at - now())::float8"""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a window. `granted`: to all replicas so far; `seconds`: until the window ends."""

    requests: int
    granted: int
    seconds: float


class Shares(Protocol):
    async def take(self, key_id: str, limit: int, share: int) -> Share:
        """At most `share` requests of the key's window; none when it is used up.

        Raises:
            psycopg.Error: the database is away.
        """


class PostgresShares:
    """`Shares` in the rows of the database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(self, key_id: str, limit: int, share: int) -> Share:
        values = {"key": key_id, "limit": limit, "share": share, "window": WINDOW_SECONDS}

        async with self._pool.connection() as connection:
            return Share(*await _only_row(connection, values))


async def _only_row(connection: AsyncConnection[Any], values: dict[str, Any]) -> tuple[int, int, float]:
    row = await (await connection.execute(_TAKE, values)).fetchone()
    assert row is not None, "an upsert always gives its row"
    requests, granted, seconds = row
    return requests, granted, seconds


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key stands in its window. `seconds`: until the window ends."""

    limit: int
    remaining: int
    seconds: int

    def headers(self) -> dict[str, str]:
        """The three fields that clients know, and the two of the newer draft of the same standard."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.seconds),
            "RateLimit-Policy": f'"default";q={self.limit};w={WINDOW_SECONDS:.0f}',
            "RateLimit": f'"default";r={self.remaining};t={self.seconds}',
        }


class QuotaExceededError(Exception):
    """The key has used up its window."""

    def __init__(self, standing: Standing) -> None:
        super().__init__("the window is used up")
        self.standing = standing


def too_many_requests(standing: Standing) -> ApiError:
    """The answer to one request too many."""
    return ApiError(
        "RATE_LIMIT_EXCEEDED",
        f"the key has made its {standing.limit} requests of this minute; wait {standing.seconds} s",
        metadata={"limit": standing.limit, "retryAfter": standing.seconds},
        headers={"Retry-After": str(standing.seconds)},
    )


@dataclass(slots=True)
class _Window:
    """What this process holds of a key's window. `left`: of its share; `others`: not handed out at the last look."""

    ends: float
    left: int = 0
    others: int = 0
    used: int = 0
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


class RequestQuota:
    """Counts requests.

    Args:
        per_minute: 0 is no limit.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, shares: Shares, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._shares = shares
        self._limit = per_minute
        self._share = max(1, per_minute // _SHARES)
        self._now = now
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    async def take(self, key_id: str) -> Standing | None:
        """Count one request; None where there is no limit.

        Raises:
            QuotaExceededError: it must not be served.
        """
        if not self._limit:
            return None
        window = self._window(key_id)
        if window.left == 0:
            async with window.taking:
                if self._is_over(window) or (window.left == 0 and window.others > 0):
                    await self._take_share(key_id, window)
        if window.left == 0:
            raise QuotaExceededError(self._standing(window))
        window.left -= 1
        window.used += 1
        return self._standing(window)

    def _window(self, key_id: str) -> _Window:
        window = self._windows.setdefault(key_id, _Window(ends=-math.inf))
        self._windows.move_to_end(key_id)
        if len(self._windows) > _MOST_KEYS:
            self._windows.popitem(last=False)
        if self._is_over(window):
            window.left = window.others = window.used = 0
        return window

    def _is_over(self, window: _Window) -> bool:
        return self._now() >= window.ends

    async def _take_share(self, key_id: str, window: _Window) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                share = await self._shares.take(key_id, self._limit, self._share)
        except (psycopg.Error, TimeoutError) as exc:
            self._count_alone(window, exc)
            return
        window.ends = self._now() + share.seconds
        window.left += share.requests
        window.others = max(0, self._limit - share.granted)

    def _count_alone(self, window: _Window, exc: Exception) -> None:
        """Until the window ends: other replicas are not seen, but nobody gets more than the limit from this one."""
        _log.warning("Requests are counted in this process alone: %s", type(exc).__name__)
        if self._is_over(window):
            window.ends = self._now() + WINDOW_SECONDS
        window.left, window.others = max(0, self._limit - window.used), 0

    def _standing(self, window: _Window) -> Standing:
        seconds = max(1, math.ceil(window.ends - self._now()))
        return Standing(self._limit, window.left + window.others, seconds)


class RateLimitHeaders:
    """Shows on every answer to a key how it stands, crashes included: goes outside of what answers those."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def shown(message: Message) -> None:
            standing: Standing | None = state.get("standing")
            if message["type"] == "http.response.start" and standing is not None:
                MutableHeaders(scope=message).update(standing.headers())
            await send(message)

        await self._app(scope, receive, shown)

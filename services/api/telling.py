"""Telling one client what its listener gets: the same for SSE and WebSocket, which differ in how they write."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

from services.api.changes import AgentProgress, Change
from services.api.errors import ApiError, translate
from services.api.listener import Cut, Listener

_CHECK_SECONDS: Final = 2.0
_CHECK_AGAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. A client that takes nothing for `send` is dropped.

    The key is looked at every `check`; if that tells nothing for `unchecked`, the stream ends. What a look shows may
    be 20 seconds old, and a revoked key must be out within 30.
    """

    heartbeat: float
    idle_after_end: float
    check: float = 8.0
    unchecked: float = 8.5
    send: float = 30.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends: `code` and `reason` close a WebSocket; `message`, if any, is the last one of the stream."""

    code: int
    reason: str
    message: dict[str, Any] | None = None


ENDED: Final = Ending(1000, "the orchestration has ended")
DELETED: Final = Ending(1000, "the orchestration is deleted")
# The codes 3000 and 3003 are registered for what 401 and 403 are in HTTP.
_REFUSED: Final = {401: 3000, 403: 3003}
_CUT: Final = {
    Cut.SLOW: (1013, "too slow, resume"),
    Cut.STOPPING: (1012, "restarting, resume"),
    Cut.BROKEN: (1013, "interrupted, resume"),
}


class Channel(Protocol):
    """How one client is written to. Any call may wait for as long as the client takes nothing."""

    async def tell(self, news: Change | AgentProgress) -> None: ...

    async def beat(self) -> None: ...

    async def end(self, ending: Ending) -> None: ...


class SendLimit:
    """Ends what is inside, by TimeoutError, when one write takes longer than `seconds`.

    It looks at the write under way now and then: a timer for each of very many writes would cost more than they do.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    async def write(self, writing: Awaitable[None]) -> None:
        self._since = self._loop.time()
        await writing
        self._since = None

    def _look(self) -> None:
        now = self._loop.time()
        ends = now + self._seconds if self._since is None else self._since + self._seconds
        if ends <= now:
            self._scope.reschedule(now)
        else:
            self._timer = self._loop.call_at(ends, self._look)


class Permit:
    """Whether a key still opens what it opened, looked at now and then.

    Args:
        check: raises ApiError with the status 401 or 403 when it does not; whatever else it raises tells nothing.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self, check: Callable[[], Awaitable[None]], pace: Pace, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._check = check
        self._pace = pace
        self._now = now
        self._certain = now()
        self._next = self._certain + pace.check

    async def refusal(self) -> ApiError | None:
        """Why the stream must end: the key was refused, or (503) nobody can tell for too long."""
        now = self._now()
        if now < self._next:
            return None
        error = await self._ask()
        if error is None:
            self._certain, self._next = now, now + self._pace.check
        elif error.status in _REFUSED or now - self._certain > self._pace.unchecked:
            return error
        else:
            self._next = now + _CHECK_AGAIN_SECONDS
        return None

    async def _ask(self) -> ApiError | None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._check()
        except TimeoutError:
            return ApiError("SERVICE_UNAVAILABLE", "the key could not be checked")
        except Exception as exc:  # what it is, is said by the translation, which logs what nobody foresaw
            return translate(exc)
        return None


async def tell(listener: Listener, channel: Channel, permit: Permit, pace: Pace) -> None:
    """Tell what the listener gets, until it is cut off, the key is refused, or nothing more is to come.

    Raises:
        TimeoutError: the client takes nothing.
    """
    async with SendLimit(pace.send) as limit:
        await _tell(listener, channel, permit, pace, limit)


async def _tell(listener: Listener, channel: Channel, permit: Permit, pace: Pace, limit: SendLimit) -> None:
    told: int | None = None
    heard = time.monotonic()
    while True:
        if (refusal := await permit.refusal()) is not None:
            return await limit.write(channel.end(_refused(refusal, told)))
        left = heard + pace.idle_after_end - time.monotonic() if listener.ended else pace.heartbeat
        if left <= 0:
            return await limit.write(channel.end(ENDED))
        news = await listener.next(min(left, pace.heartbeat))
        if news is not None:
            await limit.write(channel.tell(news))
        if isinstance(news, AgentProgress):
            continue
        if news is not None:
            told, heard = news.sequence, time.monotonic()
            if news.deleted:
                return await limit.write(channel.end(DELETED))
        elif listener.cut_off is Cut.GONE:
            return None
        elif listener.cut_off is not None:
            return await limit.write(channel.end(_cut(listener.cut_off, told)))
        else:
            await limit.write(channel.beat())


def _cut(reason: Cut, told: int | None) -> Ending:
    code, text = _CUT[reason]
    return Ending(code, text, _resume(reason.value, told))


def _refused(error: ApiError, told: int | None) -> Ending:
    if error.status not in _REFUSED:
        return Ending(1013, "the key cannot be checked, resume", _resume("unchecked", told))
    body = {"code": error.code, "message": error.message, "statusCode": error.status, "metadata": {}}
    return Ending(_REFUSED[error.status], error.message, {"type": "error", "error": body})


def _resume(reason: str, told: int | None) -> dict[str, Any]:
    """Connect again, and go on behind `after`; null where nothing was told."""
    return {"type": "resume", "reason": reason, "after": told}

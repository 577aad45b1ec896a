"""The rate limit to the provider over the whole installation: one small record for each endpoint, compare-and-set.

The record is the time at which the calls allowed so far will have used up their share (the generic cell rate
algorithm), so that one number is the whole state and a crash loses nothing.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from shared.cursor.errors import ProviderError
from shared.cursor.refusals import RETRY_AFTER_LIMIT
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError
from shared.jetstream.kv import Entry, KeyValue
from shared.ports import Clock

_log = logging.getLogger(__name__)

# Waited for here; a longer wait is for the caller, who may have something better to do.
_LONGEST_WAIT_SECONDS = 5.0
# Less than this is no wait: it comes of rounding, and a clock may not even show it.
_GRAIN_SECONDS = 0.001
# Calls that may come at once, as a part of a minute's: what is allowed in any minute is exceeded by no more.
_BURST_SHARE = 0.05
# By which the clocks of processes may differ.
_CLOCK_MARGIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_minute` calls a minute, 0 for no limit."""

    per_minute: float

    @property
    def interval(self) -> float:
        """Seconds that one call uses up."""
        return 60.0 / self.per_minute if self.per_minute else 0.0

    @property
    def tolerance(self) -> float:
        """How far ahead of its time a call may come, in seconds."""
        return max(0.0, self.per_minute * _BURST_SHARE - 1) * self.interval


UNLIMITED = Rate(0)


class SharedRateLimiter:
    """`RateLimiter` of the provider client, on a bucket that all processes share."""

    def __init__(
        self,
        bucket: KeyValue,
        clock: Clock,
        rates: Mapping[str, Rate],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bucket = bucket
        self._clock = clock
        self._rates = rates
        self._sleep = sleep
        # Of those who change a record at once all but one must read it again: a hundred would be at it for a minute.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def acquire(self, endpoint: str) -> None:
        """Take one call's share, waiting up to five seconds in all.

        Raises:
            ProviderError: `rate_limit_exceeded`, with how long to wait; no call may be made.
        """
        rate = self._rates.get(endpoint, UNLIMITED)
        left = _LONGEST_WAIT_SECONDS
        while (wait := await self._take_in_turn(endpoint, rate)) > 0:
            if wait > left:
                raise _refused(f"the limit of calls to {endpoint} is used up", wait)
            await self._sleep(wait)
            left -= wait

    async def wait(self, endpoint: str) -> float:
        """Seconds until a call would be let through, as far as it can be told; takes no share."""
        try:
            entry = await self._bucket.get(endpoint)
        except (PublishUnavailableError, PublishRefusedError):
            return 0.0  # whoever calls is refused then, and told how long to wait
        rate, now = self._rates.get(endpoint, UNLIMITED), self._now()
        return max(0.0, _used_until(entry, rate, now) - now - rate.tolerance)

    async def throttled(self, endpoint: str, retry_after: float) -> None:
        """Nobody calls `endpoint` before `retry_after` seconds have passed."""
        _log.warning("The provider asks to hold back on %s for %.0f s", endpoint, retry_after)
        rate, now = self._rates.get(endpoint, UNLIMITED), self._now()
        until = now + retry_after + rate.tolerance
        try:
            while True:
                entry = await self._bucket.get(endpoint)
                if entry is not None and _used_until(entry, rate, now) >= until:
                    return
                if await self._write(endpoint, entry, until):
                    return
        except (PublishUnavailableError, PublishRefusedError) as exc:
            _log.warning("Could not tell the others to hold back on %s: %s", endpoint, exc)

    async def _take_in_turn(self, endpoint: str, rate: Rate) -> float:
        if not rate.per_minute:
            return await self._take(endpoint, rate)
        lock = self._locks[endpoint]
        async with lock:
            return await self._take(endpoint, rate)

    async def _take(self, endpoint: str, rate: Rate) -> float:
        """0 if the call may go ahead now, else the seconds to wait."""
        try:
            while True:
                entry = await self._bucket.get(endpoint)
                now = self._now()
                used_until = _used_until(entry, rate, now)
                wait = used_until - now - rate.tolerance
                if wait > _GRAIN_SECONDS:
                    return wait
                if not rate.per_minute or await self._write(endpoint, entry, used_until + rate.interval):
                    return 0.0
        except (PublishUnavailableError, PublishRefusedError) as exc:
            raise _refused("the shared rate limit cannot be read", 1.0) from exc

    async def _write(self, endpoint: str, old: Entry | None, until: float) -> bool:
        """Change the record if nobody else has since it was read."""
        value = repr(until).encode()
        if old is None:
            return await self._bucket.create(endpoint, value)
        return await self._bucket.update(endpoint, value, revision=old.revision)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _used_until(entry: Entry | None, rate: Rate, now: float) -> float:
    """What the record says, and that it is free where that is further away than a throttle or the rate ever puts it:
    a clock that was wrong wrote it, and nobody else would call until then."""
    used_until = float(entry.value) if entry is not None else now
    furthest = now + rate.tolerance + rate.interval + RETRY_AFTER_LIMIT + _CLOCK_MARGIN_SECONDS
    return now if used_until > furthest else max(used_until, now)


def _refused(reason: str, wait: float) -> ProviderError:
    return ProviderError("rate_limit_exceeded", reason, retryable=True, retry_after=wait)

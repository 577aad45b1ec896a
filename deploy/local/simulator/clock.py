"""Time as the simulator knows it: the one place to change when it shall run faster than the wall."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVarTuple

Args = TypeVarTuple("Args")


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Everything that takes time goes through this: `seconds` are simulated seconds."""

    def now(self) -> datetime:
        """The time of day, in UTC."""

    def elapsed(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    def call_later(self, seconds: float, callback: Callable[[*Args], object], *args: *Args) -> Timer:
        """Call back once, after `seconds`, on the running event loop."""

    async def sleep(self, seconds: float) -> None: ...


class LoopClock:
    """Time on the timers of the running event loop: no task exists while nothing happens.

    Args:
        speed: how many simulated seconds pass in one of the wall's.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._began, self._began_at = datetime.now(UTC), time.monotonic()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=(time.monotonic() - self._began_at) * self._speed)

    def elapsed(self) -> float:
        return time.monotonic() * self._speed

    def call_later(self, seconds: float, callback: Callable[[*Args], object], *args: *Args) -> Timer:
        return _NeverEarly(self, self._speed, seconds, lambda: callback(*args))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)


class _NeverEarly:
    """A timer of the event loop's, set once more when it rings too early: loops count in milliseconds, or by a clock
    that they have looked at a while ago, which makes seconds at a high speed.
    """

    def __init__(self, clock: Clock, speed: float, seconds: float, callback: Callable[[], object]) -> None:
        self._clock = clock
        self._speed = speed
        self._due = clock.elapsed() + seconds
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(seconds / speed, self._ring)

    def cancel(self) -> None:
        self._handle.cancel()

    def _ring(self) -> None:
        left = self._due - self._clock.elapsed()
        if left > 0:
            self._handle = self._loop.call_later(left / self._speed, self._ring)
        else:
            self._callback()

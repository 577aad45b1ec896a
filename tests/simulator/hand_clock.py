"""A clock that stands still until a test moves it."""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVarTuple

Args = TypeVarTuple("Args")

_NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass(order=True)
class _Timer:
    at: float
    number: int
    call: Callable[[], object] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class HandClock:
    """The simulator's `Clock`, moved by hand."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[_Timer] = []
        self._number = 0

    def now(self) -> datetime:
        return _NOON + timedelta(seconds=self._now)

    def elapsed(self) -> float:
        return self._now

    def call_later(self, seconds: float, callback: Callable[[*Args], object], *args: *Args) -> _Timer:
        self._number += 1
        timer = _Timer(self._now + seconds, self._number, lambda: callback(*args))
        heapq.heappush(self._timers, timer)
        return timer

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            woken = asyncio.Event()
            self.call_later(seconds, woken.set)
            await woken.wait()

    async def move(self, seconds: float) -> None:
        """Let this much time pass: everything that falls due happens, in order."""
        end = self._now + seconds
        await _settle()
        while self._timers and self._timers[0].at <= end:
            timer = heapq.heappop(self._timers)
            self._now = max(self._now, timer.at)
            if not timer.cancelled:
                timer.call()
                await _settle()
        self._now = end


async def _settle() -> None:
    """Let whatever can go on without time go on."""
    for _ in range(20):
        await asyncio.sleep(0)

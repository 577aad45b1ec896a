"""Time as the simulator knows it: the one place to change when it shall run faster than the wall."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
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
    """Real time, on the timers of the running event loop: no task exists while nothing happens."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, seconds: float, callback: Callable[[*Args], object], *args: *Args) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback, *args)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

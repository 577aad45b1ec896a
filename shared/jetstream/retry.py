"""Back-off with full jitter, inside a budget of time."""

import asyncio
import random
import time


class Backoff:
    """Waits between tries: random, up to a limit that doubles from `first` to `most` seconds."""

    def __init__(self, *, first: float = 0.1, most: float = 2.0, budget: float | None = None) -> None:
        self._first = first
        self._most = most
        self._limit = first
        self._ends = None if budget is None else time.monotonic() + budget

    @property
    def remaining(self) -> float:
        """Seconds left of the budget; infinite without one."""
        return float("inf") if self._ends is None else self._ends - time.monotonic()

    def reset(self) -> None:
        self._limit = self._first

    async def wait(self) -> None:
        """Sleep before the next try, never past the end of the budget."""
        pause = random.uniform(0, self._limit)
        self._limit = min(self._limit * 2, self._most)
        await asyncio.sleep(max(0.0, min(pause, self.remaining)))

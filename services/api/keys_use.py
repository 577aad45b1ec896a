"""When keys were last used."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import psycopg

from shared.ending import end
from shared.ports import Clock

_log = logging.getLogger(__name__)


class LastUse:
    """Remembers when keys were used and writes it now and then, apart from requests."""

    def __init__(self, write: Callable[[Mapping[str, datetime]], Awaitable[None]], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._used: dict[str, datetime] = {}

    def note(self, key_id: str) -> None:
        self._used[key_id] = self._clock.now()

    async def flush(self) -> None:
        """Write what was noted; what could not be written is kept for the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._write(used)
        except psycopg.Error as exc:
            _log.warning("When keys were last used could not be written: %s", type(exc).__name__)
            self._used = {**used, **self._used}

    @asynccontextmanager
    async def written(self, *, every: float = 15.0) -> AsyncIterator[asyncio.Task[None]]:
        """Written inside, every so many seconds, and once more at the end; gives the task, to be supervised."""
        task = asyncio.create_task(self._run(every), name="last use of keys")
        try:
            yield task
        finally:
            await end(task)
            await self.flush()

    async def _run(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await self.flush()

"""How far the read side is, and waiting for it: what makes a read that follows a write see that write."""

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from services.api.read_side import CHANNEL, PROJECTION
from shared.ending import end
from shared.postgres.pool import session

_log = logging.getLogger(__name__)

_LISTEN: Final = f"LISTEN {CHANNEL}"
_READ: Final = "SELECT seq FROM projection_checkpoints WHERE name = %s"
_LOOK_SECONDS: Final = 1.0
"""A notification may be lost with a connection: look at the row as often as this when none comes."""
_MAX_BACKOFF_SECONDS: Final = 2.0

_Waiter = tuple[int, int, asyncio.Future[None]]


class CheckpointWatcher:
    """Follows the checkpoint in the database; any number of tasks may wait for it.

    Args:
        dsn: of the database; one connection of its own listens.
        name: of the projection.
    """

    def __init__(self, dsn: str, *, name: str = PROJECTION) -> None:
        self._dsn = dsn
        self._name = name
        self._current = 0
        self._waiters: list[_Waiter] = []  # a heap by sequence, then by arrival
        self._arrivals = itertools.count()
        self._given_up = 0
        self._failures = 0

    @property
    def current(self) -> int:
        """The sequence of the log up to which the rows show everything."""
        return self._current

    def advance(self, sequence: int) -> None:
        """The rows show everything up to `sequence`: wake who waited for it, in the order of what they waited for."""
        if sequence <= self._current:
            return
        self._current = sequence
        while self._waiters and self._waiters[0][0] <= sequence:
            _, _, waiter = heapq.heappop(self._waiters)
            if waiter.done():
                self._given_up -= 1
            else:
                waiter.set_result(None)

    async def wait_for(self, sequence: int, timeout: float) -> bool:
        """Wait until the rows show the commit `sequence`; False when they do not within `timeout` seconds."""
        if sequence <= self._current:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (sequence, next(self._arrivals), waiter))
        try:
            await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            return False
        finally:
            if waiter.cancelled():
                self._forget_one()
        return True

    def _forget_one(self) -> None:
        """Who gave up stays in the heap, until half of it are such: a standstill must not fill the memory."""
        self._given_up += 1
        if self._given_up * 2 > len(self._waiters):
            self._waiters = [entry for entry in self._waiters if not entry[2].done()]
            heapq.heapify(self._waiters)
            self._given_up = 0

    async def run(self) -> None:
        """Follow the checkpoint until cancelled, through lost connections and restarts of the database."""
        while True:
            try:
                async with session(self._dsn, name="checkpoint", autocommit=True) as connection:
                    await self._listen(connection)
            except (psycopg.Error, OSError) as exc:
                self._failures += 1
                if self._failures == 1:
                    _log.warning("Cannot see the checkpoint, trying again: %s", type(exc).__name__)
                limit = min(0.05 * 2 ** min(self._failures, 10), _MAX_BACKOFF_SECONDS)
                await asyncio.sleep(random.uniform(limit / 2, limit))

    async def _listen(self, connection: AsyncConnection[Any]) -> None:
        await connection.execute(_LISTEN)
        while True:
            await self._look(connection)
            async for notification in connection.notifies(timeout=_LOOK_SECONDS):
                self._hear(notification.payload)

    async def _look(self, connection: AsyncConnection[Any]) -> None:
        before = self._current
        row = await (await connection.execute(_READ, (self._name,))).fetchone()
        self._failures = 0
        found = int(row[0]) if row else 0
        if found < before == self._current:
            # What was shown before the question was asked is not in the answer: the database was set back.
            _log.warning("The read side went back from %d to %d", before, found)
            self._current = found
        self.advance(found)

    def _hear(self, payload: str) -> None:
        if payload.isdecimal():
            self.advance(int(payload))


@asynccontextmanager
async def watching(watcher: CheckpointWatcher) -> AsyncIterator[asyncio.Task[None]]:
    """The watcher at work; gives its task, to be supervised."""
    task = asyncio.create_task(watcher.run(), name="checkpoint")
    try:
        yield task
    finally:
        await end(task)

"""Slots: how many agents run at once over the whole installation, one key for each slot that is taken."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from shared.domain.events import Level
from shared.jetstream.kv import Entry, KeyValue, KvView
from shared.messages import Ticket
from shared.observability.metrics import SLOTS_IN_USE

_RANK: dict[Level, int] = {"high": 0, "medium": 1, "low": 2}
# Who waits this much longer counts as one level higher, so that a low one is never starved for ever.
_LEVEL_SECONDS = 600.0
# The view is told of every change; this only bounds how long a missed one could matter.
_LOOK_AGAIN_SECONDS = 2.0
# What was just seen to be taken is believed for this long, until the view shows it.
_VIEW_LAG_SECONDS = 1.0


@dataclass(order=True, slots=True)
class _Waiter:
    order: tuple[float, int]
    wake: asyncio.Event = field(compare=False, default_factory=asyncio.Event)


class SlotPool:
    """Slots of the installation as one process sees them.

    Taking a slot is creating its key, so two processes never take the same one; within the process waiters are
    served by priority, then age. An attempt that holds a slot already keeps it.

    Args:
        bucket: the bucket of slots; a value is the ticket of the attempt that holds the slot.
        view: a copy of it that is kept current.
        size: how many slots there are.
    """

    def __init__(self, bucket: KeyValue, view: KvView, size: int) -> None:
        self._bucket = bucket
        self._view = view
        self._slots = [f"slot-{number}" for number in range(1, size + 1)]
        self._waiters: list[_Waiter] = []
        self._count = itertools.count()
        self._taken_until: dict[str, float] = {}

    async def acquire(self, ticket: Ticket, priority: Level, queued_at: datetime, *, within: float) -> bool:
        """Take a slot for the attempt; False if there was none within `within` seconds.

        Raises:
            PublishUnavailableError: it may hold one; asking again is safe.
        """
        deadline = time.monotonic() + within
        with self._in_line(priority, queued_at) as waiter:
            while True:
                if self._held_by(ticket) is not None:
                    return True
                if self._waiters[0] is waiter and await self._take(ticket):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                await self._news(waiter, min(left, _LOOK_AGAIN_SECONDS))

    async def release(self, ticket: Ticket) -> None:
        """Give back what the attempt holds; nothing to do when it holds none."""
        entry = self._held_by(ticket)
        # Only if it is still this attempt's: another one may have taken the slot since.
        if entry is not None and await self._bucket.delete(entry.key, revision=entry.revision):
            self._taken_until.pop(entry.key, None)
            SLOTS_IN_USE.set(self.in_use)

    def holders(self) -> list[Ticket]:
        """The attempts that hold a slot."""
        return [Ticket.decode(entry.value) for entry in self._view.entries.values()]

    @property
    def in_use(self) -> int:
        return len(self._view)

    @contextmanager
    def _in_line(self, priority: Level, queued_at: datetime) -> Iterator[_Waiter]:
        order = queued_at.timestamp() + _RANK[priority] * _LEVEL_SECONDS
        waiter = _Waiter((order, next(self._count)))
        heapq.heappush(self._waiters, waiter)
        try:
            yield waiter
        finally:
            self._waiters.remove(waiter)
            heapq.heapify(self._waiters)
            if self._waiters:
                self._waiters[0].wake.set()

    def _held_by(self, ticket: Ticket) -> Entry | None:
        value = ticket.encode()
        return next((entry for entry in self._view.entries.values() if entry.value == value), None)

    async def _take(self, ticket: Ticket) -> bool:
        now = time.monotonic()
        for slot in self._slots:
            if slot in self._view.entries or self._taken_until.get(slot, 0.0) > now:
                continue
            taken = await self._bucket.create(slot, ticket.encode())
            self._taken_until[slot] = time.monotonic() + _VIEW_LAG_SECONDS
            if taken:
                SLOTS_IN_USE.set(self.in_use)
                return True
        return False

    async def _news(self, waiter: _Waiter, within: float) -> None:
        """Wait until a slot may be free, or it is this one's turn, or `within` seconds have passed."""
        waiter.wake.clear()
        waits = {
            asyncio.ensure_future(self._view.changed()),
            asyncio.ensure_future(waiter.wake.wait()),
        }
        try:
            await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

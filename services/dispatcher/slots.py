"""Slots: how many agents run at once over the whole installation, one key for each slot that is taken."""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from shared.domain.events import Level
from shared.jetstream.kv import KeyValue, KvView
from shared.messages import Ticket
from shared.observability.metrics import SLOTS_IN_USE

_log = logging.getLogger(__name__)

_RANK: dict[Level, int] = {"high": 0, "medium": 1, "low": 2}
# Who waits this much longer counts as one level higher, so that a low one is never starved for ever.
_LEVEL_SECONDS = 600.0
# The view is told of every change; this only bounds how long a missed one could matter.
_LOOK_AGAIN_SECONDS = 2.0
# What was just seen to be taken is believed for this long, until the view shows it.
_VIEW_LAG_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class _Recent:
    """A slot that was just seen to be taken, and by what value if it was by this process."""

    until: float
    value: bytes | None


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
        self._recent: dict[str, _Recent] = {}
        self._trying: set[str] = set()
        self._locks: WeakValueDictionary[Ticket, asyncio.Lock] = WeakValueDictionary()
        SLOTS_IN_USE.set_function(lambda: self.in_use)

    async def acquire(self, ticket: Ticket, priority: Level, queued_at: datetime, *, within: float) -> bool:
        """Take a slot for the attempt; False if there was none within `within` seconds.

        Raises:
            PublishUnavailableError: it may hold one; asking again is safe.
        """
        deadline = time.monotonic() + within
        # Two that have the same ticket must not both find that it holds none.
        async with self._locks.setdefault(ticket, asyncio.Lock()):
            while not self._held_by(ticket):
                slot = await self._turn(ticket, priority, queued_at, deadline)
                if slot is None:
                    return bool(self._held_by(ticket))
                if await self._take(slot, ticket):
                    return True
            return True

    async def release(self, ticket: Ticket) -> None:
        """Give back what the attempt holds; nothing to do when it holds none."""
        for slot in self._held_by(ticket):
            entry = await self._bucket.get(slot)
            # Only if it is still this attempt's: another one may have taken the slot since.
            if entry is None or entry.value != ticket.encode():
                continue
            if await self._bucket.delete(slot, revision=entry.revision):
                self._recent.pop(slot, None)

    def holders(self) -> list[Ticket]:
        """The attempts that hold a slot."""
        holders = []
        for entry in self._view.entries.values():
            try:
                holders.append(Ticket.decode(entry.value))
            except ValueError:
                _log.error("%s is held by what is no ticket; delete it by hand", entry.key)
        return holders

    @property
    def in_use(self) -> int:
        return len(self._view)

    async def _turn(self, ticket: Ticket, priority: Level, queued_at: datetime, deadline: float) -> str | None:
        """Wait in line for a slot that looks free, and keep it from the others of this process; None: none in time."""
        with self._in_line(priority, queued_at) as waiter:
            while True:
                # From before the look, so that what changes in the meantime is heard.
                async with self._listening(waiter) as news:
                    if self._waiters[0] is waiter and (slot := self._reserve()):
                        return slot
                    left = deadline - time.monotonic()
                    if left <= 0 or self._held_by(ticket):
                        return None
                    within = min(left, self._look_again())
                    await asyncio.wait(news, timeout=within, return_when=asyncio.FIRST_COMPLETED)

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

    def _reserve(self) -> str | None:
        """A slot that looks free; nobody else here tries it before it is known whether we got it."""
        now = time.monotonic()
        for slot in self._slots:
            if slot in self._view.entries:
                if slot not in self._trying:
                    self._recent.pop(slot, None)  # the view has caught up, and will show when it is free again
            elif slot not in self._trying and (slot not in self._recent or self._recent[slot].until <= now):
                self._trying.add(slot)
                return slot
        return None

    async def _take(self, slot: str, ticket: Ticket) -> bool:
        value = ticket.encode()
        taken = False
        try:
            taken = await self._bucket.create(slot, value)
        finally:
            self._trying.discard(slot)
            self._recent[slot] = _Recent(time.monotonic() + _VIEW_LAG_SECONDS, value if taken else None)
        return taken

    def _held_by(self, ticket: Ticket) -> set[str]:
        """The slots of the attempt; more than one only if two processes had its ticket at once."""
        value = ticket.encode()
        shown = {entry.key for entry in self._view.entries.values() if entry.value == value}
        now = time.monotonic()
        return shown | {slot for slot, recent in self._recent.items() if recent.value == value and recent.until > now}

    def _look_again(self) -> float:
        """Seconds after which to look without news: when what was believed to be taken may prove to be free."""
        now = time.monotonic()
        believed = [recent.until - now for recent in self._recent.values() if recent.until > now]
        return min([_LOOK_AGAIN_SECONDS, *believed])

    @asynccontextmanager
    async def _listening(self, waiter: _Waiter) -> AsyncIterator[set[asyncio.Task[Any]]]:
        """Waits of which one ends when it is this waiter's turn or, for the first in line, a slot may be free.

        The others need not know: with hundreds in line, each change would wake them all for nothing.
        """
        waiter.wake.clear()
        waits: set[asyncio.Task[Any]] = {asyncio.create_task(waiter.wake.wait())}
        if self._waiters[0] is waiter:
            waits.add(asyncio.create_task(self._view.changed()))
        try:
            await asyncio.sleep(0)  # only now do they wait
            yield waits
        finally:
            for wait in waits:
                wait.cancel()

"""A dispatcher that carries plans out, on memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.dispatcher.reconcile import Reconciler
from services.dispatcher.timers import DueTimers
from shared.command_handler import CommandHandler
from shared.cursor.provider import ApiVersion
from shared.domain.plan import Cleanup
from shared.envelope import encode
from shared.memory import MemoryEventLog, MemoryTimers
from tests.unit.dispatcher.publisher import OnePerSubject
from tests.unit.dispatcher.world import ORCHESTRATION, TEAM, World, delivery, world


@dataclass
class Dispatcher:
    """A world with reconcilers; each `reconciler` is another process."""

    w: World
    publisher: OnePerSubject
    timers: MemoryTimers

    cleanup: Cleanup = "keep"

    def reconciler(self) -> Reconciler:
        handler = CommandHandler(self.w.log, self.w.clock, self.w.ids)
        return Reconciler(handler, self.publisher, self.timers, self.w.slots, self.w.provider, self.cleanup)

    async def take_all(self, reconciler: Reconciler) -> None:
        """Every commit of the log, from the first."""
        for stored in await MemoryEventLog.read(self.w.log, TEAM, ORCHESTRATION):
            await reconciler.on_commit(delivery(encode(stored.commit), sequence=stored.sequence))

    async def fire(self) -> None:
        """Let the timers fire that are due."""
        due = DueTimers(CommandHandler(self.w.log, self.w.clock, self.w.ids), self.w.clock, self.w.ids)
        for _, payload in self.timers.take_due(self.w.clock.now()):
            await due.on_due(delivery(payload))


@asynccontextmanager
async def dispatcher(version: ApiVersion = "v1", cleanup: Cleanup = "keep") -> AsyncIterator[Dispatcher]:
    async with world(version) as w:
        yield Dispatcher(w, OnePerSubject(), MemoryTimers(), cleanup)

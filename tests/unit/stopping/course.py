"""A dispatcher and a monitor on memory, and hours that pass in an instant: what is waited for moves the clock.

The queues deliver as the broker does: a message that is put back comes again after its delay, and one that is handled
is gone. Commits reach reconcile in order, and again after what it raises.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.dispatcher.launcher import Launcher
from services.dispatcher.reconcile import Reconciler
from services.dispatcher.slots import SlotPool
from services.dispatcher.timers import DueTimers
from services.monitor.observer import Observer
from services.monitor.old_ends import OldEnds
from services.monitor.pauses import PollPolicy
from services.monitor.streams import Streams
from services.monitor.watch import Watch
from shared.command_handler import Cause, CommandHandler
from shared.cursor.provider import ApiVersion
from shared.domain.commands import AnyCommand, CreateOrchestration
from shared.domain.events import OrchestrationSpec, TaskSpec
from shared.domain.state import Orchestration
from shared.envelope import Commit, Stored, encode
from shared.jetstream.consumer import Delivery, Later
from shared.jetstream.kv import KvView
from shared.jetstream.topology import QUEUE
from shared.memory import ManualClock, MemoryEventLog, MemoryKeyValue, MemoryTimers, Published, SequentialIds
from tests.unit.dispatcher.publisher import OnePerSubject
from tests.unit.stopping.moody import MoodyProvider

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
TEAM = "team-1"
REPOSITORY = "https://github.com/acme/shop"
_GRACE = timedelta(seconds=15)
_SETTLE = timedelta(minutes=5)
_TURNS = 12  # of the loop, after which nothing is left to do but to wait

Handler = Callable[[Delivery], Awaitable[None]]


@dataclass
class Time:
    """Whoever sleeps is woken in the order of time."""

    clock: ManualClock
    _sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = field(default_factory=list)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due = self.clock.now() + timedelta(seconds=max(seconds, 0.001))
        heapq.heappush(self._sleepers, (due, next(self._count), woken))
        await woken

    def wake_next(self, before: datetime) -> bool:
        """Let the time pass until the next one wakes; False if nobody does before that moment."""
        while self._sleepers and self._sleepers[0][0] <= before:
            due, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                self.clock.advance(max(due - self.clock.now(), timedelta(0)))
                woken.set_result(None)
                return True
        return False


class Course:
    def __init__(self, version: ApiVersion, seed: int, bucket: MemoryKeyValue, view: KvView) -> None:
        self.chance = random.Random(seed)
        self.clock = ManualClock(START)
        self.time = Time(self.clock)
        self.log = _Log(self._on_commit)
        self.publisher = OnePerSubject()
        self.timers = _Timers(self._on_timer)
        self.ids = SequentialIds()
        self.provider = MoodyProvider(version, self.time.sleep, self.clock, random.Random(seed + 1))
        slots = SlotPool(bucket, view, 100)
        self.reconciler = Reconciler(self.handler(), self.publisher, self.timers, slots, self.provider)
        self.launcher = Launcher(
            self.handler(),
            slots,
            self.provider,
            self.clock,
            settle=_SETTLE,
            webhook_for=lambda ticket: None,
            chance=random.Random(seed + 2),
            sleep=self.time.sleep,
        )
        observer = Observer(
            self.handler(), self.provider, self.clock, self.ids, OldEnds(self.provider, self.clock, _GRACE)
        )
        # Nobody streams here: an end has to be seen by the looks alone.
        streams = Streams(self.provider, observer, limit=0)
        self.watch = Watch(observer, streams, self.clock, PollPolicy(), chance=random.Random(seed + 3))
        self.due = DueTimers(self.handler(), self.clock, self.ids)
        self.failures: list[BaseException] = []
        """What crashed; there must be none."""
        self._known: dict[int, Published] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def handler(self) -> CommandHandler:
        """Of another process each time."""
        return CommandHandler(self.log, self.clock, self.ids, chance=random.Random(0))

    # What users do

    async def create(self, orchestration: str, *tasks: TaskSpec, **spec: object) -> None:
        made = OrchestrationSpec.model_validate({"repository": REPOSITORY, **spec})
        command = CreateOrchestration(
            orchestration_id=orchestration, team=TEAM, created_by="ann", spec=made, tasks=tasks, activate=True
        )
        await self.do(orchestration, command)

    async def do(self, orchestration: str, command: AnyCommand) -> None:
        """Raises Refusal."""
        command_id = self.ids.new()
        await self.handler().handle(TEAM, orchestration, command, Cause(command_id, command_id, "ann"))

    async def state(self, orchestration: str) -> Orchestration:
        state = (await self.handler().load(TEAM, orchestration)).state
        assert state is not None
        return state

    def later(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        async def wait() -> None:
            await self.time.sleep(seconds)
            await act()

        self._spawn(wait())

    # The passing of time

    async def pass_by(self, span: timedelta) -> None:
        """Let everything happen that happens within this time."""
        end = self.clock.now() + span
        while True:
            await self._rest()
            if not self.time.wake_next(end):
                break
        self.clock.advance(end - self.clock.now())

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _rest(self) -> None:
        """Until nobody has anything to do but to wait."""
        quiet = 0
        while quiet < _TURNS:
            quiet = 0 if self._hand_out() else quiet + 1
            await asyncio.sleep(0)

    def _hand_out(self) -> bool:
        """Give each new message to whoever takes it; False if there was none."""
        new = [message for message in self.publisher.messages if id(message) not in self._known]
        for message in new:
            self._known[id(message)] = message
            handler = self.launcher.on_ticket if message.stream == QUEUE else self.watch.on_watched
            self._spawn(self._consume(handler, message))
        return bool(new)

    def _on_commit(self, stored: Stored) -> None:
        message = Published("EVENTS", stored.sequence, "evt", encode(stored.commit))
        self._spawn(self._consume(self.reconciler.on_commit, message))

    def _on_timer(self, due_at: datetime) -> None:
        self.later((due_at - self.clock.now()).total_seconds(), self._fire)

    async def _fire(self) -> None:
        for _, payload in self.timers.take_due(self.clock.now()):
            await self._consume(self.due.on_due, Published("TIMERS", 1, "timer.due", payload))

    async def _consume(self, handler: Handler, message: Published) -> None:
        published, deliveries = self.clock.now(), 0
        while True:
            deliveries += 1
            try:
                await handler(Delivery(message.subject, message.data, {}, deliveries, message.sequence, published))
            except Later as later:
                await self.time.sleep(later.delay_seconds)
            else:
                break
        if id(message) in self._known:
            self.publisher.messages.remove(message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failures.append(error)


class _Log(MemoryEventLog):
    def __init__(self, tell: Callable[[Stored], None]) -> None:
        super().__init__()
        self._told = tell

    async def append(self, commit: Commit, *, expected: int) -> int:
        before = await self.last_sequence()
        sequence = await super().append(commit, expected=expected)
        if sequence > before:
            self._told(Stored(sequence, commit))
        return sequence


class _Timers(MemoryTimers):
    def __init__(self, tell: Callable[[datetime], None]) -> None:
        super().__init__()
        self._told = tell

    async def set(self, *name: str, due_at: datetime, payload: bytes) -> None:
        await super().set(*name, due_at=due_at, payload=payload)
        self._told(due_at)


@asynccontextmanager
async def course(version: ApiVersion, seed: int) -> AsyncIterator[Course]:
    """Ended at the end; nothing may have crashed."""
    bucket = MemoryKeyValue()
    async with bucket.view() as view:
        made = Course(version, seed, bucket, view)
        try:
            yield made
        finally:
            await made.aclose()
        assert not made.failures, made.failures

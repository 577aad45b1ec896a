"""A dispatcher on memory: log, slots, queue, provider, and a clock that stands still but for waits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.dispatcher.launcher import Launcher
from services.dispatcher.slots import SlotPool
from shared.command_handler import Cause, CommandHandler, Decided
from shared.cursor.provider import ApiVersion, WebhookTarget
from shared.domain.commands import AnyCommand, CreateOrchestration, ExpireAttempt, ObserveAgent
from shared.domain.events import AgentCreated, AgentStatus, OrchestrationEvent, OrchestrationSpec, TaskSpec
from shared.domain.state import Attempt, Orchestration, Task
from shared.envelope import Commit, Stored
from shared.jetstream.consumer import Delivery
from shared.jetstream.kv import Entry, KvView
from shared.memory import ManualClock, MemoryEventLog, MemoryKeyValue, SequentialIds
from shared.messages import Ticket
from tests.unit.dispatcher.scripted import ScriptedProvider

TEAM = "team-1"
ORCHESTRATION = "orc-1"
REPOSITORY = "https://github.com/acme/shop"
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
SETTLE = timedelta(minutes=5)

Hook = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    return


class PassingLog(MemoryEventLog):
    """Calls `passing` around everything it does."""

    passing: Hook = staticmethod(_nothing)

    async def append(self, commit: Commit, *, expected: int) -> int:
        await self.passing()
        sequence = await super().append(commit, expected=expected)
        await self.passing()
        return sequence

    async def read(self, team: str, aggregate: str, *, after: int = 0) -> list[Stored]:
        await self.passing()
        return await super().read(team, aggregate, after=after)


class PassingKeyValue(MemoryKeyValue):
    """Calls `passing` around everything it does."""

    passing: Hook = staticmethod(_nothing)

    async def create(self, key: str, value: bytes) -> bool:
        await self.passing()
        taken = await super().create(key, value)
        await self.passing()
        return taken

    async def get(self, key: str) -> Entry | None:
        await self.passing()
        return await super().get(key)

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        await self.passing()
        deleted = await super().delete(key, revision=revision)
        await self.passing()
        return deleted


@dataclass
class World:
    """`waits` are the seconds that the launcher slept; each moves the clock, then calls the next of `while_asleep`."""

    provider: ScriptedProvider
    bucket: PassingKeyValue
    view: KvView
    clock: ManualClock = field(default_factory=lambda: ManualClock(START))
    log: PassingLog = field(default_factory=PassingLog)
    slots_size: int = 3
    waits: list[float] = field(default_factory=list)
    while_asleep: list[Hook] = field(default_factory=list)
    webhook: WebhookTarget | None = None
    limit_until: datetime = START
    """When the shared rate limit lets a create through."""
    passing: Hook = _nothing

    def __post_init__(self) -> None:
        self.ids = SequentialIds()
        self.restart()

    def restart(self) -> None:
        """A new process on the same log, bucket and provider."""
        self.handler = CommandHandler(self.log, self.clock, self.ids)
        self.slots = SlotPool(self.bucket, self.view, self.slots_size)
        self.launcher = Launcher(
            self.handler,
            self.slots,
            self.provider,
            self.clock,
            settle=SETTLE,
            webhook_for=lambda ticket: self.webhook,
            create_wait=self.create_wait,
            sleep=self.sleep,
        )

    async def create_wait(self) -> float:
        await self.passing()
        return max(0.0, (self.limit_until - self.clock.now()).total_seconds())

    def pass_by(self, hook: Hook) -> None:
        """Call `hook` at every point at which a process could die."""
        self.passing = self.log.passing = self.bucket.passing = self.provider.passing = hook

    async def sleep(self, seconds: float) -> None:
        await self.passing()
        self.waits.append(seconds)
        assert len(self.waits) < 2000, "it waits for ever"
        self.clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)
        if self.while_asleep:
            await self.while_asleep.pop(0)()

    async def create(self, *tasks: TaskSpec, **spec: Any) -> None:
        """An active orchestration of these tasks, of one if none are given."""
        tasks = tasks or (make_task("a"),)
        await self.do(
            CreateOrchestration(
                orchestration_id=ORCHESTRATION,
                team=TEAM,
                created_by="ann",
                spec=OrchestrationSpec(**{"repository": REPOSITORY, **spec}),
                tasks=tasks,
                activate=True,
            )
        )

    async def do(self, command: AnyCommand) -> Decided:
        command_id = self.ids.new()
        handler = CommandHandler(self.log, self.clock, self.ids)  # somebody else's
        return await handler.handle(TEAM, ORCHESTRATION, command, Cause(command_id, command_id, "test"))

    async def observe(self, status: AgentStatus, name: str = "a") -> None:
        """The agent of the task's newest attempt is seen in this state, with nothing to show."""
        attempt = await self.attempt(name)
        await self.do(
            ObserveAgent(
                attempt_id=attempt.attempt_id,
                agent_id=attempt.agent_id or "",
                status=status,
                provider_status=status.value,
                source="poll",
                run_id=attempt.run_id,
            )
        )

    async def expire(self) -> None:
        await self.do(ExpireAttempt(attempt_id=(await self.attempt()).attempt_id))

    async def state(self) -> Orchestration:
        state = (await CommandHandler(self.log, self.clock, self.ids).load(TEAM, ORCHESTRATION)).state
        assert state is not None
        return state

    async def task(self, name: str = "a") -> Task:
        return (await self.state()).tasks[name]

    async def attempt(self, name: str = "a") -> Attempt:
        return (await self.task(name)).attempts[-1]

    async def ticket(self, name: str = "a") -> Ticket:
        return Ticket(TEAM, ORCHESTRATION, (await self.attempt(name)).attempt_id)

    async def launch(self, ticket: Ticket | None = None) -> None:
        ticket = ticket or await self.ticket()
        await self.launcher.on_ticket(delivery(ticket.encode()))

    async def holders(self) -> list[Ticket]:
        async with self.bucket.view() as view:
            return [Ticket.decode(entry.value) for entry in view.entries.values()]

    async def events(self) -> list[OrchestrationEvent]:
        commits = await MemoryEventLog.read(self.log, TEAM, ORCHESTRATION)
        return [recorded.event for stored in commits for recorded in stored.commit.events]

    async def known_agents(self) -> list[str]:
        return [event.agent_id for event in await self.events() if isinstance(event, AgentCreated)]


@asynccontextmanager
async def world(version: ApiVersion = "v1", *, slots: int = 3) -> AsyncIterator[World]:
    bucket = PassingKeyValue()
    async with bucket.view() as view:
        yield World(ScriptedProvider(version), bucket, view, slots_size=slots)


def make_task(name: str, **fields: Any) -> TaskSpec:
    return TaskSpec(**{"task_id": name, "title": f"Task {name}", "description": f"Do {name}.", **fields})


def delivery(data: bytes, *, deliveries: int = 1, subject: str = "test", sequence: int = 1) -> Delivery:
    return Delivery(subject, data, {}, deliveries, sequence, START)


def observed(ticket: Ticket, status: AgentStatus, agent_id: str) -> ObserveAgent:
    return ObserveAgent(
        attempt_id=ticket.attempt_id,
        agent_id=agent_id,
        status=status,
        provider_status=status.value,
        source="webhook",
    )

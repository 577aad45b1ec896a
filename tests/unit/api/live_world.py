"""A log in memory, the hub on it, and a hand that moves orchestrations on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson

from services.api.changes import Change
from services.api.listener import Listener
from services.api.live import Limits, LiveHub, following
from services.api.newest import Newest
from shared.command_handler import Cause, CommandHandler
from shared.domain import commands as cmd
from shared.domain.events import AgentStatus, OrchestrationSpec, TaskSpec
from shared.domain.ids import derive_id
from shared.domain.state import Orchestration
from shared.envelope import Stored
from shared.memory import MemoryEventLog
from shared.system import RandomIds
from tests.support.eventually import eventually

TEAM = "red"


class SteppingClock:
    """A clock that moves on by a second with every look."""

    def __init__(self) -> None:
        self._seconds = 0

    def now(self) -> datetime:
        self._seconds += 1
        return datetime.fromtimestamp(1_900_000_000 + self._seconds, UTC)


class World:
    """A log, the hub on it, and a hand that moves orchestrations on."""

    def __init__(self, **limits: int) -> None:
        self.log = SlowLog()
        self.clock = SteppingClock()
        self.newest = Newest()
        self.hub = LiveHub(self.log, self.clock, self.newest, Limits(**limits))
        self._handler = CommandHandler(self.log, self.clock, RandomIds())

    async def do(self, orchestration_id: str, command: cmd.AnyCommand) -> Orchestration:
        decided = await self._handler.handle(TEAM, orchestration_id, command, Cause(RandomIds().new(), "c", "me"))
        assert decided.state is not None
        return decided.state

    def task(self, orchestration_id: str, index: int) -> TaskSpec:
        return TaskSpec(
            task_id=f"{orchestration_id}-{index}", title=f"t{index}", description="what to do", order_index=index
        )

    async def create(self, orchestration_id: str, *, tasks: int = 1) -> Orchestration:
        specs = tuple(self.task(orchestration_id, index) for index in range(tasks))
        spec = OrchestrationSpec(repository="https://github.com/acme/shop")
        create = cmd.CreateOrchestration(
            orchestration_id=orchestration_id, team=TEAM, created_by="me", spec=spec, tasks=specs
        )
        return await self.do(orchestration_id, create)

    async def run_task(self, orchestration_id: str, index: int = 0) -> Orchestration:
        """Take a queued task through its agent's life: three commits."""
        attempt_id = derive_id("attempt", f"{orchestration_id}-{index}", 1)
        start = cmd.StartAttempt(attempt_id=attempt_id, agent_id="bc-1", api_version="v1", branch_name="b")
        await self.do(orchestration_id, start)
        running = cmd.RecordAgent(
            attempt_id=attempt_id, agent_id="bc-1", status=AgentStatus.RUNNING, provider_status="RUNNING"
        )
        await self.do(orchestration_id, running)
        seen = cmd.ObserveAgent(
            attempt_id=attempt_id,
            agent_id="bc-1",
            status=AgentStatus.FINISHED,
            provider_status="FINISHED",
            source="poll",
            branch="b",
        )
        return await self.do(orchestration_id, seen)

    async def whole_life(self, orchestration_id: str, *, tasks: int = 1) -> None:
        await self.create(orchestration_id, tasks=tasks)
        await self.do(orchestration_id, cmd.ActivateOrchestration())
        for index in range(tasks):
            await self.run_task(orchestration_id, index)


class SlowLog(MemoryEventLog):
    """A log whose reads and news can be held up on their way, as a slow broker's are."""

    def __init__(self) -> None:
        super().__init__()
        self.held: asyncio.Event | None = None
        self.muted: asyncio.Event | None = None
        self.reading = asyncio.Event()
        self.pages = self.most = 0

    async def page(self, team: str, aggregate: str, *, after: int, limit: int) -> list[Stored]:
        found = await super().page(team, aggregate, after=after, limit=limit)
        self.pages += 1
        self.most = max(self.most, len(found))
        self.reading.set()
        if self.held is not None:
            await self.held.wait()
        return found

    async def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
        async for batch in super().follow(after=after):
            if self.muted is not None:
                await self.muted.wait()
            yield batch


@asynccontextmanager
async def running_world(**limits: int) -> AsyncIterator[World]:
    world = World(**limits)
    async with following(world.hub):
        await eventually(lambda: world.hub.following)
        yield world


async def messages(listener: Listener, until: int) -> list[dict[str, Any]]:
    """Everything up to the commit `until`."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["id"] < until:
        change = await listener.next(30)
        assert isinstance(change, Change), f"{change} behind {found[-1:]}"
        found += [orjson.loads(message) for message in change.messages]
    return found


async def caught_up(listener: Listener) -> None:
    """It has everything that is past, and nothing more comes."""
    async with asyncio.timeout(30):
        while True:
            assert await listener.next(0.01) is None
            if listener.is_live:
                return


def kinds(found: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(message["id"], message["type"]) for message in found]

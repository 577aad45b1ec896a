"""The hub against the log in memory: who joins sees everything, in order, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from services.api.live import (
    BadResumeError,
    Cut,
    HubClosedError,
    Listener,
    LiveHub,
    UnknownOrchestrationError,
    following,
)
from services.api.reading import Newest
from services.api.sse import encode, frames
from shared.command_handler import Cause, CommandHandler
from shared.domain import commands as cmd
from shared.domain.events import AgentStatus, OrchestrationSpec, TaskSpec
from shared.domain.orchestration import derive_id
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

    def __init__(self, *, limit: int = 256) -> None:
        self.log = SlowLog()
        self.clock = SteppingClock()
        self.newest = Newest()
        self.hub = LiveHub(self.log, self.clock, self.newest, limit=limit)
        self._handler = CommandHandler(self.log, self.clock, RandomIds())

    async def do(self, orchestration_id: str, command: cmd.AnyCommand) -> Orchestration:
        decided = await self._handler.handle(TEAM, orchestration_id, command, Cause(RandomIds().new(), "c", "me"))
        assert decided.state is not None
        return decided.state

    async def create(self, orchestration_id: str, *, tasks: int = 1) -> Orchestration:
        specs = tuple(
            TaskSpec(task_id=f"{orchestration_id}-{i}", title=f"t{i}", description="what to do", order_index=i)
            for i in range(tasks)
        )
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
    """A log whose reads can be held up, after they were answered, as a slow broker's are."""

    def __init__(self) -> None:
        super().__init__()
        self.held: asyncio.Event | None = None
        self.reading = asyncio.Event()

    async def read(self, team: str, aggregate: str, *, after: int = 0) -> list[Stored]:
        found = await super().read(team, aggregate, after=after)
        self.reading.set()
        if self.held is not None:
            await self.held.wait()
        return found


@asynccontextmanager
async def running_world(**options: Any) -> AsyncIterator[World]:
    world = World(**options)
    async with following(world.hub):
        await eventually(lambda: world.hub.following)
        yield world


async def messages(listener: Listener, until: int) -> list[dict[str, Any]]:
    """Everything up to the commit `until`."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["id"] < until:
        assert await listener.wait(5), f"nothing behind {found[-1:]}"
        while change := listener.take():
            found += [orjson.loads(message) for message in change.messages]
    return found


def kinds(found: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(message["id"], message["type"]) for message in found]


async def test_who_joins_first_sees_the_state_and_then_every_change() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o")
        await world.do("o", cmd.ActivateOrchestration())
        await world.run_task("o")
        found = await messages(listener, 5)
        assert kinds(found) == [
            (1, "status"),
            (2, "task_updated"),
            (2, "orchestration_updated"),
            (3, "task_updated"),
            (3, "orchestration_updated"),
            (4, "task_updated"),
            (5, "task_updated"),
            (5, "orchestration_updated"),
            (5, "orchestration_completed"),
        ]
        assert set(found[0]["data"]) == {"orchestration", "tasks", "statistics"}
        assert found[1]["task"]["waiting_for"] == "slot"
        assert found[-1]["data"]["status"] == "COMPLETED"
        assert found[-1]["data"]["statistics"]["progress"] == 100


async def test_a_task_that_waits_for_something_else_now_is_told_although_no_event_names_it() -> None:
    async with running_world() as world:
        await world.create("o", tasks=3)
        listener = await world.hub.join(TEAM, "o")
        await world.do("o", cmd.ActivateOrchestration())
        found = await messages(listener, 2)
        waiting = {m["task"]["title"]: m["task"]["waiting_for"] for m in found if m["type"] == "task_updated"}
        assert waiting == {"t0": "slot", "t1": "turn", "t2": "turn"}


async def test_others_orchestrations_are_not_told() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o")
        await world.whole_life("p")
        await world.do("o", cmd.ActivateOrchestration())
        found = await messages(listener, 7)
        assert {message["id"] for message in found} == {1, 7}


async def test_resuming_anywhere_gives_what_was_missed_byte_for_byte() -> None:
    async with running_world() as world:
        await world.create("o", tasks=2)
        whole = await world.hub.join(TEAM, "o")
        await world.do("o", cmd.ActivateOrchestration())
        await world.run_task("o", 0)
        await world.run_task("o", 1)
        last = await world.log.last_sequence()
        live = [m for m in await messages(whole, last) if m["type"] != "status"]
        for after in range(1, last):
            resumed = await world.hub.join(TEAM, "o", after=after)
            assert await messages(resumed, last) == [m for m in live if m["id"] > after]
            world.hub.leave(resumed)


async def test_resuming_from_nothing_tells_the_whole_story() -> None:
    async with running_world() as world:
        await world.whole_life("o")
        listener = await world.hub.join(TEAM, "o", after=0)
        found = await messages(listener, 5)
        assert [m["id"] for m in found if m["type"] in ("status", "orchestration_updated")] == [1, 2, 3, 5]


async def test_resuming_at_the_end_waits_for_what_comes() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o", after=1)
        assert listener.take() is None
        await world.do("o", cmd.ActivateOrchestration())
        assert {m["id"] for m in await messages(listener, 2)} == {2}


@pytest.mark.parametrize("after", [None, 0, 1, 2])
async def test_commits_between_the_read_and_its_arrival_are_neither_lost_nor_repeated(after: int | None) -> None:
    async with running_world() as world:
        await world.create("o")
        await world.do("o", cmd.ActivateOrchestration())
        world.log.held = asyncio.Event()
        world.log.reading.clear()
        joining = asyncio.create_task(world.hub.join(TEAM, "o", after=after))
        await world.log.reading.wait()
        # What the joiner gets is already read; this is not in it.
        await world.run_task("o")
        await eventually(lambda: world.newest.of(TEAM, "o") == 5)
        world.log.held.set()
        found = await messages(await joining, 5)
        if after is None:
            assert kinds(found) == [(5, "status")]
            assert found[0]["data"]["orchestration"]["status"] == "COMPLETED"
        else:
            assert list(dict.fromkeys(message["id"] for message in found)) == list(range(after + 1, 6))
            assert kinds(found).count((5, "orchestration_completed")) == 1


async def test_many_join_and_leave_while_things_happen_and_all_see_the_same() -> None:
    async with running_world() as world:
        await world.create("o", tasks=5)
        first = await world.hub.join(TEAM, "o")

        async def visitor(index: int) -> list[dict[str, Any]]:
            await asyncio.sleep(0.001 * (index % 7))
            listener = await world.hub.join(TEAM, "o", after=index % 3)
            found = await messages(listener, 17)
            world.hub.leave(listener)
            return found

        visitors = [asyncio.create_task(visitor(index)) for index in range(30)]
        await world.do("o", cmd.ActivateOrchestration())
        for index in range(5):
            await world.run_task("o", index)
        reference = [m for m in await messages(first, 17) if m["type"] != "status"]
        for index, seen in enumerate(await asyncio.gather(*visitors)):
            assert [m for m in seen if m["id"] > 1] == [m for m in reference if m["id"] > max(1, index % 3)]
        world.hub.leave(first)
        assert world.hub.listeners == 0


async def test_who_falls_behind_is_cut_off_and_can_resume() -> None:
    async with running_world(limit=2) as world:
        await world.create("o")
        slow = await world.hub.join(TEAM, "o")
        await world.do("o", cmd.ActivateOrchestration())
        await world.run_task("o")
        await eventually(lambda: slow.cut_off is Cut.SLOW)
        assert slow.take() is None
        again = await world.hub.join(TEAM, "o", after=1)
        assert {m["id"] for m in await messages(again, 5)} == {2, 3, 4, 5}


async def test_a_team_sees_only_its_own() -> None:
    async with running_world() as world:
        await world.create("o")
        with pytest.raises(UnknownOrchestrationError):
            await world.hub.join("blue", "o")
        with pytest.raises(UnknownOrchestrationError):
            await world.hub.join(TEAM, "nothing", after=0)
        assert world.hub.listeners == 0


async def test_a_place_that_the_log_has_not_come_to_is_refused() -> None:
    async with running_world() as world:
        await world.create("o")
        with pytest.raises(BadResumeError):
            await world.hub.join(TEAM, "o", after=2)


async def test_closing_sends_everybody_away() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o")
        world.hub.close()
        written = [frame async for frame in frames(listener, heartbeat=5, idle_after_end=5)]
        assert b"event: resume" in written[-1]
        assert b'"after":1' in written[-1]
        with pytest.raises(HubClosedError):
            await world.hub.join(TEAM, "o")


async def test_a_quiet_stream_shows_that_it_lives() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o")
        stream = frames(listener, heartbeat=0.01, idle_after_end=5)
        written = [await anext(stream) for _ in range(4)]
        assert written[2:] == [b": heartbeat\n\n"] * 2


async def test_a_stream_closes_when_nothing_comes_for_a_while_after_the_end() -> None:
    async with running_world() as world:
        await world.whole_life("o")
        for after in (None, 5):
            listener = await world.hub.join(TEAM, "o", after=after)
            written = [frame async for frame in frames(listener, heartbeat=5, idle_after_end=0.02)]
            assert b"resume" not in written[-1]


async def test_only_the_last_event_of_a_commit_carries_its_id() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o", after=1)
        await world.do("o", cmd.ActivateOrchestration())
        while (change := listener.take()) is None:
            assert await listener.wait(5)
        *events, rest = encode(change).split(b"\n\n")
        assert rest == b""
        assert [event.startswith(b"id: 2\n") for event in events] == [False, True]
        assert all(orjson.loads(event.partition(b"data: ")[2])["id"] == 2 for event in events)

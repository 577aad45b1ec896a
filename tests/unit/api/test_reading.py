"""Reads that never show less than what somebody was told, in a process that has not heard of it."""

from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from services.api.checkpoint import CheckpointWatcher
from services.api.errors import ApiError
from services.api.newest import REMEMBERED, Newest
from services.api.queries import Found, FoundTask, Queries
from services.api.reading import OrchestrationReader
from shared.domain import commands as cmd
from shared.envelope import Stored
from shared.views import orchestration_view, task_views
from tests.unit.api.live_world import TEAM, World, running_world


class Rows:
    """`Queries` over what was projected of the log. `looking` is called in the middle of each question."""

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        self.looking: Callable[[], None] = lambda: None

    async def orchestration(self, _team: str, orchestration_id: str) -> Found | None:
        answer = self.found.get(orchestration_id)
        self.looking()
        return answer

    async def task(self, _team: str, task_id: str) -> FoundTask | None:
        answer = [
            FoundTask(found.sequence, found.orchestration["id"], task)
            for found in self.found.values()
            for task in found.tasks
            if task["id"] == task_id
        ]
        self.looking()
        return answer[0] if answer else None


class Replica:
    """A process that was started when the log was as it is in `world`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows = Rows()
        self.checkpoint = CheckpointWatcher("")
        self.newest = Newest()
        queries = cast(Queries, self.rows)
        self.reader = OrchestrationReader(queries, world.log, self.checkpoint, self.newest, visible_seconds=0.01)

    async def project(self, orchestration_id: str) -> None:
        """The rows of it as the log has it now."""
        state = await self.world.do(orchestration_id, cmd.Tick())
        sequence = (await self.world.log.read(TEAM, orchestration_id))[-1].sequence
        self.rows.found[orchestration_id] = Found(sequence, orchestration_view(state), task_views(state))

    async def begin(self) -> None:
        self.newest.begin(await self.world.log.last_sequence())


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world


async def test_what_was_told_before_the_start_is_shown_though_the_rows_lack_it(world: World) -> None:
    replica = Replica(world)
    await world.create("o")
    await replica.project("o")
    await world.do("o", cmd.ActivateOrchestration())
    await world.create("other")
    await replica.begin()
    shown = await replica.reader.find(TEAM, "o")
    assert shown is not None
    assert shown.orchestration["status"] == "ACTIVE"
    assert await replica.reader.find(TEAM, "other") is not None


async def test_a_replica_of_the_log_that_lags_behind_what_was_heard_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(world)
    await world.create("o")
    await replica.project("o")
    await world.do("o", cmd.ActivateOrchestration())
    commits = await world.log.read(TEAM, "o")
    replica.newest.note(TEAM, "o", commits[-1].sequence)
    answers = iter([[], commits[:-1], commits])

    async def read(*_: object, **__: object) -> list[Stored]:
        return next(answers)

    monkeypatch.setattr(world.log, "read", read)
    shown = await replica.reader.find(TEAM, "o")
    assert shown is not None
    assert shown.orchestration["status"] == "ACTIVE"


async def test_a_task_of_before_the_start_is_folded_while_its_row_may_be_old(world: World) -> None:
    replica = Replica(world)
    await world.create("o")
    await replica.project("o")
    await world.do("o", cmd.ActivateOrchestration())
    await replica.begin()
    shown = await replica.reader.find_task(TEAM, "o-0")
    assert shown is not None
    assert shown.task["waiting_for"] == "slot"


async def test_a_task_that_is_heard_of_while_its_row_is_waited_for_is_folded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(world)
    await world.create("o")
    await replica.begin()

    async def hear(*_: object) -> bool:
        for stored in await world.log.read(TEAM, "o"):
            replica.newest.hear(stored)
        return False

    monkeypatch.setattr(replica.checkpoint, "wait_for", hear)
    shown = await replica.reader.find_task(TEAM, "o-0")
    assert shown is not None
    assert shown.orchestration_id == "o"


async def test_a_task_that_no_row_has_yet_is_not_said_to_be_missing(world: World) -> None:
    replica = Replica(world)
    await world.create("o")
    await replica.begin()
    with pytest.raises(ApiError) as refused:
        await replica.reader.find_task(TEAM, "o-0")
    assert refused.value.status == 503


async def test_rows_that_have_come_up_are_believed(world: World) -> None:
    replica = Replica(world)
    await world.create("o")
    await replica.begin()
    replica.checkpoint.advance(replica.newest.floor)
    assert await replica.reader.find(TEAM, "o") is None  # the rows say so, wrongly, so that it can be told
    assert await replica.reader.find_task(TEAM, "o-0") is None


async def test_rows_that_come_up_during_the_question_are_not_in_its_answer(world: World) -> None:
    replica = Replica(world)
    await world.create("o")
    await replica.project("o")
    await world.do("o", cmd.ActivateOrchestration())
    await replica.begin()
    replica.rows.looking = lambda: replica.checkpoint.advance(replica.newest.floor)
    shown = await replica.reader.find(TEAM, "o")
    assert shown is not None
    assert shown.orchestration["status"] == "ACTIVE"


def test_what_is_forgotten_for_lack_of_room_may_be_newer_than_its_row() -> None:
    newest = Newest()
    for sequence in range(1, REMEMBERED + 2):
        newest.note(TEAM, f"o-{sequence}", sequence)
    assert newest.of(TEAM, "o-1") == 0
    assert newest.floor == 1

"""What agents are at is shown to who is up to date, after everything else, and belongs to no commit."""

import asyncio
from typing import Any

import orjson
import pytest

from services.api import live
from services.api.changes import AgentProgress, Change
from services.api.listener import Cut, Listener
from services.api.telling import Pace, Permit, tell
from shared.domain import commands as cmd
from shared.domain.events import AgentStatus
from shared.domain.ids import derive_id
from shared.messages import Progress
from tests.support.eventually import eventually
from tests.unit.api.live_world import TEAM, World, caught_up, messages, running_world
from tests.unit.api.test_telling import Key, Told

AT = "2030-03-17T17:46:40+00:00"


def attempt_of(orchestration_id: str = "o", index: int = 0) -> str:
    return derive_id("attempt", f"{orchestration_id}-{index}", 1)


def doing(text: str, attempt_id: str | None = None, tool: str | None = None) -> Progress:
    return Progress(attempt_id or attempt_of(), tool, text, AT)


async def at_work(world: World, orchestration_id: str = "o") -> None:
    """An orchestration whose agent runs: at the fourth commit of its own."""
    await world.create(orchestration_id)
    await world.do(orchestration_id, cmd.ActivateOrchestration())
    attempt_id = attempt_of(orchestration_id)
    start = cmd.StartAttempt(attempt_id=attempt_id, agent_id="bc-1", api_version="v1", branch_name="b")
    await world.do(orchestration_id, start)
    running = cmd.RecordAgent(
        attempt_id=attempt_id, agent_id="bc-1", status=AgentStatus.RUNNING, provider_status="RUNNING"
    )
    await world.do(orchestration_id, running)


async def heard(world: World, sequence: int) -> None:
    """The hub has the log up to this commit."""
    await eventually(lambda: world.hub._last >= sequence)


async def finish(world: World) -> None:
    seen = cmd.ObserveAgent(
        attempt_id=attempt_of(), agent_id="bc-1", status=AgentStatus.FINISHED, provider_status="FINISHED", source="poll"
    )
    await world.do("o", seen)


async def listening(world: World, *, after: int | None = 4) -> Listener:
    """One that is up to date."""
    listener = await world.hub.join(TEAM, "o", after=after)
    if after is None:
        await messages(listener, 4)
    else:
        await caught_up(listener)
    assert listener.is_live
    return listener


def body(news: Change | AgentProgress | None) -> dict[str, Any]:
    assert isinstance(news, AgentProgress)
    [text] = news.texts
    told: dict[str, Any] = orjson.loads(text)
    assert news.sse == b"data: " + text.encode() + b"\n\n"
    return told


async def test_what_an_agent_is_at_is_told_without_an_id() -> None:
    async with running_world() as world:
        await at_work(world)
        listener = await listening(world, after=None)
        world.hub.show((TEAM, "o"), doing("I begin.", tool="ls ."))
        assert body(await listener.next(30)) == {
            "type": "agent_progress",
            "data": {
                "taskId": "o-0",
                "attemptId": attempt_of(),
                "agentId": "bc-1",
                "tool": "ls .",
                "text": "I begin.",
                "at": AT,
            },
        }
        world.hub.show((TEAM, "o"), doing("I go on."))
        assert "tool" not in body(await listener.next(30))["data"]


async def test_only_the_newest_is_told_and_only_after_every_change() -> None:
    async with running_world() as world:
        await at_work(world)
        listener = await listening(world)
        for number in range(1000):
            world.hub.show((TEAM, "o"), doing(str(number)))
        await world.do("o", cmd.UpdateOrchestration(changes={"name": "Another"}))
        await heard(world, 5)
        change = await listener.next(30)
        assert isinstance(change, Change)
        assert change.sequence == 5
        assert body(await listener.next(30))["data"]["text"] == "999"
        assert listener.take() is None


async def test_progress_takes_no_room_that_is_for_changes() -> None:
    async with running_world(changes=2) as world:
        await at_work(world)
        listener = await listening(world)
        for name in ("one", "two"):
            for number in range(100):
                world.hub.show((TEAM, "o"), doing(f"{name} {number}"))
            await world.do("o", cmd.UpdateOrchestration(changes={"name": name}))
        await heard(world, 6)
        waiting = world.hub.waiting_bytes
        world.hub.show((TEAM, "o"), doing("x" * 200))
        assert world.hub.waiting_bytes == waiting
        found = await messages(listener, 6)
        assert {message["id"] for message in found} == {5, 6}
        assert listener.cut_off is None


async def test_a_large_audience_is_told_more_rarely_and_in_the_end_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PROGRESS_PER_SECOND", 20)
    async with running_world() as world:
        await at_work(world)
        listeners = [await listening(world) for _ in range(4)]
        now = asyncio.get_running_loop().time()
        with monkeypatch.context() as at_once:
            at_once.setattr(asyncio.get_running_loop(), "time", lambda: now)
            for number in range(10):
                world.hub.show((TEAM, "o"), doing(str(number)))
                if number == 0:
                    assert {body(listener.take())["data"]["text"] for listener in listeners} == {"0"}
        assert [listener.take() for listener in listeners] == [None] * 4  # for four of them, a fifth of a second
        assert {body(await listener.next(30))["data"]["text"] for listener in listeners} == {"9"}


async def test_an_attempt_that_has_ended_is_told_nothing_of_not_even_what_waits() -> None:
    async with running_world() as world:
        await at_work(world)
        listener = await listening(world)
        world.hub.show((TEAM, "o"), doing("almost there"))
        await finish(world)
        await heard(world, 5)
        await messages(listener, 5)
        world.hub.show((TEAM, "o"), doing("done"))
        assert listener.take() is None


async def test_nobody_is_told_of_attempts_or_orchestrations_that_there_are_not() -> None:
    async with running_world() as world:
        await at_work(world)
        listener = await listening(world)
        world.hub.show((TEAM, "o"), doing("whose?", "no-such-attempt"))
        world.hub.show((TEAM, "unheard-of"), doing("whose?"))
        assert listener.take() is None


async def test_another_team_and_another_orchestration_are_told_nothing() -> None:
    async with running_world() as world:
        await at_work(world)
        await at_work(world, "p")
        listener = await listening(world)
        world.hub.show(("blue", "o"), doing("of another team"))
        world.hub.show((TEAM, "p"), doing("of another orchestration", attempt_of("p")))
        assert listener.take() is None


async def test_who_does_not_have_the_past_yet_or_is_cut_off_gets_none() -> None:
    async with running_world() as world:
        await at_work(world)
        fresh, behind, cut = (
            await world.hub.join(TEAM, "o"),
            await world.hub.join(TEAM, "o", after=1),
            await listening(world),
        )
        cut.cut(Cut.STOPPING)
        world.hub.show((TEAM, "o"), doing("now"))
        await messages(fresh, 4)
        await messages(behind, 4)
        for listener in (fresh, behind, cut):
            assert listener.take() is None


async def test_who_resumes_gets_the_same_changes_whatever_progress_there_was() -> None:
    async with running_world() as world:
        await at_work(world)
        first = await listening(world, after=None)
        world.hub.show((TEAM, "o"), doing("now"))
        assert isinstance(await first.next(30), AgentProgress)
        await finish(world)
        live = await messages(first, 5)
        resumed = await world.hub.join(TEAM, "o", after=4)
        assert await messages(resumed, 5) == live


async def test_a_client_is_told_progress_between_changes_and_where_to_resume_is_not_moved_by_it() -> None:
    async with running_world() as world:
        await at_work(world)
        channel, listener = Told(), await world.hub.join(TEAM, "o")
        times = Pace(heartbeat=5, idle_after_end=30)
        telling = asyncio.create_task(tell(listener, channel, Permit(Key().check, times), times))
        await eventually(lambda: channel.kinds == ["status"])
        world.hub.show((TEAM, "o"), doing("now"))
        await eventually(lambda: channel.progress)
        world.hub.close()
        await telling
        assert channel.ending is not None
        assert channel.ending.message == {"type": "resume", "reason": "stopping", "after": 4}

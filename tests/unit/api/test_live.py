"""The hub against the log in memory: who joins sees everything, in order, once."""

import asyncio
from typing import Any

import pytest

from services.api.catch_up import PAGE, Recent
from services.api.changes import AgentProgress, Change
from services.api.listener import Cut
from services.api.live import BadResumeError, HubClosedError, TooManyStreamsError, UnknownOrchestrationError
from shared.domain import commands as cmd
from tests.support.eventually import eventually
from tests.unit.api.live_world import TEAM, caught_up, kinds, messages, running_world


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
        assert await listener.next(0.01) is None
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
    async with running_world(changes=2) as world:
        await world.create("o")
        slow = await world.hub.join(TEAM, "o")
        assert kinds(await messages(slow, 1)) == [(1, "status")]
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


async def test_a_long_history_is_caught_up_with_page_by_page() -> None:
    async with running_world() as world:
        await world.create("o")
        for number in range(3 * PAGE):
            await world.do("o", cmd.UpdateOrchestration(changes={"name": f"name {number}"}))
        listener = await world.hub.join(TEAM, "o", after=1)
        found = await messages(listener, 3 * PAGE + 1)
        assert [m["id"] for m in found] == list(range(2, 3 * PAGE + 2))
        assert world.log.most == PAGE
        assert world.hub.waiting_bytes == 0


async def test_what_was_read_before_it_is_heard_is_not_told_again() -> None:
    async with running_world() as world:
        await world.create("o")
        await world.do("o", cmd.ActivateOrchestration())
        listener = await world.hub.join(TEAM, "o", after=1)
        world.log.muted = asyncio.Event()
        await world.run_task("o")
        assert {m["id"] for m in await messages(listener, 5)} == {2, 3, 4, 5}
        assert await listener.next(0.01) is None
        world.log.muted.set()
        await world.do("o", cmd.UpdateOrchestration(changes={"name": "another"}))
        assert {m["id"] for m in await messages(listener, 6)} == {6}


async def test_what_many_have_missed_is_read_and_folded_once() -> None:
    async with running_world() as world:
        await world.whole_life("o")
        found = []
        for _ in range(20):
            listener = await world.hub.join(TEAM, "o", after=1)
            found.append(await messages(listener, 5))
        assert all(one == found[0] for one in found)
        assert world.log.pages == 20 + 1  # each looks for what is new, and the first reads what is old


def test_of_what_is_kept_for_those_who_come_back_the_oldest_is_forgotten() -> None:
    recent = Recent(most=1000)
    news = [Change(sequence, [{"type": "t", "filler": "x" * 400}], ended=False) for sequence in range(1, 10)]
    for change in news:
        recent.put((TEAM, "o"), change.sequence - 1, change)
    kept = [recent.after((TEAM, "o"), sequence) for sequence in range(9)]
    assert news[0].size * 3 > 1000
    assert kept == [None] * 7 + news[7:]
    assert recent.after((TEAM, "p"), 8) is None


async def test_who_catches_up_slowly_is_not_cut_off_and_misses_nothing() -> None:
    async with running_world(changes=2) as world:
        await world.whole_life("o", tasks=2)
        listener = await world.hub.join(TEAM, "o", after=1)
        first = await listener.next(30)
        assert isinstance(first, Change)
        assert first.sequence == 2
        for number in range(10):
            await world.do("o", cmd.UpdateOrchestration(changes={"name": f"name {number}"}))
        last = await world.log.last_sequence()
        await eventually(lambda: world.newest.of(TEAM, "o") == last)
        found = await messages(listener, last)
        assert list(dict.fromkeys(m["id"] for m in found)) == list(range(3, last + 1))


async def test_when_too_much_waits_in_all_those_furthest_behind_are_cut_off() -> None:
    async with running_world(bytes=20_000) as world:
        for name in ("o", "p"):
            await world.create(name)
        slow, quick = await world.hub.join(TEAM, "o"), await world.hub.join(TEAM, "p")
        await messages(slow, 1)
        await messages(quick, 2)
        number = 0
        while slow.cut_off is None:
            number += 1
            assert number < 100
            for name in ("o", "p"):
                await world.do(name, cmd.UpdateOrchestration(changes={"name": f"name {number}"}))
            await messages(quick, await world.log.last_sequence())
            assert world.hub.waiting_bytes <= 20_000
        assert quick.cut_off is None
        assert world.hub.waiting_bytes == 0


async def test_what_waits_for_many_is_kept_and_counted_once() -> None:
    async with running_world() as world:
        await world.create("o")
        listeners = [await world.hub.join(TEAM, "o") for _ in range(10)]
        for listener in listeners:
            await listener.next(30)
        await world.do("o", cmd.ActivateOrchestration())
        taken: list[Change | AgentProgress | None] = []
        for listener in listeners:
            await eventually(lambda: world.hub.waiting_bytes > 0)
            taken.append(await listener.next(30))
        assert len({id(change) for change in taken}) == 1
        assert world.hub.waiting_bytes == 0


async def test_no_more_may_join_than_a_process_and_a_team_may_have() -> None:
    async with running_world(streams=3, team_streams=2) as world:
        await world.create("o")
        first = await world.hub.join(TEAM, "o")
        await world.hub.join(TEAM, "o")
        with pytest.raises(TooManyStreamsError) as refused:
            await world.hub.join(TEAM, "o")
        assert refused.value.of_team
        world.hub.leave(first)
        world.hub.leave(first)
        await world.hub.join(TEAM, "o")
        with pytest.raises(TooManyStreamsError):
            await world.hub.join(TEAM, "o")


async def test_joins_at_the_same_time_share_a_read_that_began_after_them() -> None:
    async with running_world() as world:
        await world.create("o")
        world.log.held = asyncio.Event()
        joining = [asyncio.create_task(world.hub.join(TEAM, "o")) for _ in range(50)]
        await world.log.reading.wait()
        await world.do("o", cmd.ActivateOrchestration())
        world.log.held.set()
        for listener in await asyncio.gather(*joining):
            assert {m["id"] for m in await messages(listener, 2)} <= {1, 2}
        assert world.log.pages == 2


async def test_what_was_deleted_ends_with_that_and_is_unknown_from_then_on() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o")
        await messages(listener, 1)
        await world.do("o", cmd.DeleteOrchestration())
        last = await listener.next(30)
        assert isinstance(last, Change)
        assert last.deleted
        for after in (None, 0, 1, 2):
            with pytest.raises(UnknownOrchestrationError):
                await world.hub.join(TEAM, "o", after=after)


async def test_what_was_finished_and_is_under_way_again_goes_on_on_the_same_stream() -> None:
    async with running_world() as world:
        await world.whole_life("o")
        listener = await world.hub.join(TEAM, "o", after=4)
        assert (await messages(listener, 5))[-1]["type"] == "orchestration_completed"
        await caught_up(listener)
        ended = [listener.ended]
        await world.do("o", cmd.RestartTask(task_id="o-0"))
        found = await messages(listener, 6)
        assert [*ended, listener.ended] == [True, False]
        assert found[-1]["type"] == "orchestration_updated"
        assert found[-1]["data"]["orchestration"]["status"] == "ACTIVE"


async def test_a_task_that_was_added_is_told_with_those_that_look_different_now() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o", after=1)
        added = cmd.AddTask(task=world.task("o", 1))
        await world.do("o", added)
        found: list[dict[str, Any]] = await messages(listener, 2)
        assert [m["task"]["id"] for m in found if m["type"] == "task_updated"] == ["o-1"]
        assert found[-1]["data"]["statistics"]["totalTasks"] == 2


async def test_who_waits_is_sent_away_as_soon_as_it_closes() -> None:
    async with running_world() as world, asyncio.timeout(30):
        await world.create("o")
        listener = await world.hub.join(TEAM, "o")
        await messages(listener, 1)
        waiting = asyncio.create_task(listener.next(3600))
        await asyncio.sleep(0)
        world.hub.close()
        assert await waiting is None
        assert listener.cut_off is Cut.STOPPING


async def test_closing_sends_everybody_away() -> None:
    async with running_world() as world:
        await world.create("o")
        listener, resuming = await world.hub.join(TEAM, "o"), await world.hub.join(TEAM, "o", after=0)
        await messages(listener, 1)
        world.hub.close()
        for one in (listener, resuming):
            assert await one.next(30) is None
            assert one.cut_off is Cut.STOPPING
        with pytest.raises(HubClosedError):
            await world.hub.join(TEAM, "o")

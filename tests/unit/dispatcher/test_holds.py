"""A held queue: what has not been started waits and says so; what has been started goes on."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.readiness import waiting_for
from shared.domain.state import Phase
from shared.jetstream.consumer import Later
from tests.unit.dispatcher.world import START, TEAM, World, world


def hold(one: World, held: set[str]) -> None:
    one.launcher = replace(one.launcher, is_held=lambda team: team in held)


async def reason(one: World) -> str | None:
    state = await one.state()
    waiting = waiting_for(state, state.tasks["a"], one.clock.now())
    return waiting.reason if waiting else None


async def test_nothing_is_launched_while_the_team_s_queue_is_held() -> None:
    async with world() as one:
        held = {TEAM}
        await one.create()
        hold(one, held)
        for _ in range(3):
            with pytest.raises(Later):
                await one.launch()
        assert await reason(one) == "pause"
        assert [event.type for event in await one.events()].count("attempt.waiting") == 1
        assert await one.holders() == []
        held.clear()
        await one.launch()
        assert (await one.attempt()).phase is Phase.CREATED
        assert await reason(one) is None


async def test_another_team_s_hold_is_no_matter() -> None:
    async with world() as one:
        await one.create()
        hold(one, {"others"})
        await one.launch()
        assert (await one.attempt()).phase is Phase.CREATED


async def test_what_waits_for_a_slot_after_a_hold_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.dispatcher.launcher._SLOT_WAIT_SECONDS", 0.01)
    async with world(slots=0) as one:
        held = {TEAM}
        await one.create()
        hold(one, held)
        with pytest.raises(Later):
            await one.launch()
        held.clear()
        with pytest.raises(Later):
            await one.launch()
        assert await reason(one) == "slot"


async def test_a_hold_that_comes_while_a_slot_is_waited_for_gives_the_slot_back() -> None:
    async with world() as one:
        await one.create()
        answers = iter([False, True])
        one.launcher = replace(one.launcher, is_held=lambda team: next(answers))
        with pytest.raises(Later):
            await one.launch()
        assert await one.holders() == []
        assert (await one.attempt()).phase is Phase.QUEUED


async def test_a_hold_that_comes_while_the_rate_limit_is_waited_for_gives_the_slot_back() -> None:
    async with world() as one:
        held: set[str] = set()
        await one.create()
        hold(one, held)
        one.limit_until = START + timedelta(minutes=1)

        async def held_now() -> None:
            held.add(TEAM)

        one.while_asleep = [held_now]
        with pytest.raises(Later):
            await one.launch()
        assert await one.holders() == []
        assert (await one.attempt()).phase is Phase.QUEUED

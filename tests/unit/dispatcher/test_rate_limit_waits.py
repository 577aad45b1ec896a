"""Who waits for the rate limit says so, starts nothing, and lets go when told to."""

from datetime import timedelta

import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion
from shared.domain.commands import PauseOrchestration
from shared.domain.events import AttemptWaiting, TaskStatus
from shared.domain.readiness import waiting_for
from shared.domain.state import Phase
from tests.unit.dispatcher.scripted import LEFT_ALONE, THROTTLED
from tests.unit.dispatcher.world import START, world

VERSIONS: list[ApiVersion] = ["v0", "v1"]
both = pytest.mark.parametrize("version", VERSIONS)


async def test_who_waits_for_the_rate_limit_is_not_started_and_says_until_when() -> None:
    async with world("v1") as w:
        await w.create()
        w.limit_until = w.clock.now() + timedelta(seconds=30)
        shown: list[tuple[str | None, TaskStatus]] = []

        async def look() -> None:
            task = await w.task()
            waiting = waiting_for(await w.state(), task, w.clock.now())
            assert waiting is not None
            assert waiting.until == w.limit_until
            shown.append((waiting.reason, task.status))

        w.while_asleep = [look] * 10
        await w.launch()
        assert set(shown) == {("rate_limit", TaskStatus.PENDING)}
        assert w.clock.now() - START == timedelta(seconds=30)
        assert [event for event in await w.events() if isinstance(event, AttemptWaiting)][1:] == []
        task = await w.task()
        assert waiting_for(await w.state(), task, w.clock.now()) is None
        assert task.attempts[-1].phase is Phase.CREATED


async def test_a_wait_that_grows_by_much_is_told_again() -> None:
    async with world("v1") as w:
        await w.create()
        w.limit_until = w.clock.now() + timedelta(seconds=30)

        async def grow() -> None:
            w.limit_until += timedelta(minutes=1)

        w.while_asleep = [grow]
        await w.launch()
        told = [event.until for event in await w.events() if isinstance(event, AttemptWaiting)]
        assert told == [START + timedelta(seconds=30), START + timedelta(seconds=90)]


async def test_a_wait_that_shifts_a_little_all_the_time_is_told_once() -> None:
    async with world("v1") as w:
        await w.create()
        w.limit_until = w.clock.now() + timedelta(seconds=30)

        async def shift() -> None:
            w.limit_until += timedelta(seconds=1)

        w.while_asleep = [shift] * 8
        await w.launch()
        assert w.while_asleep == []
        assert len([event for event in await w.events() if isinstance(event, AttemptWaiting)]) == 1


async def test_a_wait_that_goes_on_shifting_is_told_ever_more_rarely() -> None:
    async with world("v1") as w:
        await w.create()
        w.limit_until = w.clock.now() + timedelta(seconds=6)

        async def shift() -> None:
            w.limit_until = max(w.limit_until, w.clock.now() + timedelta(seconds=6))

        w.while_asleep = [shift] * 360  # for half an hour
        await w.launch()
        assert w.clock.now() - START >= timedelta(minutes=30)
        assert len([event for event in await w.events() if isinstance(event, AttemptWaiting)]) <= 20


async def test_a_moment_of_the_rate_limit_is_not_worth_telling() -> None:
    async with world("v1") as w:
        await w.create()
        w.limit_until = w.clock.now() + timedelta(seconds=1)
        await w.launch()
        assert not [event for event in await w.events() if isinstance(event, AttemptWaiting)]


async def test_a_pause_while_the_rate_limit_is_waited_for_withdraws_the_attempt_and_frees_its_slot() -> None:
    async with world("v1") as w:
        await w.create()
        ticket = await w.ticket()
        w.limit_until = w.clock.now() + timedelta(minutes=10)

        async def pause() -> None:
            await w.do(PauseOrchestration())

        w.while_asleep = [pause]
        await w.launch(ticket)
        assert (await w.attempt()).ending == "WITHDRAWN"
        assert w.provider.requests == []
        assert await w.holders() == []
        assert w.clock.now() - START < timedelta(seconds=10)


@both
@pytest.mark.parametrize("error", [THROTTLED, LEFT_ALONE], ids=lambda error: error.code)
async def test_a_create_that_is_held_back_says_what_it_waits_for(version: ApiVersion, error: ProviderError) -> None:
    async with world(version) as w:
        await w.create()
        w.provider.before_create = [error]

        async def look() -> None:
            waiting = waiting_for(await w.state(), await w.task(), w.clock.now())
            assert waiting is not None
            until = START + timedelta(seconds=error.retry_after or 0.0)
            assert (waiting.reason, waiting.until) == ("rate_limit", until)

        w.while_asleep = [look]
        await w.launch()
        assert w.while_asleep == []
        assert (await w.attempt()).delay is None

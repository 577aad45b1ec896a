"""An agent that vanished at the provider: missed at first, lost after five minutes, whoever looks."""

from datetime import timedelta

import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion
from shared.domain.commands import CancelOrchestration
from shared.domain.events import AgentMissed, AgentStatus, OrchestrationStatus, TaskStatus
from tests.unit.dispatcher.scripted import GONE, KEY_GONE, LEFT_ALONE, UNAVAILABLE
from tests.unit.monitor.follower import Monitor, monitor
from tests.unit.monitor.test_receipts import PRESENT

NO_RUN = ProviderError("run_not_found", "no such run", status=404)
GONE_FOR_GOOD = ProviderError("agent_not_found", "Gone", status=410)


async def sightings(m: Monitor) -> int:
    return [event.type for event in await m.w.events()].count(AgentMissed.type)


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("error", [GONE, NO_RUN, GONE_FOR_GOOD])
async def test_polls_alone_find_out_that_an_agent_is_lost(version: ApiVersion, error: ProviderError) -> None:
    async with monitor(version, model="o3") as m:
        m.w.clock.advance(timedelta(minutes=10))
        m.provider.gets = [error]
        waited = 0.0
        while (pause := await m.poll()) is not None:
            assert (await m.task()).status is TaskStatus.PROCESSING
            waited += pause
            m.w.clock.advance(timedelta(seconds=pause))
        assert 300 <= waited < 400
        task, attempt = await m.task(), await m.attempt()
        assert task.failure is not None
        assert (task.failure.code, await sightings(m)) == ("AGENT_LOST", 2)
        assert (attempt.status, attempt.provider_status) == (AgentStatus.UNKNOWN, error.code)
        assert attempt.cost == pytest.approx(0.10 * (10 + waited / 60), abs=0.001), "its work has been paid for"


async def test_what_one_process_missed_another_goes_on_to_miss() -> None:
    async with monitor("v0") as m:
        m.provider.gets = [GONE]
        for _ in range(3):
            assert (await m.attempt()).is_active
            await m.poll()
            m.restart()
            m.w.clock.advance(timedelta(minutes=2.5))
        assert (await m.attempt()).ending == "FAILED"


async def test_an_agent_that_is_rarely_looked_at_is_looked_for_more_often_when_it_was_missed() -> None:
    async with monitor("v0", timeout_minutes=6000) as m:
        m.w.clock.advance(timedelta(hours=20))
        m.provider.gets = [GONE]
        assert await m.poll() == 150


async def test_webhook_and_poll_together_are_no_more_than_one_look() -> None:
    async with monitor("v0") as m:
        m.provider.gets = [GONE]
        for _ in range(5):
            await m.poll()
            await m.receive(PRESENT)
        assert ((await m.attempt()).is_active, await sightings(m)) == (True, 1)


async def test_an_agent_that_was_only_hidden_goes_on() -> None:
    async with monitor("v0") as m:
        for answer in (GONE, GONE, UNAVAILABLE):
            m.provider.gets = [answer]
            await m.poll()
            m.w.clock.advance(timedelta(minutes=2.5))
        m.show(AgentStatus.RUNNING)
        await m.poll()
        assert (await m.attempt()).missed is None
        m.provider.gets = [GONE]
        await m.poll()
        m.show(AgentStatus.FINISHED, summary="Done.")
        assert await m.poll() is None
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_a_cancel_of_a_missed_agent_does_not_wait_until_it_is_lost() -> None:
    async with monitor("v0") as m:
        m.provider.gets = [GONE]
        await m.poll()
        await m.w.do(CancelOrchestration())
        m.provider.stop_error = GONE
        assert await m.poll(subject="watch.v0-hurried.a") is None
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLED


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_a_read_that_lags_behind_the_create_is_no_sign_that_a_cancelled_agent_has_stopped(
    version: ApiVersion,
) -> None:
    async with monitor(version) as m:
        await m.w.do(CancelOrchestration())
        m.provider.gets = [GONE]
        m.provider.on_stop = [UNAVAILABLE]
        for stops in (1, 2):
            assert await m.poll(subject="watch.v1-hurried.a") is not None
            assert len(m.provider.stops) == stops
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLING, "the stop found it"
        m.show(AgentStatus.STOPPED)
        assert await m.poll(subject="watch.v1-hurried.a") is None
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLED


async def test_one_that_no_read_finds_has_stopped_after_five_minutes_whatever_the_stop_says() -> None:
    async with monitor("v1") as m:
        await m.w.do(CancelOrchestration())
        m.provider.gets = [GONE]
        waited = 0.0
        while (pause := await m.poll(subject="watch.v1-hurried.a")) is not None:
            waited += pause
            m.w.clock.advance(timedelta(seconds=pause))
        assert 300 <= waited < 400
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLED


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_a_key_that_is_not_found_says_nothing_of_the_agent(version: ApiVersion) -> None:
    async with monitor(version) as m:
        m.provider.gets = [KEY_GONE]
        for _ in range(4):
            assert await m.poll() is not None
            m.w.clock.advance(timedelta(minutes=2.5))
        assert ((await m.attempt()).is_active, await sightings(m)) == (True, 0)
        await m.w.do(CancelOrchestration())
        assert await m.poll(subject="watch.v0-hurried.a") is not None, "it may be at work"
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLING


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_while_the_provider_is_left_alone_nothing_is_missed_and_a_stop_stays_wanted(version: ApiVersion) -> None:
    async with monitor(version) as m:
        m.provider.gets = [GONE]
        await m.poll()
        m.provider.gets = [LEFT_ALONE]
        for _ in range(30):
            pause = await m.poll()
            assert pause is not None
            assert pause >= 33
            m.w.clock.advance(timedelta(seconds=pause))
        assert ((await m.attempt()).is_active, await sightings(m)) == (True, 1)
        await m.w.do(CancelOrchestration())
        m.provider.stop_error = LEFT_ALONE
        for _ in range(3):
            assert await m.poll(subject="watch.v1-hurried.a") == 33
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLING
        m.show(AgentStatus.RUNNING)
        m.provider.stop_error = None
        stops = len(m.provider.stops)
        assert await m.poll(subject="watch.v1-hurried.a") is not None
        assert len(m.provider.stops) == stops + 1
        m.show(AgentStatus.STOPPED)
        assert await m.poll(subject="watch.v1-hurried.a") is None
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLED

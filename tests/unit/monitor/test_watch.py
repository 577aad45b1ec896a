"""Polls: an agent is looked at until it has ended, at growing pauses, whatever the provider answers."""

from datetime import timedelta

import pytest

from shared.cursor.errors import ProviderError
from shared.domain.commands import CancelOrchestration
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.jetstream.consumer import Later, Poison
from shared.messages import LOG_LAG, Watched
from tests.unit.dispatcher.scripted import FAILED, GONE, THROTTLED, UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM, delivery
from tests.unit.monitor.follower import monitor

HURRIED = "watch.v0-hurried.a"


async def test_the_first_delivery_only_sets_the_pace() -> None:
    async with monitor("v0") as m:
        pause = await m.poll(deliveries=1)
        assert pause is not None
        assert 8 <= pause <= 10
        assert m.provider.reads == []


async def test_an_agent_is_polled_while_it_runs_and_let_go_of_when_it_has_ended() -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.RUNNING)
        for deliveries in (2, 3, 4):
            assert await m.poll(deliveries=deliveries) is not None
        assert len(m.provider.reads) == 3
        m.show(AgentStatus.FINISHED)
        assert await m.poll(deliveries=5) is None
        assert (await m.task()).status is TaskStatus.COMPLETED
        assert await m.poll(deliveries=6) is None
        assert len(m.provider.reads) == 4


async def test_one_that_ended_by_a_receipt_is_let_go_of_also_at_the_first_delivery() -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.FINISHED)
        await m.observer.look(await m.watched(), "webhook")
        assert await m.poll(deliveries=1) is None


async def test_errors_of_the_provider_are_waited_out_for_as_long_as_it_takes() -> None:
    async with monitor("v0", timeout_minutes=100_000) as m:
        m.provider.gets = [UNAVAILABLE]
        for deliveries in range(2, 60):
            assert await m.poll(deliveries=deliveries) is not None
            m.w.clock.advance(timedelta(minutes=5))
        assert (await m.task()).status is TaskStatus.PROCESSING
        m.show(AgentStatus.FINISHED)
        assert await m.poll(deliveries=60) is None


async def test_a_provider_that_asks_for_a_longer_pause_gets_it() -> None:
    async with monitor("v0") as m:
        m.provider.gets = [ProviderError("rate_limit_exceeded", "slow down", status=429, retry_after=99.0)]
        assert await m.poll() == 99


async def test_a_deleted_agent_is_let_go_of_after_its_deadline() -> None:
    async with monitor("v0", timeout_minutes=1) as m:
        m.provider.gets = [GONE]
        assert await m.poll() is not None
        m.w.clock.advance(timedelta(minutes=2))
        m.provider.stop_error = GONE
        assert await m.poll() is None


async def test_an_agent_that_was_told_to_stop_is_looked_at_and_told_again_soon_and_then_ever_more_rarely() -> None:
    """The message that hurries a stop was published at `START`."""
    async with monitor("v0") as m:
        m.show(AgentStatus.RUNNING)
        await m.w.do(CancelOrchestration())
        pauses = [await m.poll(deliveries=1, subject=HURRIED)]
        assert m.provider.reads == [], "it was asked a moment ago"
        for _ in range(14):
            m.w.clock.advance(timedelta(seconds=pauses[-1] or 0))
            pauses.append(await m.poll(subject=HURRIED))
        assert all(pause is not None for pause in pauses)
        assert 1.6 <= (pauses[0] or 0) <= 2
        assert 24 <= (pauses[-1] or 0) <= 30
        assert len(m.provider.stops) == 14
        assert sum(pause or 0 for pause in pauses[:5]) < 30
        m.show(AgentStatus.STOPPED)
        assert await m.poll(subject=HURRIED) is None
        assert await m.poll() is None
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLED


async def test_a_stop_that_fails_is_repeated_as_soon_as_one_that_does_not() -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.RUNNING)
        await m.w.do(CancelOrchestration())
        for error in (FAILED, THROTTLED):
            m.provider.stop_error = error
            pause = await m.poll(subject=HURRIED)
            assert pause is not None
            assert max(1.6, error.retry_after or 0.0) <= pause <= 7.0
        assert len(m.provider.stops) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        Watched(TEAM, ORCHESTRATION, "no-such", "2026-11-01T12:00:00+00:00").encode(),
        Watched(TEAM, "orc-unknown", "no-such", "2026-11-01T12:00:00+00:00").encode(),
        Watched(TEAM, ORCHESTRATION, "a", "yesterday").encode(),
        Watched(TEAM, ORCHESTRATION, "a", "2026-11-01T12:00:00").encode(),
    ],
)
async def test_what_is_of_nobody_is_poison(body: bytes) -> None:
    async with monitor() as m:
        m.w.clock.advance(LOG_LAG)
        with pytest.raises(Poison):
            await m.watch.on_watched(delivery(body, deliveries=2))


async def test_an_agent_is_not_let_go_of_though_a_replica_of_the_log_does_not_show_its_attempt_yet() -> None:
    async with monitor() as m:
        body = Watched(TEAM, ORCHESTRATION, "not-yet-shown", START.isoformat()).encode()
        with pytest.raises(Later):
            await m.watch.on_watched(delivery(body))

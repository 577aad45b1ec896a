"""Polls: an agent is looked at until it has ended, at growing pauses, whatever the provider answers."""

from datetime import timedelta

import pytest

from services.monitor.watch import PollPolicy
from shared.domain.events import AgentStatus, TaskStatus
from shared.jetstream.consumer import Later, Poison
from shared.messages import LOG_LAG, Watched
from tests.unit.dispatcher.scripted import GONE, THROTTLED, UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM, delivery
from tests.unit.monitor.follower import monitor


async def test_the_first_delivery_only_sets_the_pace() -> None:
    async with monitor("v0") as m:
        pause = await m.poll(deliveries=1)
        assert pause is not None
        assert 24 <= pause <= 36
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
        m.provider.gets = [THROTTLED]
        pause = await m.poll()
        assert pause is not None
        assert pause >= 24


async def test_a_deleted_agent_is_let_go_of_after_its_deadline() -> None:
    async with monitor("v0", timeout_minutes=1) as m:
        m.provider.gets = [GONE]
        assert await m.poll() is not None
        m.w.clock.advance(timedelta(minutes=2))
        assert await m.poll() is not None
        assert await m.poll() is None


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


# The pauses


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        (timedelta(seconds=-5), 30),
        (timedelta(0), 30),
        (timedelta(minutes=59), 30),
        (timedelta(hours=2), 60),
        (timedelta(hours=5), 150),
        (timedelta(hours=10), 300),
        (timedelta(days=7), 300),
    ],
)
def test_pauses_grow_with_age_up_to_five_minutes(age: timedelta, pause: float) -> None:
    assert PollPolicy().pause(age, 0.5) == pytest.approx(pause)


def test_pauses_vary_by_a_fifth_lest_agents_be_polled_together() -> None:
    pauses = [PollPolicy().pause(timedelta(0), draw / 100) for draw in range(100)]
    assert min(pauses) == pytest.approx(24)
    assert 35.5 <= max(pauses) < 36

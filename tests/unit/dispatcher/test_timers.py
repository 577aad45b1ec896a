"""What is due later is looked at when it is due, whatever the timers do."""

from datetime import timedelta

import pytest

from services.dispatcher.timers import DueTimers
from shared.domain.events import AgentStatus, TaskStatus
from shared.domain.state import Phase
from shared.jetstream.consumer import Later, Poison
from shared.messages import Wake
from tests.unit.dispatcher.reconciling import dispatcher
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM, delivery, make_task


async def test_a_retry_is_woken_when_it_is_due_and_not_before() -> None:
    async with dispatcher() as d:
        await d.w.create()
        await d.w.launch()
        await d.w.observe(AgentStatus.FAILED)
        await d.take_all(d.reconciler())
        due = (await d.w.task()).retry_at
        assert due is not None
        [(at, payload)] = d.timers.pending.values()
        assert at == due
        assert Wake.decode(payload) == Wake(TEAM, ORCHESTRATION, due.isoformat())
        d.w.clock.advance(due - d.w.clock.now())
        await d.fire()
        assert (await d.w.attempt()).number == 2
        assert (await d.w.attempt()).phase is Phase.QUEUED


async def test_an_earlier_moment_does_not_make_a_later_one_forgotten() -> None:
    """Task a is due late; then b fails and is due before it; after b's timer a's must still come."""
    async with dispatcher() as d:
        await d.w.create(
            make_task("a"), make_task("b", order_index=1), execution_mode="parallel", failure_policy="continue"
        )
        reconciler = d.reconciler()
        for _ in range(2):
            await d.w.launch(await d.w.ticket("a"))
            await d.w.observe(AgentStatus.FAILED)
            if (await d.w.task("a")).retry_count == 1:
                await d.take_all(reconciler)
                d.w.clock.advance(timedelta(minutes=2))
                await d.fire()
        await d.take_all(reconciler)
        late = (await d.w.task("a")).retry_at
        await d.w.launch(await d.w.ticket("b"))
        await d.w.observe(AgentStatus.FAILED, "b")
        await d.take_all(reconciler)
        early = (await d.w.task("b")).retry_at
        assert early is not None
        assert late is not None
        assert early < late
        d.w.clock.advance(early - d.w.clock.now())
        await d.fire()
        await d.take_all(reconciler)
        assert (await d.w.attempt("b")).number == 2
        assert (await d.w.task("a")).retry_at == late
        d.w.clock.advance(late - d.w.clock.now())
        await d.fire()
        assert (await d.w.attempt("a")).number == 3


async def test_a_process_with_an_older_plan_takes_nothing_away_from_a_newer_one() -> None:
    async with dispatcher() as d:
        await d.w.create(
            make_task("a"), make_task("b", order_index=1), execution_mode="parallel", failure_policy="continue"
        )
        for name in ("a", "b"):
            await d.w.launch(await d.w.ticket(name))
        await d.w.observe(AgentStatus.FAILED)
        old = await d.w.state()
        d.w.clock.advance(timedelta(seconds=10))
        await d.w.observe(AgentStatus.FAILED, "b")
        d.w.clock.advance(timedelta(minutes=5))
        await d.fire()
        await d.take_all(d.reconciler())
        await d.reconciler().reconcile(old)
        await d.fire()
        assert [(await d.w.attempt(name)).number for name in ("a", "b")] == [2, 2]


@pytest.mark.parametrize("seconds", [0.2, 3.0, 3600.0])
async def test_a_timer_of_a_broker_whose_clock_is_ahead_comes_again(seconds: float) -> None:
    async with dispatcher() as d:
        await d.w.create()
        due = START + timedelta(seconds=seconds)
        timers = DueTimers(d.w.handler, d.w.clock, d.w.ids)
        with pytest.raises(Later) as later:
            await timers.on_due(delivery(Wake(TEAM, ORCHESTRATION, due.isoformat()).encode()))
        assert 0 < later.value.delay_seconds <= min(seconds, 60.0)


async def test_a_timer_with_nothing_to_do_changes_nothing() -> None:
    async with dispatcher() as d:
        await d.w.create()
        before = await d.w.events()
        timers = DueTimers(d.w.handler, d.w.clock, d.w.ids)
        for _ in range(2):
            await timers.on_due(delivery(Wake(TEAM, ORCHESTRATION, START.isoformat()).encode()))
        assert await d.w.events() == before
        assert (await d.w.task()).status is TaskStatus.PENDING


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"team":"t"}',
        b'{"team":"t","orchestration_id":"o","due_at":"noon"}',
        b'{"team":"t","orchestration_id":"o","due_at":"2026-11-01T12:00:00"}',
        Wake(TEAM, "orc-unknown", START.isoformat()).encode(),
    ],
)
async def test_a_timer_of_an_unknown_orchestration_or_of_none_is_parked(body: bytes) -> None:
    async with dispatcher() as d:
        with pytest.raises(Poison):
            await DueTimers(d.w.handler, d.w.clock, d.w.ids).on_due(delivery(body))

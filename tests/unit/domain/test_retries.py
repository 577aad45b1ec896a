"""What failed is tried again after a pause that grows, as often as the task allows."""

from datetime import timedelta

import pytest

from shared.domain import events as ev
from shared.domain.commands import Tick
from shared.domain.events import AgentStatus, TaskStatus
from shared.domain.retry import RetryPolicy
from tests.support.given import Given, given
from tests.support.orchestrations import (
    OVERLOADED,
    T0,
    activated,
    after,
    attempt_failed,
    create,
    created,
    make_task,
    observe,
    queued,
    record,
    reject,
    retry_scheduled,
    running,
    start,
    started,
)

POLICY = RetryPolicy()


@pytest.mark.parametrize(("retry", "minutes"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (10, 30), (999, 30)])
def test_the_pause_doubles_up_to_half_an_hour(retry: int, minutes: int) -> None:
    assert POLICY.delay(retry, 0.0) == timedelta(minutes=minutes)


def test_chance_makes_a_pause_up_to_a_fifth_longer_and_never_longer_than_the_cap() -> None:
    assert POLICY.delay(1, 0.5) == timedelta(seconds=66)
    assert timedelta(minutes=2) < POLICY.delay(2, 0.999) < timedelta(minutes=2.4)
    assert POLICY.delay(6, 0.999) == timedelta(minutes=30)
    assert RetryPolicy(cap=timedelta(seconds=70)).delay(1, 0.9) == timedelta(seconds=70)


def failed_once() -> Given:
    before = given(created("a", "b"), activated(), queued("a"), started("a"))
    return before.when(reject("a", failure=OVERLOADED)).outcome


def test_each_failure_doubles_the_pause_until_the_retries_are_used_up() -> None:
    now, story = T0, given().when(create(make_task("a", max_retries=4), activate=True)).outcome
    for number, minutes in enumerate([1, 2, 4, 8], start=1):
        story = story.when(start("a", number), at=now).outcome.when(record("a", number), at=now).outcome
        due = now + timedelta(minutes=minutes)
        story = story.when(observe("a", AgentStatus.FAILED, number), at=now).then(
            ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", number, due)
        )
        now = due
        story = story.when(Tick(), at=now).then(queued("a", number + 1))
    story = story.when(start("a", 5), at=now).outcome
    story.when(reject("a", 5, OVERLOADED), at=now).then(ev.AttemptFailed, ev.TaskFailed, ev.OrchestrationFailed)


def test_chance_reaches_the_decision() -> None:
    before = given(created("a"), activated(), queued("a"), started("a"))
    before.when(reject("a", failure=OVERLOADED), jitter=0.5).then(
        attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, T0 + timedelta(seconds=66))
    )


def test_the_retry_waits_until_it_is_due() -> None:
    failed_once().when(Tick(), at=after(1) - timedelta(microseconds=1)).then_nothing()
    then = failed_once().when(Tick(), at=after(1)).then(queued("a", 2))
    assert then.task("a").retry_at is None
    then.when(Tick(), at=after(2)).then_nothing()


def test_a_task_that_waits_for_its_retry_is_pending_and_says_what_went_wrong() -> None:
    task = failed_once().task("a")
    assert (task.status, task.retry_count, task.retry_at) == (TaskStatus.PENDING, 1, after(1))
    assert task.failure == OVERLOADED


def test_in_sequence_the_task_keeps_its_turn_while_it_waits() -> None:
    then = failed_once().when(Tick(), at=after(0.5)).then_nothing()
    then.when(Tick(), at=after(60)).then(queued("a", 2))


def test_in_parallel_another_task_takes_the_free_place() -> None:
    before = given(created("a", "b", execution_mode="parallel", max_parallel=1), activated(), queued("a"), started("a"))
    then = before.when(reject("a", failure=OVERLOADED)).then(
        ev.AttemptFailed, retry_scheduled("a", 1, after(1)), queued("b")
    )
    full = then.when(Tick(), at=after(1)).then(ev.TaskRetryDue(task_id="a"))
    ended = full.and_then(started("b"), at=after(2)).when(reject("b", failure=OVERLOADED), at=after(2))
    ended.then(ev.AttemptFailed, retry_scheduled("b", 1, after(3)), queued("a", 2))


def test_waiting_costs_no_retry() -> None:
    then = failed_once().when(Tick(), at=after(1)).outcome
    assert then.task("a").retry_count == 1


def test_what_every_attempt_cost_adds_up() -> None:
    before = given(created("a"), activated(), running("a"))
    then = before.when(observe("a", AgentStatus.FAILED, cost=0.5)).outcome.and_then(running("a", 2), at=after(1))
    again = then.when(observe("a", AgentStatus.FAILED, 2, cost=0.25), at=after(2)).outcome
    assert again.task("a").cost == pytest.approx(0.75)
    assert again.state.total_cost == pytest.approx(0.75)

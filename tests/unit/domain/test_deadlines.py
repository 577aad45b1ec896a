"""An attempt that takes longer than it may is stopped, ends when it is seen to have ended, and counts as TIMEOUT."""

from datetime import timedelta

import pytest

from shared.domain import events as ev
from shared.domain.events import AgentStatus, TaskStatus
from shared.domain.state import Phase
from tests.support.given import Given, given
from tests.support.orchestrations import (
    REFUSED,
    activated,
    after,
    agent_created,
    created,
    expire,
    finish,
    make_task,
    observe,
    queued,
    record,
    reject,
    retry_scheduled,
    running,
    started,
    stop_requested,
)

ENDS = [AgentStatus.STOPPED, AgentStatus.FAILED, AgentStatus.EXPIRED]


def at_work(*, max_retries: int = 3) -> Given:
    """Its deadline is two hours after it began."""
    return given(created(make_task("a", max_retries=max_retries), "b"), activated(), running("a"))


def test_before_its_deadline_an_attempt_is_left_alone() -> None:
    at_work().when(expire("a"), at=after(120) - timedelta(microseconds=1)).then_nothing()


def test_at_its_deadline_an_attempt_is_to_be_stopped() -> None:
    then = at_work().when(expire("a"), at=after(120)).then(stop_requested("a", "TIMEOUT"))
    attempt = then.attempt("a")
    assert (attempt.stop_reason, attempt.phase) == ("TIMEOUT", Phase.CREATED)
    assert then.task("a").status is TaskStatus.PROCESSING


def test_the_stop_is_asked_for_once() -> None:
    at_work().when(expire("a"), at=after(120)).outcome.when(expire("a"), at=after(121)).then_nothing()


def test_waiting_in_the_queue_has_no_deadline() -> None:
    given(created("a"), activated(), queued("a")).when(expire("a"), at=after(100_000)).then_nothing()


def test_what_has_ended_has_no_deadline() -> None:
    at_work().when(finish("a")).outcome.when(expire("a"), at=after(999)).then_nothing()


def overdue(*, max_retries: int = 3) -> Given:
    return at_work(max_retries=max_retries).when(expire("a"), at=after(120)).outcome


@pytest.mark.parametrize("end", ENDS)
def test_however_it_ends_after_the_stop_it_is_a_timeout_and_tried_again(end: AgentStatus) -> None:
    then = (
        overdue()
        .when(observe("a", end, cost=0.25), at=after(121))
        .then(ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, after(122)))
    )
    attempt = then.attempt("a")
    assert attempt.failure is not None
    assert (attempt.failure.code, attempt.failure.retryable, attempt.cost) == ("TIMEOUT", True, 0.25)
    assert "120 minutes" in attempt.failure.message


def test_an_agent_that_finished_before_the_stop_reached_it_has_completed_its_task() -> None:
    """v1 has another word for those that were stopped."""
    overdue().when(finish("a"), at=after(121)).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


def test_where_stopped_agents_say_finished_too_it_was_stopped_and_what_it_left_is_kept() -> None:
    before = given(created("a"), activated(), queued("a"), started("a", api_version="v0"), agent_created("a"))
    then = before.when(expire("a"), at=after(120)).outcome
    ended = then.when(finish("a"), at=after(121)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, after(122))
    )
    attempt = ended.attempt("a")
    assert attempt.failure is not None
    assert attempt.failure.code == "TIMEOUT"
    assert attempt.result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-1", summary="Did a")


def test_a_timeout_with_no_retries_left_fails_the_task() -> None:
    then = (
        overdue(max_retries=0)
        .when(observe("a", AgentStatus.STOPPED), at=after(121))
        .then(ev.AgentStatusChanged, ev.AttemptFailed, ev.TaskFailed, ev.TaskCancelled, ev.OrchestrationFailed)
    )
    failure = then.task("a").failure
    assert failure is not None
    assert failure.code == "TIMEOUT"


def test_until_it_is_seen_to_have_ended_no_other_agent_is_queued() -> None:
    before = overdue()
    assert before.when(observe("a", AgentStatus.RUNNING)).then_nothing().attempt("a").is_active
    then = before.when(observe("a", AgentStatus.UNKNOWN), at=after(121)).then(ev.AgentStatusChanged)
    assert then.attempt("a").is_active


def test_the_next_attempt_has_a_deadline_of_its_own() -> None:
    then = overdue().when(observe("a", AgentStatus.STOPPED), at=after(121)).outcome
    again = then.and_then(queued("a", 2), started("a", 2, deadline_at=after(243)), at=after(123))
    again.when(expire("a", 2), at=after(200)).then_nothing()
    again.when(expire("a", 2), at=after(243)).then(stop_requested("a", "TIMEOUT", 2))


def unanswered() -> Given:
    """Its create was never answered."""
    return given(created("a", "b"), activated(), queued("a"), started("a"))


def test_an_agent_that_is_not_known_yet_is_to_be_stopped_too() -> None:
    then = unanswered().when(expire("a"), at=after(120)).then(stop_requested("a", "TIMEOUT"))
    assert then.attempt("a").phase is Phase.STARTED
    found = then.when(record("a"), at=after(121)).then(ev.AgentCreated)
    assert (found.attempt("a").stop_reason, found.attempt("a").phase) == ("TIMEOUT", Phase.CREATED)


def test_there_is_no_agent_after_all_the_attempt_was_a_timeout() -> None:
    before = unanswered().when(expire("a"), at=after(120)).outcome
    then = before.when(reject("a", failure=REFUSED), at=after(121)).then(
        ev.AttemptFailed, retry_scheduled("a", 1, after(122))
    )
    failure = then.attempt("a").failure
    assert failure is not None
    assert failure.code == "TIMEOUT"

"""An agent that the provider does not find any more is lost after three looks over five minutes, and never sooner."""

from datetime import timedelta
from typing import Any

import pytest

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.events import AgentStatus, TaskStatus
from shared.domain.patience import Patience
from shared.domain.plan import FreeSlot, WakeAt, plan
from tests.support.given import Given, given
from tests.support.orchestrations import (
    activated,
    after,
    agent_id,
    attempt_id,
    created,
    finish,
    make_task,
    missed,
    observe,
    queued,
    report_missing,
    result_awaited,
    retry_scheduled,
    running,
    started,
    status_changed,
    stop_requested,
    task_completed,
)

RUNNING, FINISHED = AgentStatus.RUNNING, AgentStatus.FINISHED
PATIENCE = Patience(result_grace=timedelta(minutes=1), lost_after=timedelta(minutes=5))


def at_work(**task: Any) -> Given:
    return given(created(make_task("a", **task), "b"), activated(), running("a"))


def missed_twice(before: Given | None = None) -> Given:
    then = (before or at_work()).when(report_missing("a"), at=after(10)).then(missed("a", since=after(10), times=1))
    return then.when(report_missing("a"), at=after(12.5)).then(missed("a", since=after(10), times=2))


def test_one_look_that_does_not_find_it_fails_nothing() -> None:
    then = at_work().when(report_missing("a"), at=after(10)).then(missed("a", since=after(10), times=1))
    assert then.attempt("a").is_active
    assert (then.task("a").status, then.attempt("a").status) == (TaskStatus.PROCESSING, RUNNING)


def test_looks_in_quick_succession_count_as_one() -> None:
    before = at_work().when(report_missing("a"), at=after(10)).outcome
    for seconds in range(0, 150, 10):
        before = before.when(report_missing("a"), at=after(10) + timedelta(seconds=seconds)).then_nothing()
    before.when(report_missing("a"), at=after(12.5)).then(missed("a", since=after(10), times=2))


def test_two_looks_are_too_few_however_far_apart() -> None:
    before = at_work().when(report_missing("a"), at=after(10)).outcome
    then = before.when(report_missing("a"), at=after(60)).then(missed("a", since=after(10), times=2))
    then = then.when(report_missing("a"), at=after(60.1)).then_nothing()
    then.when(report_missing("a"), at=after(62.5)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, after(63.5))
    )


def test_the_third_look_after_five_minutes_ends_the_attempt_and_another_agent_may_follow() -> None:
    before = missed_twice().when(report_missing("a"), at=after(15) - timedelta(seconds=1)).then_nothing()
    then = before.when(report_missing("a", cost=0.75), at=after(15)).then(
        status_changed("a", AgentStatus.UNKNOWN, provider_status="agent_not_found"),
        ev.AttemptFailed,
        retry_scheduled("a", 1, after(16)),
    )
    attempt = then.attempt("a")
    assert attempt.failure is not None
    assert (attempt.failure.code, attempt.failure.retryable) == ("AGENT_LOST", True)
    assert "2026-11-01 12:10:00" in attempt.failure.message
    assert (attempt.cost, attempt.missed) == (0.75, None)
    assert plan(then.state) == [FreeSlot(attempt_id("a")), WakeAt(after(16))]
    then.when(cmd.Tick(), at=after(16)).then(queued("a", 2))


def test_without_retries_the_task_fails_as_lost() -> None:
    then = missed_twice(at_work(max_retries=0)).when(report_missing("a"), at=after(15)).outcome
    failure = then.task("a").failure
    assert failure is not None
    assert failure.code == "AGENT_LOST"


@pytest.mark.parametrize("found", [RUNNING, AgentStatus.UNKNOWN])
def test_a_look_that_finds_it_in_between_begins_the_count_anew(found: AgentStatus) -> None:
    then = missed_twice().when(observe("a", found), at=after(14)).then(status_changed("a", found))
    assert then.attempt("a").missed is None
    then.when(observe("a", found), at=after(14.1)).then_nothing()
    then.when(report_missing("a"), at=after(15)).then(missed("a", since=after(15), times=1))


def test_an_agent_that_comes_back_after_all_may_finish() -> None:
    missed_twice().when(finish("a"), at=after(14)).then(status_changed("a", FINISHED), task_completed("a"), queued("b"))


@pytest.mark.parametrize("status", AgentStatus)
def test_what_is_lost_stays_so_though_it_should_appear_again(status: AgentStatus) -> None:
    lost = missed_twice().when(report_missing("a"), at=after(15)).outcome
    lost.when(observe("a", status), at=after(15.5)).then_nothing()
    lost.when(report_missing("a"), at=after(25)).then_nothing()


@pytest.mark.parametrize(
    "before",
    [
        given(created("a"), activated(), queued("a")),
        given(created("a"), activated(), queued("a"), started("a")),
    ],
)
def test_only_an_agent_that_was_there_is_missed(before: Given) -> None:
    before.when(report_missing("a"), at=after(10)).then_nothing()


def test_one_that_is_to_stop_has_stopped_once_it_is_lost() -> None:
    before = missed_twice(at_work().and_then(stop_requested("a", "PAUSE")))
    then = before.when(report_missing("a", cost=0.75), at=after(15)).outcome
    attempt = then.task("a").attempts[0]
    assert (attempt.ending, attempt.status, attempt.cost) == ("STOPPED", AgentStatus.STOPPED, 0.75)
    assert then.task("a").failure is None


def test_nobody_else_s_agent_is_missed() -> None:
    at_work().when(report_missing("a", agent_id="bc-stranger"), at=after(10)).then_nothing()


def test_a_finished_agent_that_is_gone_is_judged_by_what_it_had_shown() -> None:
    found: dict[str, Any] = {"branch": "cursor/a-1", "summary": "Did a", "duration_ms": 60_000, "cost": 0.25}
    awaiting = at_work().and_then(
        status_changed("a", FINISHED), result_awaited("a", "pull_request", until=after(9), **found), at=after(8)
    )
    then = missed_twice(awaiting)
    then.when(finish("a"), at=after(8.5), patience=PATIENCE).then(status_changed("a", FINISHED))
    then.when(observe("a", AgentStatus.UNKNOWN), at=after(14)).then_nothing()
    then.when(report_missing("a"), at=after(15)).then(task_completed("a"), queued("b"))
    assert then.attempt("a").agent_id == agent_id("a")

"""FINISHED says that the turn is over: a task is judged once what its agent leaves is there, or was looked for."""

from datetime import timedelta
from typing import Any

import pytest

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.patience import Patience
from shared.domain.plan import AwaitResult, Watch, plan
from tests.support.given import Given, When, given
from tests.support.orchestrations import (
    CANCEL,
    DELETE,
    DRAIN,
    PAUSE,
    activated,
    after,
    agent_created,
    created,
    expire,
    finish,
    follow_up,
    make_task,
    observe,
    queued,
    result_awaited,
    retry_scheduled,
    running,
    started,
    status_changed,
    stop,
    stop_requested,
    task_completed,
)

FINISHED, RUNNING = AgentStatus.FINISHED, AgentStatus.RUNNING
PR = "https://github.com/acme/shop/pull/7"
USAGE = ev.Usage(input_tokens=1, output_tokens=2, total_tokens=3)
A_MINUTE = Patience(result_grace=timedelta(minutes=1))
SEEN_AT = after(9)
OVER_AT = after(10)
FOUND: dict[str, Any] = {"branch": "cursor/a-1", "summary": "Did a", "duration_ms": 60_000, "cost": 0.25}


def at_work(*tasks: Any, **spec: Any) -> Given:
    return given(created(*(tasks or ("a", "b")), **spec), activated(), running("a"))


def seen(before: Given, at: Any = SEEN_AT, **left: Any) -> When:
    return before.when(finish("a", **left), at=at, patience=A_MINUTE)


def awaiting(*tasks: Any, **spec: Any) -> Given:
    """The agent of "a" has finished with everything but its pull request."""
    return seen(at_work(*tasks, **spec)).then(
        status_changed("a", FINISHED), result_awaited("a", "pull_request", until=OVER_AT, **FOUND)
    )


def test_with_everything_there_the_first_look_is_one_commit_that_goes_on() -> None:
    seen(at_work(), pr_url=PR).then(status_changed("a", FINISHED), ev.TaskCompleted, queued("b"))


@pytest.mark.parametrize(
    ("left", "spec", "missing"),
    [
        ({}, {}, ["pull_request"]),
        ({"pr_url": ""}, {"deliverable": "pr", "auto_create_pr": False}, ["pull_request"]),
        ({"branch": None, "pr_url": PR}, {}, ["branch"]),
        ({"branch": None, "summary": ""}, {"auto_create_pr": False}, ["branch", "summary"]),
        ({"usage_pending": True, "pr_url": PR}, {}, ["usage"]),
        ({"branch": None, "summary": None, "usage_pending": True}, {}, ["branch", "pull_request", "summary", "usage"]),
    ],
)
def test_what_is_missing_is_looked_for(left: dict[str, Any], spec: dict[str, Any], missing: list[Any]) -> None:
    then = seen(at_work(**spec), **left).then(status_changed("a", FINISHED), ev.AttemptResultAwaited)
    awaited = then.attempt("a").awaited
    assert awaited is not None
    assert (list(awaited.missing), awaited.since, awaited.until) == (missing, SEEN_AT, OVER_AT)
    assert (then.task("a").status, then.attempt("a").status) == (TaskStatus.PROCESSING, FINISHED)


def test_no_pull_request_is_looked_for_where_none_is_to_be_made() -> None:
    seen(at_work(auto_create_pr=False)).then(status_changed("a", FINISHED), task_completed("a"), queued("b"))


def test_usage_that_is_there_or_will_never_come_is_not_looked_for() -> None:
    for left in ({"usage": USAGE, "usage_pending": True}, {"usage": None}):
        seen(at_work(), pr_url=PR, **left).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


def test_it_goes_on_as_soon_as_everything_is_there() -> None:
    then = seen(awaiting(), at=after(9.2), pr_url=PR).then(ev.TaskCompleted, queued("b"))
    assert then.task("a").result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-1", pr_url=PR, summary="Did a")
    assert then.attempt("a").awaited is None


def test_what_is_still_missing_is_told_once() -> None:
    then = seen(at_work(), summary=None).outcome
    again = seen(then, at=after(9.1), summary=None).then_nothing()
    more = seen(again, at=after(9.2)).then(result_awaited("a", "pull_request", until=OVER_AT, **FOUND))
    awaited = more.attempt("a").awaited
    assert awaited is not None
    assert awaited.since == SEEN_AT


def test_when_the_grace_is_over_what_there_is_counts() -> None:
    before = seen(awaiting(), at=OVER_AT - timedelta(microseconds=1)).then_nothing()
    seen(before, at=OVER_AT).then(task_completed("a"), queued("b"))


def test_the_grace_is_that_of_the_first_look_whatever_is_set_since() -> None:
    before = awaiting()
    before.when(finish("a"), at=after(9.5), patience=Patience()).then_nothing()
    longer = Patience(result_grace=timedelta(hours=1))
    before.when(finish("a"), at=OVER_AT, patience=longer).then(task_completed("a"), queued("b"))


def test_an_agent_that_left_nothing_by_then_changed_nothing() -> None:
    before = seen(at_work(), branch=None).outcome
    then = seen(before, at=OVER_AT, branch=None).then(ev.TaskCompleted, queued("b"))
    result = then.task("a").result
    assert result is not None
    assert result.outcome == "NO_CHANGE"


def test_what_the_orchestration_asks_for_may_come_late() -> None:
    before = awaiting(deliverable="pr")
    seen(before, at=after(9.5), pr_url=PR).then(ev.TaskCompleted, queued("b"))
    seen(before, at=OVER_AT).then(ev.AttemptFailed, retry_scheduled("a", 1, after(11)))


def test_the_end_of_an_agent_that_failed_is_not_waited_for() -> None:
    failed = observe("a", AgentStatus.FAILED)
    at_work().when(failed, patience=A_MINUTE).then(ev.AgentStatusChanged, ev.AttemptFailed, ev.TaskRetryScheduled)


def test_what_was_seen_once_is_not_lost_by_a_look_that_shows_less() -> None:
    before = seen(at_work(), summary=None, usage=USAGE, cost=0.5).outcome
    then = seen(before, at=OVER_AT, branch=None, duration_ms=None, cost=0.9).then(ev.TaskCompleted, queued("b"))
    assert then.task("a").result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-1", summary="Did a")
    attempt = then.attempt("a")
    assert (attempt.usage, attempt.cost, attempt.duration_ms) == (USAGE, 0.5, 60_000)


def test_a_price_by_usage_replaces_an_estimate() -> None:
    before = seen(at_work(), pr_url=PR, usage_pending=True, cost=0.9).outcome
    then = seen(before, at=after(9.1), pr_url=PR, usage=USAGE, cost=0.5).then(ev.TaskCompleted, queued("b"))
    assert (then.attempt("a").usage, then.attempt("a").cost) == (USAGE, 0.5)


def test_the_time_that_is_waited_is_none_that_the_agent_worked() -> None:
    before = seen(at_work(), duration_ms=None).outcome
    then = seen(before, at=OVER_AT, duration_ms=None).outcome
    assert then.attempt("a").duration_ms == 9 * 60_000


@pytest.mark.parametrize("late", [AgentStatus.CREATING, RUNNING, AgentStatus.UNKNOWN])
def test_a_finished_agent_does_not_go_back_to_work(late: AgentStatus) -> None:
    awaiting().when(observe("a", late), at=after(9.1), patience=A_MINUTE).then_nothing()


def test_an_agent_that_is_at_work_when_its_result_was_to_be_there_has_been_set_to_work_again() -> None:
    """Else nobody could stop it any more."""
    then = awaiting().when(observe("a", RUNNING), at=OVER_AT, patience=A_MINUTE).then(status_changed("a", RUNNING))
    assert then.attempt("a").awaited is None
    then.when(stop("a"), at=after(11)).then(stop_requested("a", "REQUESTED"))
    then.when(expire("a"), at=after(999)).then(stop_requested("a", "TIMEOUT"))
    seen(then, at=after(20)).then(
        status_changed("a", FINISHED), result_awaited("a", "pull_request", until=after(21), **FOUND)
    )


@pytest.mark.parametrize("late", [AgentStatus.CREATING, AgentStatus.UNKNOWN])
def test_what_says_nothing_of_work_says_nothing_after_the_grace_either(late: AgentStatus) -> None:
    awaiting().when(observe("a", late), at=OVER_AT, patience=A_MINUTE).then_nothing()


@pytest.mark.parametrize("late", [AgentStatus.CREATING, AgentStatus.UNKNOWN])
def test_what_goes_on_saying_nothing_when_its_time_is_over_has_finished(late: AgentStatus) -> None:
    """Else it would hold its slot for ever: neither a stop nor the deadline is for what has finished."""
    before = awaiting()
    before.when(observe("a", late), at=after(59), patience=A_MINUTE).then_nothing()
    then = before.when(observe("a", late), at=after(999), patience=A_MINUTE).then(task_completed("a"), queued("b"))
    assert then.attempt("a").status is FINISHED


@pytest.mark.parametrize("late", [AgentStatus.STOPPED, AgentStatus.EXPIRED, AgentStatus.FAILED])
def test_an_agent_that_finished_has_finished_whatever_is_said_of_it_later(late: AgentStatus) -> None:
    then = awaiting().when(observe("a", late), at=after(9.1), patience=A_MINUTE).then(task_completed("a"), queued("b"))
    assert then.attempt("a").status is FINISHED


def test_where_the_reply_to_the_create_is_overtaken_the_grace_begins_all_the_same() -> None:
    before = given(created("a", "b"), activated(), queued("a"), started("a"))
    seen(before).then(ev.AgentCreated, status_changed("a", FINISHED), ev.AttemptResultAwaited)


# What is asked meanwhile: there is no agent to be stopped any more


def test_a_finished_agent_has_no_deadline() -> None:
    awaiting().when(expire("a"), at=after(999)).then_nothing()


def test_a_finished_agent_cannot_be_stopped() -> None:
    awaiting().when(stop("a"), at=after(9.1)).then_refused("ALREADY_COMPLETED")


def test_a_finished_agent_takes_no_further_prompt_before_its_result_is_there() -> None:
    awaiting().when(follow_up("a"), at=after(9.1)).then_refused("ALREADY_ACTIVE")


@pytest.mark.parametrize("pause", [PAUSE, DRAIN])
def test_a_pause_lets_the_result_come(pause: cmd.PauseOrchestration) -> None:
    before = awaiting().when(pause, at=after(9.1)).then(ev.OrchestrationPaused)
    then = seen(before, at=after(9.2), pr_url=PR).then(ev.TaskCompleted)
    assert then.state.status is OrchestrationStatus.PAUSED


def test_only_looks_at_it_are_under_way() -> None:
    before = awaiting().when(PAUSE, at=after(9.1)).outcome
    assert [type(action) for action in plan(before.state)] == [Watch, AwaitResult]


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_cancel_takes_what_there_is(version: str) -> None:
    """By v0's word an agent that we stopped may be FINISHED too; this one was seen so before."""
    before = given(created("a", "b"), activated(), queued("a"), started("a", api_version=version), agent_created("a"))
    then = (
        seen(before)
        .outcome.when(CANCEL, at=after(9.1))
        .then(
            ev.OrchestrationCancelRequested,
            stop_requested("a", "CANCEL"),
            ev.TaskCancelled,
            task_completed("a"),
            ev.OrchestrationCancelled,
        )
    )
    assert then.task("a").status is TaskStatus.COMPLETED
    assert then.state.status is OrchestrationStatus.CANCELLED


def test_a_cancel_of_what_was_asked_for_more_keeps_what_there_is() -> None:
    then = awaiting(deliverable="pr").when(CANCEL, at=after(9.1)).outcome
    assert then.task("a").status is TaskStatus.CANCELLED
    assert then.attempt("a").result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-1", summary="Did a")
    assert then.attempt("a").cost == 0.25
    assert then.state.status is OrchestrationStatus.CANCELLED


def test_a_cancel_waits_for_the_agents_that_are_still_at_work() -> None:
    before = awaiting("a", "b", execution_mode="parallel").and_then(running("b"))
    then = before.when(CANCEL, at=after(9.1)).outcome
    assert (then.state.status, then.task("a").status) == (OrchestrationStatus.CANCELLING, TaskStatus.COMPLETED)
    assert then.attempt("b").stop_reason == "CANCEL"


def test_a_delete_takes_what_there_is() -> None:
    then = awaiting().when(DELETE, at=after(9.1)).outcome
    assert then.state.deleted
    assert then.task("a").status is TaskStatus.COMPLETED


@pytest.mark.parametrize(("deliverable", "status"), [("branch", TaskStatus.COMPLETED), ("pr", TaskStatus.CANCELLED)])
def test_the_failure_of_another_under_fail_fast_takes_what_there_is(deliverable: str, status: TaskStatus) -> None:
    tasks = ("a", make_task("b", max_retries=0))
    before = awaiting(*tasks, execution_mode="parallel", deliverable=deliverable).and_then(running("b"))
    then = before.when(observe("b", AgentStatus.FAILED), at=after(9.1), patience=A_MINUTE).outcome
    assert then.task("a").status is status
    assert then.state.status is OrchestrationStatus.FAILED


@pytest.mark.parametrize("reason", ["TIMEOUT", "REQUESTED", "PAUSE", "CANCEL", "FAIL_FAST"])
def test_what_was_to_be_stopped_before_it_finished_is_judged_at_once(reason: Any) -> None:
    then = seen(at_work().and_then(stop_requested("a", reason))).outcome
    assert not then.attempt("a").is_active

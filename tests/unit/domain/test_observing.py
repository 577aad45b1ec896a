"""What is seen of an agent: by poll and by webhook, twice, late, in any order."""

from typing import Any

import pytest

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.plan import Watch, plan
from shared.domain.state import Phase
from tests.support.given import Given, given
from tests.support.orchestrations import (
    T0,
    activated,
    after,
    agent_created,
    agent_id,
    attempt_id,
    created,
    done,
    finish,
    make_task,
    observe,
    queued,
    record,
    retry_scheduled,
    running,
    started,
    status_changed,
    task_completed,
    task_failed,
)

CREATING, RUNNING, FINISHED = AgentStatus.CREATING, AgentStatus.RUNNING, AgentStatus.FINISHED
FAILED, STOPPED, EXPIRED, UNKNOWN = (
    AgentStatus.FAILED,
    AgentStatus.STOPPED,
    AgentStatus.EXPIRED,
    AgentStatus.UNKNOWN,
)


def new_agent() -> Given:
    return given(created("a", "b"), activated(), queued("a"), started("a"), agent_created("a"))


def test_an_agent_that_begins_to_run_is_seen_once() -> None:
    then = new_agent().when(observe("a", RUNNING)).then(status_changed("a", RUNNING))
    then.when(observe("a", RUNNING, source="webhook")).then_nothing()


def test_a_word_that_is_not_known_is_kept_and_ends_nothing() -> None:
    seen = observe("a", UNKNOWN, provider_status="PONDERING")
    then = new_agent().when(seen).then(status_changed("a", UNKNOWN, provider_status="PONDERING"))
    assert then.attempt("a").is_active
    assert then.attempt("a").provider_status == "PONDERING"
    then.when(seen).then_nothing()
    then.when(observe("a", UNKNOWN, provider_status="DREAMING")).then(ev.AgentStatusChanged)
    then.when(observe("a", RUNNING)).then(status_changed("a", RUNNING))


@pytest.mark.parametrize("seen", [CREATING, RUNNING])
def test_an_agent_that_had_no_run_yet_when_it_was_found_gets_the_first_that_is_seen(seen: AgentStatus) -> None:
    """By its run its stream is followed, it is stopped, and a follow-up is told from what it did before."""
    found = agent_created("a").model_copy(update={"run_id": None})
    before = given(created("a"), activated(), queued("a"), started("a"), found)
    then = before.when(observe("a", seen, run_id="run-1")).then(
        status_changed("a", seen).model_copy(update={"run_id": "run-1"})
    )
    assert then.attempt("a").run_id == "run-1"
    assert plan(then.state) == [Watch(attempt_id("a"), agent_id("a"), "run-1")]
    then.when(observe("a", seen, run_id="run-2")).then_nothing()
    ended = then.when(observe("a", FAILED, run_id="run-2")).outcome
    assert ended.task("a").attempts[0].run_id == "run-1"


@pytest.mark.parametrize("now", [RUNNING, UNKNOWN])
def test_an_agent_never_goes_back_to_being_created(now: AgentStatus) -> None:
    new_agent().and_then(status_changed("a", now)).when(observe("a", CREATING)).then_nothing()


def test_the_agent_of_another_is_not_listened_to() -> None:
    new_agent().when(finish("a", agent_id="bc-stranger")).then_nothing()


def test_an_attempt_in_the_queue_has_no_agent_to_be_seen() -> None:
    given(created("a"), activated(), queued("a")).when(finish("a")).then_nothing()


def before_the_reply(api_version: str = "v1") -> Given:
    return given(created("a", "b"), activated(), queued("a"), started("a", api_version=api_version))


def test_seen_before_the_create_s_reply_the_agent_is_recorded() -> None:
    then = before_the_reply().when(observe("a", RUNNING)).then(ev.AgentCreated)
    assert (then.attempt("a").phase, then.attempt("a").status) == (Phase.CREATED, RUNNING)
    then.when(record("a")).then_nothing()


def test_finished_before_the_create_s_reply_the_result_counts() -> None:
    then = (
        before_the_reply()
        .when(finish("a"))
        .then(ev.AgentCreated, status_changed("a", FINISHED), task_completed("a"), queued("b"))
    )
    then.when(record("a")).then_nothing()


def test_before_the_reply_only_the_agent_that_was_asked_for_is_taken() -> None:
    before_the_reply("v1").when(finish("a", agent_id="bc-stranger")).then_nothing()


def test_where_the_provider_chooses_the_id_the_first_agent_seen_is_the_attempt_s() -> None:
    then = before_the_reply("v0").when(observe("a", RUNNING, agent_id="bc-chosen")).then(ev.AgentCreated)
    assert then.attempt("a").agent_id == "bc-chosen"


def test_finished_with_a_branch_the_task_is_completed_and_the_next_one_queued() -> None:
    then = (
        new_agent().when(finish("a"), at=after(9)).then(status_changed("a", FINISHED), task_completed("a"), queued("b"))
    )
    task, attempt = then.task("a"), then.attempt("a")
    assert (task.status, task.completed_at, task.failure) == (TaskStatus.COMPLETED, after(9), None)
    assert task.result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-1", summary="Did a")
    assert (attempt.cost, attempt.duration_ms, attempt.status, attempt.ended_at) == (0.25, 60_000, FINISHED, after(9))


def test_everything_that_the_agent_left_behind_is_kept() -> None:
    usage = ev.Usage(input_tokens=1, output_tokens=2, total_tokens=3)
    pr = "https://github.com/acme/shop/pull/7"
    then = new_agent().when(finish("a", pr_url=pr, usage=usage)).outcome
    [event] = [e for e in new_agent().when(finish("a", pr_url=pr, usage=usage)).events if e.type == "task.completed"]
    assert isinstance(event, ev.TaskCompleted)
    assert (event.result.pr_url, event.usage, then.attempt("a").usage) == (pr, usage, usage)


def test_without_a_duration_of_the_provider_our_own_clock_counts() -> None:
    then = new_agent().when(finish("a", duration_ms=None, cost=None), at=after(3)).outcome
    assert (then.attempt("a").duration_ms, then.attempt("a").cost) == (180_000, 0.0)


def test_an_agent_that_changed_nothing_is_recorded_as_such() -> None:
    then = (
        new_agent()
        .when(finish("a", branch=None))
        .then(status_changed("a", FINISHED), task_completed("a", branch=None), queued("b"))
    )
    result = then.task("a").result
    assert result is not None
    assert result.outcome == "NO_CHANGE"


PR = "https://github.com/acme/shop/pull/7"


@pytest.mark.parametrize(
    ("deliverable", "left", "counts"),
    [
        ("any", {"branch": None}, True),
        ("branch", {"branch": "x"}, True),
        ("branch", {"branch": None}, False),
        ("branch", {"branch": None, "pr_url": PR}, False),
        ("pr", {"branch": "x", "pr_url": PR}, True),
        ("pr", {"branch": None, "pr_url": PR}, True),
        ("pr", {"branch": "x"}, False),
        ("pr", {"branch": "x", "pr_url": ""}, False),
    ],
)
def test_success_is_what_the_orchestration_asks_to_be_left_behind(
    deliverable: str, left: dict[str, Any], counts: bool
) -> None:
    before = given(created("a", "b", deliverable=deliverable), activated(), running("a"))
    when = before.when(finish("a", **left))
    if counts:
        when.then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))
        return
    then = when.then(ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, after(1)))
    failure = then.attempt("a").failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("DELIVERABLE_MISSING", True)
    assert deliverable in failure.message


@pytest.mark.parametrize(("status", "code"), [(FAILED, "AGENT_FAILED"), (EXPIRED, "AGENT_EXPIRED")])
def test_an_agent_that_failed_or_expired_is_tried_again(status: AgentStatus, code: str) -> None:
    then = (
        new_agent()
        .when(observe("a", status, cost=0.5, duration_ms=1_000))
        .then(status_changed("a", status), ev.AttemptFailed, retry_scheduled("a", 1, after(1)))
    )
    attempt = then.attempt("a")
    assert attempt.failure is not None
    assert (attempt.failure.code, attempt.cost, attempt.duration_ms, attempt.status) == (code, 0.5, 1_000, status)


def test_an_agent_that_somebody_stopped_at_the_provider_is_not_tried_again() -> None:
    then = (
        new_agent()
        .when(observe("a", STOPPED))
        .then(status_changed("a", STOPPED), ev.AttemptFailed, ev.TaskFailed, ev.TaskCancelled, ev.OrchestrationFailed)
    )
    failure = then.task("a").failure
    assert failure is not None
    assert failure.code == "AGENT_STOPPED"


@pytest.mark.parametrize("status", [FINISHED, FAILED, STOPPED, EXPIRED])
def test_an_end_counts_once_and_whatever_comes_late_changes_nothing(status: AgentStatus) -> None:
    then = new_agent().when(finish("a") if status is FINISHED else observe("a", status)).outcome
    for late in AgentStatus:
        then.when(observe("a", late), at=after(99)).then_nothing()


def test_a_late_word_of_an_earlier_attempt_does_not_touch_the_next_one() -> None:
    then = new_agent().when(observe("a", FAILED)).outcome.and_then(running("a", 2), at=after(2))
    then.when(finish("a", 1), at=after(3)).then_nothing()
    then.when(finish("a", 2), at=after(3)).then(status_changed("a", FINISHED, 2), task_completed("a", 2), queued("b"))


def test_the_only_task_done_the_orchestration_is_completed() -> None:
    before = given(created("a"), activated(), running("a"))
    then = before.when(finish("a"), at=after(10)).then(
        status_changed("a", FINISHED), task_completed("a"), ev.OrchestrationCompleted
    )
    state = then.state
    assert (state.status, state.summary) == (OrchestrationStatus.COMPLETED, "The task completed successfully")
    assert (state.ended_at, state.activated_at) == (after(10), T0)
    assert state.statistics == ev.Statistics(
        total_tasks=1,
        pending_tasks=0,
        processing_tasks=0,
        completed_tasks=1,
        failed_tasks=0,
        cancelled_tasks=0,
        skipped_tasks=0,
        duration_ms=600_000,
        total_cost=0.25,
    )


def test_the_last_of_several_done_the_orchestration_is_completed() -> None:
    then = given(created("a", "b", "c"), activated(), done("a"), done("b"), running("c")).when(finish("c")).outcome
    assert then.state.status is OrchestrationStatus.COMPLETED
    assert then.state.summary == "All 3 tasks completed successfully"
    assert then.state.total_cost == pytest.approx(0.75)


def test_a_success_after_a_failure_leaves_no_failure_on_the_task() -> None:
    then = new_agent().when(observe("a", FAILED)).outcome.and_then(running("a", 2), at=after(2))
    assert then.when(finish("a", 2), at=after(3)).outcome.task("a").failure is None


def test_without_retries_the_first_failure_is_for_good() -> None:
    before = given(created(make_task("a", max_retries=0)), activated(), running("a"))
    failure = ev.Failure(code="AGENT_FAILED", message="the agent ended in an error", retryable=True)
    before.when(observe("a", FAILED)).then(
        status_changed("a", FAILED), ev.AttemptFailed, task_failed("a", failure), ev.OrchestrationFailed
    )

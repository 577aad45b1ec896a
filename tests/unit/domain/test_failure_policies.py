"""What a task that failed for good means for the others."""

import pytest

from shared.domain import events as ev
from shared.domain.commands import Tick
from shared.domain.events import AgentStatus, OrchestrationEvent, OrchestrationStatus, TaskStatus
from shared.domain.state import Phase
from tests.support.given import Given, given
from tests.support.orchestrations import (
    OVERLOADED,
    activated,
    add,
    after,
    created,
    done,
    expire,
    finish,
    make_task,
    observe,
    queued,
    record,
    reject,
    retry_scheduled,
    running,
    start,
    started,
    stop_requested,
    task_cancelled,
    task_failed,
)

LOST = "a task that it depends on did not complete"


def kinds(events: tuple[OrchestrationEvent, ...]) -> list[str]:
    return [event.type for event in events]


# fail_fast


def test_fail_fast_cancels_what_has_not_begun_and_fails_the_orchestration() -> None:
    before = given(created("a", "b", "c"), activated(), done("a"), queued("b"), started("b"))
    then = before.when(reject("b"), at=after(4)).then(
        ev.AttemptFailed, task_failed("b"), task_cancelled("c"), ev.OrchestrationFailed
    )
    state = then.state
    assert (state.status, state.summary) == (OrchestrationStatus.FAILED, "1/3 tasks completed")
    assert state.failure is not None
    assert (state.failure.code, state.failure.message) == ("INVALID_REPOSITORY", "task 'Task b' failed: no access")
    assert state.ended_at == after(4)
    assert state.statistics is not None
    assert (state.statistics.completed_tasks, state.statistics.failed_tasks, state.statistics.cancelled_tasks) == (
        1,
        1,
        1,
    )


def failing() -> Given:
    """In parallel: a failed for good; b's agent runs, c's create is not answered, d is queued, e waits for a place."""
    before = given(
        created("a", "b", "c", "d", "e", execution_mode="parallel", max_parallel=4),
        activated(),
        [queued(task) for task in "abcd"],
        started("a"),
        running("b")[1:],
        started("c"),
    )
    return before.when(reject("a")).then(
        ev.AttemptFailed,
        task_failed("a"),
        stop_requested("b", "FAIL_FAST"),
        stop_requested("c", "FAIL_FAST"),
        task_cancelled("d"),
        task_cancelled("e"),
    )


def test_fail_fast_stops_what_runs_and_ends_only_when_all_of_it_has_ended() -> None:
    story = failing()
    assert story.state.status is OrchestrationStatus.ACTIVE
    assert (story.task("b").status, story.task("d").status) == (TaskStatus.PROCESSING, TaskStatus.CANCELLED)
    assert story.attempt("d").phase is Phase.ENDED
    story = story.when(observe("b", AgentStatus.STOPPED)).then(
        ev.AgentStatusChanged, ev.AttemptStopped, task_cancelled("b")
    )
    story = story.when(record("c")).then(ev.AgentCreated)
    story = story.when(observe("c", AgentStatus.STOPPED)).then(
        ev.AgentStatusChanged, ev.AttemptStopped, task_cancelled("c"), ev.OrchestrationFailed
    )
    assert story.state.summary == "0/5 tasks completed"


def test_the_stops_are_asked_for_once() -> None:
    failing().when(Tick(), at=after(1)).then_nothing()
    failing().when(observe("b", AgentStatus.RUNNING)).then_nothing()


@pytest.mark.parametrize("end", [AgentStatus.STOPPED, AgentStatus.FAILED, AgentStatus.EXPIRED])
def test_an_agent_stopped_for_another_s_failure_is_cancelled_and_has_not_failed(end: AgentStatus) -> None:
    seen = observe("b", end, cost=0.5, branch="cursor/b-1")
    then = failing().when(seen).then(ev.AgentStatusChanged, ev.AttemptStopped, task_cancelled("b"))
    task, attempt = then.task("b"), then.attempt("b")
    assert (attempt.ending, attempt.stop_reason, attempt.failure, attempt.cost) == ("STOPPED", "FAIL_FAST", None, 0.5)
    assert attempt.result == ev.TaskResult(outcome="DELIVERED", branch="cursor/b-1")
    assert (task.status, task.retry_count, task.failure, task.cancel_cause) == (
        TaskStatus.CANCELLED,
        0,
        None,
        "FAIL_FAST",
    )


def test_an_agent_that_finished_before_the_stop_reached_it_has_completed_its_task() -> None:
    then = failing().when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted)
    assert then.task("b").status is TaskStatus.COMPLETED


def test_a_create_that_is_refused_after_the_stop_ends_the_attempt() -> None:
    failing().when(reject("c", failure=OVERLOADED)).then(ev.AttemptStopped, task_cancelled("c"))


def test_a_task_added_while_the_others_are_being_stopped_is_begun() -> None:
    """The failure gave up what there was then; whoever adds a task afterwards wants it done."""
    failing().when(add("f")).then(ev.TaskAdded, queued("f"))


def test_an_attempt_that_was_being_stopped_for_its_time_is_not_tried_again_either() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), running("a"), queued("b"), started("b"))
    overdue = before.when(expire("a"), at=after(120)).outcome
    failed = overdue.when(reject("b"), at=after(121)).then(
        ev.AttemptFailed, task_failed("b"), stop_requested("a", "FAIL_FAST")
    )
    then = failed.when(observe("a", AgentStatus.STOPPED), at=after(122)).outcome
    assert then.task("a").status is TaskStatus.CANCELLED
    assert then.task("a").retry_at is None
    assert then.state.status is OrchestrationStatus.FAILED


def test_a_retry_that_was_waiting_is_cancelled() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), running("a"), queued("b"), started("b"))
    waiting = before.when(observe("a", AgentStatus.FAILED)).outcome
    then = waiting.when(reject("b")).then(
        ev.AttemptFailed, task_failed("b"), task_cancelled("a"), ev.OrchestrationFailed
    )
    then.when(Tick(), at=after(60)).then_nothing()


def test_what_was_completed_before_stays_completed() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), done("a"), queued("b"), started("b"))
    then = before.when(reject("b")).outcome
    assert then.task("a").status is TaskStatus.COMPLETED
    assert then.state.status is OrchestrationStatus.FAILED


# continue


def test_continue_goes_on_with_the_next_task_and_ends_partially_completed() -> None:
    before = given(created("a", "b", failure_policy="continue"), activated(), queued("a"), started("a"))
    then = before.when(reject("a")).then(ev.AttemptFailed, task_failed("a"), queued("b"))
    ended = (
        then.and_then(running("b")[1:])
        .when(finish("b"))
        .then(ev.AgentStatusChanged, ev.TaskCompleted, ev.OrchestrationCompleted)
    )
    assert ended.state.status is OrchestrationStatus.PARTIAL_COMPLETED
    assert ended.state.summary == "1/2 tasks completed"


def test_continue_without_any_success_has_failed() -> None:
    before = given(created("a", "b", failure_policy="continue"), activated(), queued("a"), started("a"))
    story = before.when(reject("a")).outcome
    story = (
        story.when(start("b"))
        .outcome.when(reject("b"))
        .then(ev.AttemptFailed, task_failed("b"), ev.OrchestrationFailed)
    )
    assert (story.state.status, story.state.summary) == (OrchestrationStatus.FAILED, "0/2 tasks completed")


def test_continue_leaves_those_that_run_alone() -> None:
    before = given(
        created("a", "b", execution_mode="parallel", failure_policy="continue"),
        activated(),
        running("a"),
        queued("b"),
        started("b"),
    )
    before.when(reject("b")).then(ev.AttemptFailed, task_failed("b")).when(finish("a")).then(
        ev.AgentStatusChanged, ev.TaskCompleted, ev.OrchestrationCompleted
    )


def test_continue_cancels_all_that_depend_on_what_failed_also_through_others() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)), make_task("c", depends_on=("b",)), "d")
    before = given(created(*tasks, failure_policy="continue"), activated(), queued("a"), started("a"))
    story = before.when(reject("a")).then(
        ev.AttemptFailed,
        task_failed("a"),
        task_cancelled("b", "DEPENDENCY", LOST),
        task_cancelled("c", "DEPENDENCY", LOST),
        queued("d"),
    )
    ended = story.when(start("d")).outcome.when(finish("d")).outcome
    assert ended.state.status is OrchestrationStatus.PARTIAL_COMPLETED
    assert ended.state.statistics is not None
    assert ended.state.statistics.cancelled_tasks == 2


def test_continue_finds_dependants_that_stand_before_what_they_depend_on() -> None:
    tasks = (make_task("c", depends_on=("b",)), make_task("b", depends_on=("a",)), "a")
    before = given(created(*tasks, failure_policy="continue"), activated(), queued("a"), started("a"))
    when = before.when(reject("a"))
    assert kinds(when.events) == [
        "attempt.failed",
        "task.failed",
        "task.cancelled",
        "task.cancelled",
        "orchestration.failed",
    ]


def test_one_lost_dependency_of_several_is_enough() -> None:
    tasks = ("a", "b", make_task("c", depends_on=("a", "b")))
    before = given(
        created(*tasks, execution_mode="parallel", failure_policy="continue"),
        activated(),
        running("a"),
        queued("b"),
        started("b"),
    )
    before.when(reject("b")).then(ev.AttemptFailed, task_failed("b"), task_cancelled("c", "DEPENDENCY", LOST))


def test_a_retry_that_is_still_to_come_loses_nothing() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    before = given(created(*tasks, failure_policy="continue"), activated(), running("a"))
    before.when(observe("a", AgentStatus.FAILED)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, after(1))
    )

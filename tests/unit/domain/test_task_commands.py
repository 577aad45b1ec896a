"""What users ask of single tasks: add one, retry, restart or skip it, and what that means for the others."""

from typing import Any

import pytest

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.task_commands import MAX_TASKS
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    OVERLOADED,
    PAUSE,
    RESUME,
    TICK,
    activated,
    add,
    after,
    attempt_failed,
    attempt_stopped,
    created,
    done,
    finish,
    make_task,
    observe,
    queued,
    reject,
    restart,
    resumed,
    retry,
    retry_scheduled,
    running,
    skip,
    start,
    started,
    status_changed,
    stop_requested,
    task_cancelled,
    task_completed,
    task_failed,
    task_reset,
    task_skipped,
    withdrawn,
)

REOPENED = ev.OrchestrationReopened()
LOST = "a task that it depends on did not complete"


def completed(*tasks: str, **spec: Any) -> Given:
    """Ended ten minutes after it began."""
    *before, last = tasks or ("a",)
    story = given(created(*before, last, **spec), activated(), *(done(task) for task in before), running(last))
    return story.when(finish(last), at=after(10)).outcome


def failed(*tasks: Any, **spec: Any) -> Given:
    """Its first task was refused for good, five minutes after it began."""
    story = given(created(*(tasks or ("a",)), **spec), activated(), queued("a"), started("a"))
    return story.when(reject("a"), at=after(5)).outcome


# Add


def test_added_before_activation_a_task_waits_with_the_others() -> None:
    then = given(created("a")).when(add("b")).then(ev.TaskAdded(task=make_task("b", order_index=1)))
    assert (list(then.state.tasks), then.state.status) == (["a", "b"], OrchestrationStatus.PENDING)
    assert then.task("b").created_at == then.state.updated_at


def test_added_in_sequence_a_task_waits_for_its_turn() -> None:
    then = given(created("a"), activated(), running("a")).when(add("b")).then(ev.TaskAdded)
    then.when(finish("a")).then(status_changed("a", AgentStatus.FINISHED), task_completed("a"), queued("b"))


def test_added_in_parallel_a_task_is_queued_at_once() -> None:
    before = given(created("a", execution_mode="parallel"), activated(), running("a"))
    before.when(add("b", priority="high")).then(ev.TaskAdded, queued("b", priority="high"))


def test_a_task_is_added_at_the_end_unless_it_has_a_place() -> None:
    before = given(created("a", "b"))
    assert list(before.when(add("c", order_index=0)).outcome.state.tasks) == ["a", "b", "c"]
    placed = before.when(add("c", order_index=0, at_end=False)).outcome
    assert (list(placed.state.tasks), placed.task("c").spec.order_index) == (["a", "c", "b"], 0)


def test_added_while_it_is_paused_a_task_waits_for_its_end() -> None:
    story = given(created("a"), activated(), queued("a")).when(PAUSE).outcome
    story.when(add("b")).then(ev.TaskAdded).when(RESUME).then(resumed(), queued("a", 2))


@pytest.mark.parametrize("story", [completed(), failed(), given(created("a")).when(CANCEL).outcome])
def test_added_to_one_that_is_over_it_goes_on(story: Given) -> None:
    then = story.when(add("b"), at=after(30)).then(REOPENED, ev.TaskAdded, queued("b"))
    state = then.state
    assert (state.status, state.ended_at, state.summary, state.failure, state.statistics) == (
        OrchestrationStatus.ACTIVE,
        None,
        None,
        None,
        None,
    )
    assert state.tasks["a"] == story.state.tasks["a"]


def test_a_failure_from_before_still_counts_at_the_end() -> None:
    story = failed().when(add("b")).outcome.and_then(running("b")[1:])
    then = story.when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted, ev.OrchestrationFailed)
    assert then.state.summary == "1/2 tasks completed"


def test_a_task_is_added_once() -> None:
    given(created("a")).when(add("b")).outcome.when(add("b")).then_refused("INVALID_STATE_TRANSITION")


def test_there_are_at_most_fifty_tasks() -> None:
    names = [f"t{number}" for number in range(MAX_TASKS)]
    assert MAX_TASKS == 50
    given(created(*names[1:])).when(add("b")).then(ev.TaskAdded)
    given(created(*names)).when(add("b")).then_refused("INVALID_TASK")


@pytest.mark.parametrize("depends_on", [("x",), ("b",), ("a", "x")])
def test_a_task_is_added_only_behind_others_that_exist(depends_on: tuple[str, ...]) -> None:
    given(created("a")).when(add("b", depends_on=depends_on)).then_refused("INVALID_TASK")


def test_an_added_task_waits_for_what_it_depends_on() -> None:
    before = given(created("a", execution_mode="parallel"), activated(), running("a"))
    then = before.when(add("b", depends_on=("a",))).then(ev.TaskAdded)
    then.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


def test_a_task_cannot_be_added_behind_one_that_is_lost() -> None:
    failed().when(add("b", depends_on=("a",))).then_refused("INVALID_TASK")


def test_stacked_an_added_task_builds_on_what_was_done() -> None:
    completed("a", base="previous").when(add("b")).then(REOPENED, ev.TaskAdded, queued("b", base_ref="cursor/a-1"))


# Retry


def test_a_failed_task_is_retried_with_all_its_retries() -> None:
    story = given(created(make_task("a", max_retries=1)), activated(), running("a"))
    story = story.and_then(attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, after(1)), running("a", 2))
    story = story.when(observe("a", AgentStatus.FAILED, 2), at=after(5)).outcome
    assert (story.state.status, story.task("a").retry_count) == (OrchestrationStatus.FAILED, 1)
    then = story.when(retry("a"), at=after(30)).then(REOPENED, task_reset("a", "RETRY"), queued("a", 3))
    task = then.task("a")
    assert (task.status, task.retry_count, task.failure, task.failed_at) == (TaskStatus.PENDING, 0, None, None)
    assert (task.started_at, task.completed_at) == (None, None)
    again = then.and_then(running("a", 3)[1:]).when(observe("a", AgentStatus.FAILED, 3), at=after(31))
    again.then(ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, after(32)))


def test_a_failed_task_is_retried_while_others_go_on() -> None:
    before = given(
        created("a", "b", execution_mode="parallel", failure_policy="continue"), activated(), queued("a"), started("a")
    )
    story = before.and_then(running("b")).when(reject("a")).then(ev.AttemptFailed, task_failed("a"))
    story.when(retry("a")).then(task_reset("a", "RETRY"), queued("a", 2))


def test_retried_while_it_is_paused_a_task_waits() -> None:
    before = given(created("a", "b", failure_policy="continue"), activated(), queued("a"), started("a"))
    story = before.when(reject("a")).outcome.when(PAUSE).outcome
    story.when(retry("a")).then(task_reset("a", "RETRY")).when(RESUME).then(resumed(), queued("a", 2))


@pytest.mark.parametrize(
    ("story", "code"),
    [
        (completed(), "ALREADY_COMPLETED"),
        (given(created("a"), activated(), running("a")), "ALREADY_ACTIVE"),
        (given(created("a"), activated(), queued("a"), started("a")), "ALREADY_ACTIVE"),
        (given(created("a"), activated(), queued("a")), "INVALID_STATE_TRANSITION"),
        (given(created("a")), "INVALID_STATE_TRANSITION"),
        (given(created("a"), task_skipped("a")), "INVALID_STATE_TRANSITION"),
        (given(created("a")).when(CANCEL).outcome, "INVALID_STATE_TRANSITION"),
    ],
)
def test_only_a_failed_task_can_be_retried(story: Given, code: str) -> None:
    story.when(retry("a")).then_refused(code)


def test_a_task_waiting_for_its_retry_comes_by_itself() -> None:
    story = given(created("a"), activated(), running("a")).when(observe("a", AgentStatus.FAILED)).outcome
    story.when(retry("a")).then_refused("INVALID_STATE_TRANSITION")


# Restart


@pytest.mark.parametrize("story", [completed(), failed(), given(created("a")).when(CANCEL).outcome])
def test_any_finished_task_can_be_done_once_more(story: Given) -> None:
    number = len(story.task("a").attempts) + 1
    then = story.when(restart("a"), at=after(30)).then(REOPENED, task_reset("a", "RESTART"), queued("a", number))
    task = then.task("a")
    assert (task.result, task.failure, task.cancel_cause) == (None, None, None)
    assert (task.completed_at, task.failed_at) == (None, None)


def test_a_skipped_task_can_be_done_after_all() -> None:
    story = given(created("a", "b"), activated(), task_skipped("a"), running("b"))
    story = story.when(restart("a")).then(task_reset("a", "RESTART"))
    story.when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("a"))


@pytest.mark.parametrize(
    ("story", "code"),
    [
        (given(created("a"), activated(), running("a")), "ALREADY_ACTIVE"),
        (given(created("a"), activated(), queued("a")), "INVALID_STATE_TRANSITION"),
        (given(created("a")), "INVALID_STATE_TRANSITION"),
    ],
)
def test_a_task_that_is_not_finished_cannot_be_restarted(story: Given, code: str) -> None:
    story.when(restart("a")).then_refused(code)


def test_what_was_done_after_a_restarted_task_stays_done() -> None:
    then = completed("a", "b").when(restart("a")).then(REOPENED, task_reset("a", "RESTART"), queued("a", 2))
    ended = (
        then.and_then(running("a", 2)[1:])
        .when(finish("a", 2))
        .then(ev.AgentStatusChanged, ev.TaskCompleted, ev.OrchestrationCompleted)
    )
    assert ended.state.summary == "All 2 tasks completed successfully"


def test_what_depends_on_a_restarted_task_and_was_not_begun_waits_for_it_again() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    before = given(created(*tasks, execution_mode="parallel"), activated(), done("a"), queued("b"))
    then = before.when(restart("a")).then(task_reset("a", "RESTART"), withdrawn("b", "REQUEUE"), queued("a", 2))
    then.and_then(running("a", 2)[1:]).when(finish("a", 2)).then(
        ev.AgentStatusChanged, ev.TaskCompleted, queued("b", 2)
    )


def test_what_depends_on_a_restarted_task_and_is_at_work_is_left_alone() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    before = given(created(*tasks, execution_mode="parallel"), activated(), done("a"), running("b"))
    before.when(restart("a")).then(task_reset("a", "RESTART"), queued("a", 2))


@pytest.mark.parametrize("command", [restart("b"), retry("b")])
def test_what_depends_on_a_lost_task_waits_until_that_is_done_again(command: Any) -> None:
    tasks = ("a", make_task("b", depends_on=("a",), max_retries=0))
    story = given(created(*tasks, failure_policy="continue"), activated(), done("a"), queued("b"), started("b"))
    story = story.when(reject("b")).outcome.when(restart("a")).outcome.and_then(started("a", 2))
    story = story.when(reject("a", 2)).outcome
    assert (story.task("a").status, story.task("b").status) == (TaskStatus.FAILED, TaskStatus.FAILED)
    story.when(command).then_refused("INVALID_STATE_TRANSITION")
    story.when(retry("a")).outcome.when(command).then(ev.TaskReset)


# Skip


def test_a_skipped_task_counts_as_done() -> None:
    then = given(created("a", "b"), activated(), running("a")).when(skip("b")).then(task_skipped("b"))
    ended = then.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, ev.OrchestrationCompleted)
    assert (ended.state.status, ended.state.summary) == (
        OrchestrationStatus.COMPLETED,
        "1/2 tasks completed, 1 skipped",
    )


def test_skipping_the_task_whose_turn_it_is_lets_the_next_one_begin() -> None:
    before = given(created("a", "b"), activated(), queued("a"))
    then = before.when(skip("a")).then(task_skipped("a"), queued("b"))
    assert then.attempt("a").ending == "WITHDRAWN"
    then.when(start("a")).then_nothing()


def test_skipping_a_task_that_waits_for_its_retry_ends_the_wait() -> None:
    story = given(created("a", "b"), activated(), running("a")).when(observe("a", AgentStatus.FAILED)).outcome
    then = story.when(skip("a")).then(task_skipped("a"), queued("b"))
    assert (then.task("a").retry_at, then.task("a").failure) == (None, None)


def test_skipping_the_last_task_ends_it() -> None:
    before = given(created("a", "b"), activated(), done("a"), queued("b"))
    before.when(skip("b")).then(task_skipped("b"), ev.OrchestrationCompleted)


def test_skipping_everything_before_activation_leaves_nothing_to_do() -> None:
    story = given(created("a")).when(skip("a")).then(task_skipped("a"))
    assert story.state.status is OrchestrationStatus.PENDING
    then = story.when(ActivateOrchestration()).then(activated(), ev.OrchestrationCompleted)
    assert then.state.status is OrchestrationStatus.COMPLETED


def test_skipping_the_last_task_while_it_is_paused_ends_it_on_resume() -> None:
    story = given(created("a"), activated(), queued("a")).when(PAUSE).outcome
    story.when(skip("a")).then(task_skipped("a")).when(RESUME).then(resumed(), ev.OrchestrationCompleted)


def test_skipped_twice_is_skipped_once() -> None:
    given(created("a", "b")).when(skip("a")).outcome.when(skip("a")).then_nothing()
    over = given(created("a", "b"), activated(), task_skipped("a"), running("b")).when(finish("b")).outcome
    over.when(skip("a")).then_nothing()


@pytest.mark.parametrize(
    ("story", "code"),
    [
        (given(created("a", "b"), activated(), done("a"), queued("b")), "ALREADY_COMPLETED"),
        (given(created("a"), activated(), running("a")), "INVALID_STATE_TRANSITION"),
        (given(created("a"), activated(), queued("a"), started("a")), "INVALID_STATE_TRANSITION"),
        (completed(), "ALREADY_COMPLETED"),
        (failed(), "ALREADY_COMPLETED"),
        (given(created("a")).when(CANCEL).outcome, "ALREADY_COMPLETED"),
    ],
)
def test_only_a_pending_or_failed_task_of_one_under_way_can_be_skipped(story: Given, code: str) -> None:
    story.when(skip("a")).then_refused(code)


def test_a_cancelled_task_of_one_under_way_cannot_be_skipped() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)), "c")
    story = given(created(*tasks, failure_policy="continue"), activated(), queued("a"), started("a"))
    story.when(reject("a")).outcome.when(skip("b")).then_refused("INVALID_STATE_TRANSITION")


@pytest.mark.parametrize("command", [retry("x"), restart("x"), skip("x")])
def test_a_task_that_does_not_exist_is_not_found(command: Any) -> None:
    given(created("a"), activated(), queued("a")).when(command).then_refused("TASK_NOT_FOUND")


# What was given up because of a failure is done after all once that is out of the way


@pytest.mark.parametrize(("command", "reason"), [(retry("a"), "RETRY"), (restart("a"), "RESTART")])
def test_what_fail_fast_gave_up_is_taken_up_again(command: Any, reason: ev.ResetReason) -> None:
    then = (
        failed("a", "b", "c")
        .when(command)
        .then(REOPENED, task_reset("a", reason), task_reset("b", "REVIVED"), task_reset("c", "REVIVED"), queued("a", 2))
    )
    assert [task.cancel_cause for task in then.state.tasks.values()] == [None] * 3


def test_what_was_given_up_stays_so_while_another_failure_stands() -> None:
    before = given(created("a", "b", "c", execution_mode="parallel"), activated(), running("a"), running("b"))
    story = before.when(observe("a", AgentStatus.STOPPED)).outcome
    assert story.task("c").status is TaskStatus.CANCELLED
    story = story.when(observe("b", AgentStatus.STOPPED)).outcome
    story = story.and_then(task_reset("b", "RESTART"), task_failed("b"))
    then = story.when(retry("a")).then(REOPENED, task_reset("a", "RETRY"), queued("a", 2))
    assert then.task("c").status is TaskStatus.CANCELLED
    then.when(retry("b")).then(task_reset("b", "RETRY"), task_reset("c", "REVIVED"), queued("b", 2), queued("c"))


def chain() -> Given:
    tasks = ("a", make_task("b", depends_on=("a",)), make_task("c", depends_on=("b",)), "d")
    return failed(*tasks, failure_policy="continue")


def test_what_depended_on_it_is_taken_up_again_also_through_others() -> None:
    assert chain().task("c").cancel_cause == "DEPENDENCY"
    chain().when(retry("a")).then(task_reset("a", "RETRY"), task_reset("b", "REVIVED"), task_reset("c", "REVIVED"))


def test_skipping_what_failed_lets_those_behind_it_go_on() -> None:
    then = chain().when(skip("a")).then(task_skipped("a"), task_reset("b", "REVIVED"), task_reset("c", "REVIVED"))
    then.and_then(running("d")[1:]).when(finish("d")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


def test_what_also_depends_on_another_lost_task_stays_given_up() -> None:
    tasks = ("a", "b", make_task("c", depends_on=("a", "b")), make_task("d", depends_on=("c",)))
    before = given(created(*tasks, execution_mode="parallel", failure_policy="continue"), activated())
    story = before.and_then(queued("a"), started("a"), queued("b"), started("b"))
    story = story.when(reject("a")).outcome.when(reject("b")).outcome
    assert story.state.status is OrchestrationStatus.FAILED
    story = story.when(retry("a")).then(REOPENED, task_reset("a", "RETRY"), queued("a", 2))
    story.when(retry("b")).then(
        task_reset("b", "RETRY"), task_reset("c", "REVIVED"), task_reset("d", "REVIVED"), queued("b", 2)
    )


def test_restarting_what_was_given_up_while_the_failure_stands_takes_up_only_that() -> None:
    then = failed("a", "b", "c").when(restart("b")).then(REOPENED, task_reset("b", "RESTART"), queued("b"))
    assert then.task("c").status is TaskStatus.CANCELLED


def test_what_a_user_cancelled_is_not_taken_up_by_itself() -> None:
    story = given(created("a", "b"), activated(), queued("a")).when(CANCEL).outcome
    then = story.when(restart("a")).then(REOPENED, task_reset("a", "RESTART"), queued("a", 2))
    assert then.task("b").status is TaskStatus.CANCELLED
    ended = then.and_then(running("a", 2)[1:]).when(finish("a", 2)).outcome
    assert ended.state.status is OrchestrationStatus.PARTIAL_COMPLETED


def test_an_agent_being_stopped_for_a_failure_that_is_retried_goes_on_afterwards() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), queued("a"), started("a"), running("b"))
    story = before.when(reject("a")).then(ev.AttemptFailed, task_failed("a"), stop_requested("b", "FAIL_FAST"))
    story = story.when(retry("a")).then(task_reset("a", "RETRY"), queued("a", 2))
    then = story.when(observe("b", AgentStatus.STOPPED)).then(ev.AgentStatusChanged, ev.AttemptStopped, ev.TaskQueued)
    assert (then.task("b").status, then.task("b").retry_count) == (TaskStatus.PENDING, 0)
    assert then.attempt("b").continues is not None


def test_an_agent_being_stopped_for_a_failure_that_stands_is_given_up() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), queued("a"), started("a"), running("b"))
    story = before.when(reject("a")).outcome
    story.when(observe("b", AgentStatus.STOPPED)).then(
        status_changed("b", AgentStatus.STOPPED),
        attempt_stopped("b", "FAIL_FAST"),
        task_cancelled("b"),
        ev.OrchestrationFailed,
    )


def test_a_task_given_up_for_what_it_depends_on_says_so() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    story = given(created(*tasks, failure_policy="continue"), activated(), queued("a"), started("a"))
    story.when(reject("a")).then(
        ev.AttemptFailed, task_failed("a"), task_cancelled("b", "DEPENDENCY", LOST), ev.OrchestrationFailed
    )


# What it all adds up to


def test_time_in_which_it_was_over_does_not_count() -> None:
    story = completed().when(restart("a"), at=after(70)).outcome
    assert story.state.active_ms(after(75)) == 15 * 60_000
    ended = story.and_then(running("a", 2)[1:], at=after(75)).when(finish("a", 2), at=after(80)).outcome
    assert ended.state.statistics is not None
    assert (ended.state.statistics.duration_ms, ended.state.statistics.total_cost) == (20 * 60_000, 0.5)
    assert ended.state.ended_at == after(80)


def test_one_that_was_never_active_counts_from_when_it_goes_on() -> None:
    story = given(created("a")).when(CANCEL, at=after(10)).outcome
    story = story.when(restart("a"), at=after(70)).outcome
    assert (story.state.activated_at, story.state.active_ms(after(75))) == (after(70), 5 * 60_000)


def test_paused_and_over_and_paused_again_only_the_time_at_work_counts() -> None:
    story = given(created("a"), activated(), running("a")).when(PAUSE, at=after(10)).outcome
    story = story.when(RESUME, at=after(20)).outcome.when(finish("a"), at=after(25)).outcome
    story = story.when(restart("a"), at=after(100)).outcome.when(PAUSE, at=after(105)).outcome
    assert story.state.active_ms(after(500)) == 20 * 60_000


def test_a_task_done_once_more_is_stacked_on_what_stands_before_it() -> None:
    story = completed("a", "b", base="previous")
    story.when(restart("b")).then(REOPENED, ev.TaskReset, queued("b", 2, base_ref="cursor/a-1"))


def test_stacked_a_skipped_task_passes_on_nothing_of_its_own() -> None:
    before = given(created("a", "b", "c", base="previous"), activated(), done("a"), queued("b", base_ref="cursor/a-1"))
    before.when(skip("b")).then(task_skipped("b"), queued("c", base_ref="cursor/a-1"))


def test_a_missing_deliverable_can_be_retried_by_hand() -> None:
    before = given(created(make_task("a", max_retries=0), deliverable="pr"), activated(), running("a"))
    story = before.when(finish("a")).then(
        ev.AgentStatusChanged, ev.AttemptFailed, ev.TaskFailed, ev.OrchestrationFailed
    )
    story.when(retry("a")).then(REOPENED, ev.TaskReset, queued("a", 2))


def test_a_task_that_changed_nothing_is_done_and_can_be_done_again() -> None:
    story = given(created("a"), activated(), running("a")).when(finish("a", branch=None)).outcome
    then = story.when(restart("a")).outcome.and_then(running("a", 2)[1:]).when(finish("a", 2)).outcome
    assert then.task("a").result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-2", summary="Did a")


def test_out_of_money_a_retried_task_waits() -> None:
    story = given(created("a", max_cost=0.25), activated(), running("a")).when(finish("a")).outcome
    then = story.when(restart("a")).then(REOPENED, ev.TaskReset)
    then.when(TICK, at=after(999)).then_nothing()

"""Which task is queued when, why the others wait, and when time alone changes something."""

import pytest

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration, Tick
from shared.domain.readiness import Waiting, due_times, waiting_for
from tests.support.given import Given, given
from tests.support.orchestrations import (
    OVERLOADED,
    T0,
    activated,
    after,
    attempt_failed,
    change,
    created,
    done,
    finish,
    make_task,
    queued,
    retry_scheduled,
    running,
    start,
    started,
    task_skipped,
    withdrawn,
)

ACTIVATE = ActivateOrchestration()


# Turns and places


def test_in_sequence_there_is_one_at_a_time() -> None:
    story = given(created("a", "b", "c")).when(ACTIVATE).then(activated(), queued("a"))
    story = story.when(Tick()).then_nothing()
    story.and_then(running("a")[1:]).when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


def test_in_sequence_max_parallel_has_no_say() -> None:
    given(created("a", "b", max_parallel=2)).when(ACTIVATE).then(activated(), queued("a"))


def test_in_parallel_all_are_queued_at_once() -> None:
    before = given(created("a", "b", "c", execution_mode="parallel"))
    before.when(ACTIVATE).then(activated(), queued("a"), queued("b"), queued("c"))


def test_in_parallel_no_more_than_asked_for_are_under_way() -> None:
    before = given(created("a", "b", "c", "d", execution_mode="parallel", max_parallel=2))
    story = before.when(ACTIVATE).then(activated(), queued("a"), queued("b"))
    story = (
        story.and_then(running("b")[1:]).when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("c"))
    )
    story.when(Tick()).then_nothing()


# Dependencies


def test_in_parallel_a_task_starts_when_all_that_it_depends_on_are_completed() -> None:
    tasks = ("a", "b", make_task("c", depends_on=("a", "b")))
    story = given(created(*tasks, execution_mode="parallel")).when(ACTIVATE).then(activated(), queued("a"), queued("b"))
    story = story.and_then(running("a")[1:], running("b")[1:])
    story = story.when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted)
    story.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("c"))


def test_in_sequence_what_others_depend_on_comes_first() -> None:
    tasks = (make_task("a", depends_on=("c",)), "b", "c")
    story = given(created(*tasks)).when(ACTIVATE).then(activated(), queued("b"))
    story = (
        story.and_then(running("b")[1:]).when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("c"))
    )
    story.and_then(running("c")[1:]).when(finish("c")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("a"))


def test_a_skipped_task_holds_up_nobody_and_counts_as_done() -> None:
    before = given(created("a", make_task("b", depends_on=("a",))), task_skipped("a"))
    story = before.when(ACTIVATE).then(activated(), queued("b"))
    story = story.and_then(running("b")[1:]).when(finish("b")).outcome
    assert story.state.status is ev.OrchestrationStatus.COMPLETED


# Budget


def test_once_its_money_is_spent_nothing_new_is_queued() -> None:
    before = given(created("a", "b", max_cost=0.25), activated(), running("a"))
    then = before.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted)
    assert waiting_for(then.state, then.task("b"), T0) == Waiting("budget")
    then.when(Tick(), at=after(999)).then_nothing()
    assert then.state.status is ev.OrchestrationStatus.ACTIVE


def test_what_was_queued_before_its_money_was_spent_is_taken_back_until_there_is_more() -> None:
    crowd = created("a", "b", "c", execution_mode="parallel", max_cost=0.25)
    before = given(crowd, activated(), running("a"), running("b"), queued("c"))
    then = before.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, withdrawn("c", "BUDGET"))
    assert [waiting_for(then.state, then.task(task), T0) for task in "bc"] == [None, Waiting("budget")]
    assert then.when(start("c")).then_nothing().task("c").retry_count == 0
    then.when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted)
    then.when(change(max_cost=9)).then(ev.OrchestrationUpdated, queued("c", 2))


def test_a_limit_that_is_lowered_below_what_is_spent_takes_back_what_is_queued() -> None:
    before = given(created("a", "b"), activated(), done("a"), queued("b"))
    before.when(change(max_cost=0.1)).then(ev.OrchestrationUpdated, withdrawn("b", "BUDGET"))


def test_below_its_limit_it_goes_on() -> None:
    before = given(created("a", "b", max_cost=0.26), activated(), running("a"))
    before.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


def test_what_failed_attempts_cost_counts_against_the_limit() -> None:
    before = given(
        created("a", max_cost=0.25),
        activated(),
        running("a"),
        attempt_failed("a", OVERLOADED, cost=0.25),
        retry_scheduled("a", 1, after(1)),
    )
    then = before.when(Tick(), at=after(1)).then(ev.TaskRetryDue(task_id="a"))
    assert waiting_for(then.state, then.task("a"), after(1)) == Waiting("budget")


def test_the_last_task_done_it_ends_whatever_it_cost() -> None:
    before = given(created("a", max_cost=0.01), activated(), running("a"))
    before.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, ev.OrchestrationCompleted)


# waiting_for


def waits(story: Given, task: str, minutes: float = 0) -> Waiting | None:
    return waiting_for(story.state, story.task(task), after(minutes))


def test_before_activation_nothing_waits_for_anything() -> None:
    assert waits(given(created("a")), "a") is None


def test_a_queued_task_waits_for_a_slot_and_the_next_one_for_its_turn() -> None:
    story = given(created("a", "b"), activated(), queued("a"))
    assert (waits(story, "a"), waits(story, "b")) == (Waiting("slot"), Waiting("turn"))


def test_a_task_that_runs_or_has_ended_waits_for_nothing() -> None:
    story = given(created("a", "b", "c"), activated(), done("a"), running("b"))
    assert (waits(story, "a"), waits(story, "b")) == (None, None)


def test_a_task_waits_for_what_it_depends_on() -> None:
    story = given(created("a", make_task("b", depends_on=("a",))), activated(), running("a"))
    assert waits(story, "b") == Waiting("dependency")


def retrying() -> Given:
    return given(
        created("a", "b"),
        activated(),
        running("a"),
        attempt_failed("a", OVERLOADED),
        retry_scheduled("a", 1, after(1)),
    )


def test_a_task_that_failed_waits_for_its_retry_and_says_when_it_comes() -> None:
    assert waits(retrying(), "a") == Waiting("retry", after(1))
    assert waits(retrying(), "a", 1) == Waiting("turn")
    assert waits(retrying().and_then(queued("a", 2)), "a", 1) == Waiting("slot")


def test_what_is_over_waits_for_nothing() -> None:
    ended = given(created("a"), activated(), queued("a"), started("a")).and_then(
        ev.TaskFailed(task_id="a", failure=OVERLOADED)
    )
    assert waits(ended, "a") is None


# due_times


def test_a_pending_one_is_due_at_its_start_time() -> None:
    assert due_times(given(created("a", start_at=after(60))).state) == [after(60)]
    assert due_times(given(created("a")).state) == []


def test_once_active_its_start_time_is_over() -> None:
    assert due_times(given(created("a", start_at=after(60)), activated(), queued("a")).state) == []


def test_it_is_due_at_each_of_its_retries() -> None:
    story = given(
        created("a", "b", execution_mode="parallel"),
        activated(),
        running("a"),
        attempt_failed("a", OVERLOADED),
        retry_scheduled("a", 1, after(8)),
        running("b"),
        attempt_failed("b", OVERLOADED),
        retry_scheduled("b", 1, after(2)),
    )
    assert due_times(story.state) == [after(2), after(8)]
    assert due_times(story.and_then(queued("b", 2)).state) == [after(8)]


def test_a_retry_that_was_cancelled_is_not_due() -> None:
    story = retrying().and_then(ev.TaskCancelled(task_id="a", reason="x"))
    assert due_times(story.state) == []


@pytest.mark.parametrize("end", ["finished", "failed"])
def test_nothing_is_due_after_the_end(end: str) -> None:
    story = given(created("a", start_at=after(60)), activated(), running("a"))
    ended = story.when(finish("a")).outcome if end == "finished" else None
    if ended is None:
        ended = story.when(
            finish("a").model_copy(update={"status": ev.AgentStatus.STOPPED, "provider_status": "CANCELLED"})
        ).outcome
    assert ended.state.status.is_terminal
    assert due_times(ended.state) == []

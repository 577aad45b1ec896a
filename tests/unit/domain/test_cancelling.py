"""Cancelled, an orchestration stops every agent and is CANCELLED only when all of them are known to have stopped."""

from typing import Any

import pytest

from shared.domain import events as ev
from shared.domain.commands import AnyCommand
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.plan import FreeSlot, Launch, StopAgent, Watch, plan
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    DRAIN,
    OVERLOADED,
    PAUSE,
    RESUME,
    TICK,
    activated,
    add,
    after,
    attempt_stopped,
    cancel_requested,
    change,
    change_task,
    created,
    done,
    expire,
    finish,
    follow_up,
    make_task,
    observe,
    queued,
    record,
    reject,
    restart,
    retry,
    running,
    skip,
    start,
    started,
    status_changed,
    stop,
    stop_requested,
    task_cancelled,
    task_completed,
)

WHY = "the orchestration was cancelled"
STOPPED = observe("a", AgentStatus.STOPPED, cost=0.1)


def cancelled(task: str) -> ev.TaskCancelled:
    return task_cancelled(task, "CANCEL", WHY)


def cancelling() -> Given:
    before = given(created("a", "b"), activated(), running("a"))
    return before.when(CANCEL, at=after(5)).then(cancel_requested(), stop_requested("a", "CANCEL"), cancelled("b"))


def test_before_it_is_activated_it_is_cancelled_at_once() -> None:
    then = (
        given(created("a", "b"))
        .when(CANCEL, at=after(1))
        .then(cancelled("a"), cancelled("b"), ev.OrchestrationCancelled)
    )
    state = then.state
    assert (state.status, state.ended_at, state.summary) == (
        OrchestrationStatus.CANCELLED,
        after(1),
        "Cancelled: 0/2 tasks completed",
    )
    assert state.statistics is not None
    assert (state.statistics.cancelled_tasks, state.statistics.duration_ms) == (2, 0)
    then.when(TICK, at=after(999)).then_nothing()


def test_its_start_time_means_nothing_after_a_cancel() -> None:
    story = given(created("a", start_at=after(60))).when(CANCEL).outcome
    story.when(TICK, at=after(60)).then_nothing()
    assert plan(story.state) == []


def test_with_nothing_but_tickets_it_is_cancelled_at_once() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), queued("a"), queued("b"))
    then = before.when(CANCEL).then(cancelled("a"), cancelled("b"), ev.OrchestrationCancelled)
    assert (then.attempt("a").ending, then.attempt("b").ending) == ("WITHDRAWN", "WITHDRAWN")
    then.when(start("a")).then_nothing()


@pytest.mark.parametrize("pause", [PAUSE, DRAIN])
def test_paused_with_nothing_at_work_it_is_cancelled_at_once(pause: AnyCommand) -> None:
    story = given(created("a"), activated(), queued("a")).when(pause).outcome
    then = story.when(CANCEL).then(cancelled("a"), ev.OrchestrationCancelled)
    assert (then.state.pause_mode, then.state.idle_since) == (None, None)


def test_while_an_agent_may_be_at_work_it_is_cancelling() -> None:
    story = cancelling()
    assert story.state.status is OrchestrationStatus.CANCELLING
    assert (story.task("a").status, story.task("b").status) == (TaskStatus.PROCESSING, TaskStatus.CANCELLED)
    assert [type(action) for action in plan(story.state)] == [Watch, StopAgent]


def test_the_last_agent_seen_to_have_stopped_it_is_cancelled() -> None:
    then = (
        cancelling()
        .when(STOPPED, at=after(7))
        .then(
            status_changed("a", AgentStatus.STOPPED),
            attempt_stopped("a", "CANCEL", duration_ms=420_000, cost=0.1),
            cancelled("a"),
            ev.OrchestrationCancelled,
        )
    )
    state = then.state
    assert (state.status, state.ended_at, state.deleted) == (OrchestrationStatus.CANCELLED, after(7), False)
    assert state.statistics is not None
    assert (state.statistics.cancelled_tasks, state.statistics.total_cost) == (2, 0.1)
    assert [type(action) for action in plan(state)] == [FreeSlot]


def test_it_is_cancelled_only_when_all_of_them_have_stopped() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), running("a"), running("b"))
    story = before.when(CANCEL).then(cancel_requested(), stop_requested("a", "CANCEL"), stop_requested("b", "CANCEL"))
    story = story.when(STOPPED).then(ev.AgentStatusChanged, ev.AttemptStopped, cancelled("a"))
    assert story.state.status is OrchestrationStatus.CANCELLING
    story.when(observe("b", AgentStatus.STOPPED)).then(
        ev.AgentStatusChanged, ev.AttemptStopped, cancelled("b"), ev.OrchestrationCancelled
    )


@pytest.mark.parametrize("word", [AgentStatus.CREATING, AgentStatus.RUNNING, AgentStatus.UNKNOWN])
def test_an_agent_that_is_not_seen_to_have_stopped_keeps_it_cancelling(word: AgentStatus) -> None:
    then = cancelling().when(observe("a", word)).outcome
    assert then.state.status is OrchestrationStatus.CANCELLING
    then.when(TICK, at=after(9_999)).then_nothing()


@pytest.mark.parametrize("end", [AgentStatus.FAILED, AgentStatus.EXPIRED, AgentStatus.STOPPED])
def test_whatever_the_agent_ends_in_is_no_failure_and_never_tried_again(end: AgentStatus) -> None:
    then = (
        cancelling()
        .when(observe("a", end))
        .then(ev.AgentStatusChanged, ev.AttemptStopped, cancelled("a"), ev.OrchestrationCancelled)
    )
    task = then.task("a")
    assert (task.status, task.retry_count, task.failure, task.continuation) == (TaskStatus.CANCELLED, 0, None, None)


def test_an_agent_that_finished_before_the_stop_reached_it_has_completed_its_task() -> None:
    then = cancelling().when(finish("a")).then(ev.AgentStatusChanged, task_completed("a"), ev.OrchestrationCancelled)
    assert (then.task("a").status, then.state.summary) == (TaskStatus.COMPLETED, "Cancelled: 1/2 tasks completed")


def test_an_agent_that_finished_without_what_was_asked_for_is_cancelled() -> None:
    before = given(created("a", deliverable="pr"), activated(), running("a")).when(CANCEL).outcome
    then = before.when(finish("a")).then(
        ev.AgentStatusChanged, ev.AttemptStopped, cancelled("a"), ev.OrchestrationCancelled
    )
    assert then.attempt("a").result is not None


# While the create is unknown


def unanswered() -> Given:
    before = given(created("a"), activated(), queued("a"), started("a"))
    return before.when(CANCEL).then(cancel_requested(), stop_requested("a", "CANCEL"))


def test_a_cancel_while_the_create_is_unknown_is_carried_out_when_it_is_known() -> None:
    story = unanswered()
    assert [type(action) for action in plan(story.state)] == [Launch]
    story = story.when(record("a")).then(ev.AgentCreated)
    assert [type(action) for action in plan(story.state)] == [Watch, StopAgent]
    story.when(STOPPED).then(ev.AgentStatusChanged, ev.AttemptStopped, cancelled("a"), ev.OrchestrationCancelled)


def test_a_create_that_never_came_to_be_lets_it_be_cancelled() -> None:
    unanswered().when(reject("a", failure=OVERLOADED)).then(
        ev.AttemptStopped, cancelled("a"), ev.OrchestrationCancelled
    )


# Again, and after


def test_cancelled_twice_is_cancelled_once() -> None:
    cancelling().when(CANCEL, at=after(6)).then_nothing()
    cancelling().when(STOPPED).outcome.when(CANCEL).then_nothing()


@pytest.mark.parametrize(
    "command",
    [PAUSE, DRAIN, RESUME, add("c"), retry("b"), restart("b"), skip("b"), change(ref="x"), change_task("b", title="B")],
)
def test_while_it_is_cancelling_nothing_else_is_begun(command: AnyCommand) -> None:
    cancelling().when(command).then_refused("INVALID_STATE_TRANSITION")


def test_while_it_is_cancelling_its_name_may_change() -> None:
    then = cancelling().when(change(name="Given up")).then(ev.OrchestrationUpdated)
    assert then.state.status is OrchestrationStatus.CANCELLING


def test_an_agent_that_ended_before_does_not_go_on_while_it_is_cancelling() -> None:
    before = given(created("a", "b"), activated(), done("a"), running("b")).when(CANCEL).outcome
    before.when(follow_up("a")).then_refused("INVALID_STATE_TRANSITION")


def test_nothing_is_asked_twice_of_an_agent_that_is_being_stopped() -> None:
    cancelling().when(stop("a")).then_nothing()
    cancelling().when(expire("a"), at=after(500)).then_nothing()


@pytest.mark.parametrize("before", [stop("a"), PAUSE, expire("a")])
def test_a_cancel_outranks_every_other_stop(before: AnyCommand) -> None:
    story = given(created("a"), activated(), running("a")).when(before, at=after(120)).outcome
    then = story.when(CANCEL, at=after(121)).then(cancel_requested(), stop_requested("a", "CANCEL"))
    then.when(observe("a", AgentStatus.STOPPED), at=after(122)).then(
        ev.AgentStatusChanged, ev.AttemptStopped, cancelled("a"), ev.OrchestrationCancelled
    )


def test_a_cancel_outranks_a_stop_for_another_s_failure() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), running("a"), queued("b"), started("b"))
    story = before.when(reject("b")).outcome
    assert story.attempt("a").stop_reason == "FAIL_FAST"
    then = story.when(CANCEL).then(cancel_requested(), stop_requested("a", "CANCEL"))
    assert then.when(STOPPED).outcome.state.status is OrchestrationStatus.CANCELLED


def test_what_was_done_stays_done() -> None:
    before = given(created("a", "b"), activated(), done("a"), queued("b"))
    then = before.when(CANCEL).then(cancelled("b"), ev.OrchestrationCancelled)
    assert then.task("a").status is TaskStatus.COMPLETED
    assert then.state.summary == "Cancelled: 1/2 tasks completed"


@pytest.mark.parametrize("spec", [{"failure_policy": "continue"}, {}])
def test_what_has_ended_by_itself_is_not_cancelled(spec: dict[str, Any]) -> None:
    completed = given(created("a", **spec), activated(), running("a")).when(finish("a")).outcome
    completed.when(CANCEL).then_refused("ALREADY_COMPLETED")
    failed = given(created("a", **spec), activated(), queued("a"), started("a")).when(reject("a")).outcome
    failed.when(CANCEL).then_refused("ALREADY_COMPLETED")


def test_a_wait_for_a_retry_ends_with_the_cancel() -> None:
    before = given(created(make_task("a")), activated(), running("a"))
    story = before.when(observe("a", AgentStatus.FAILED)).outcome
    then = story.when(CANCEL).then(cancelled("a"), ev.OrchestrationCancelled)
    assert then.task("a").retry_at is None
    then.when(TICK, at=after(60)).then_nothing()


def test_late_words_of_its_agents_change_nothing() -> None:
    story = cancelling().when(STOPPED).outcome
    for status in AgentStatus:
        story.when(observe("a", status), at=after(99)).then_nothing()

"""Agents are stopped and deleted by hand."""

import pytest

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.plan import DeleteAgent, FreeSlot, StopAgent, plan
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    OVERLOADED,
    PAUSE,
    RESUME,
    activated,
    after,
    agent_created,
    agent_id,
    agent_is_deleted,
    attempt_id,
    created,
    delete_agent,
    done,
    expire,
    finish,
    follow_up,
    observe,
    queued,
    record,
    reject,
    resumed,
    running,
    start,
    started,
    stop,
    stop_requested,
    withdrawn,
)

GONE = ev.Failure(code="AGENT_GONE", message="the agent is archived")


def at_work() -> Given:
    return given(created("a", "b"), activated(), running("a"))


# Stop


def test_stopped_by_hand_the_task_fails_and_is_not_tried_again() -> None:
    story = at_work().when(stop("a")).then(stop_requested("a", "REQUESTED"))
    assert any(isinstance(action, StopAgent) for action in plan(story.state))
    then = story.when(observe("a", AgentStatus.STOPPED, cost=0.1)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, ev.TaskFailed, ev.TaskCancelled, ev.OrchestrationFailed
    )
    failure = then.task("a").failure
    assert failure is not None
    assert (failure.code, failure.retryable, then.task("a").retry_count) == ("AGENT_STOPPED", False, 0)


@pytest.mark.parametrize("end", [AgentStatus.FAILED, AgentStatus.EXPIRED])
def test_however_it_ends_after_a_stop_by_hand_it_is_not_tried_again(end: AgentStatus) -> None:
    then = at_work().when(stop("a")).outcome.when(observe("a", end)).outcome
    failure = then.task("a").failure
    assert failure is not None
    assert failure.code == "AGENT_STOPPED"


def test_an_agent_that_finished_before_the_stop_reached_it_has_completed_its_task() -> None:
    then = at_work().when(stop("a")).outcome.when(finish("a"))
    then.then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


def test_where_stopped_agents_say_finished_too_the_task_fails_and_what_it_left_is_kept() -> None:
    before = given(created("a"), activated(), queued("a"), started("a", api_version="v0"), agent_created("a"))
    then = before.when(stop("a")).outcome.when(finish("a")).outcome
    assert then.task("a").status is TaskStatus.FAILED
    assert then.attempt("a").result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-1", summary="Did a")


def test_stopped_twice_is_stopped_once() -> None:
    at_work().when(stop("a")).outcome.when(stop("a"), at=after(1)).then_nothing()


def test_a_stop_while_the_create_is_unknown_is_carried_out_when_it_is_known() -> None:
    story = given(created("a"), activated(), queued("a"), started("a")).when(stop("a")).outcome
    assert story.attempt("a").stop_reason == "REQUESTED"
    story = story.when(record("a")).then(ev.AgentCreated)
    assert any(isinstance(action, StopAgent) for action in plan(story.state))


def test_a_create_that_never_came_to_be_after_a_stop_by_hand_is_not_tried_again() -> None:
    story = given(created("a"), activated(), queued("a"), started("a")).when(stop("a")).outcome
    then = story.when(reject("a", failure=OVERLOADED)).then(ev.AttemptFailed, ev.TaskFailed, ev.OrchestrationFailed)
    assert then.task("a").status is TaskStatus.FAILED


def test_an_agent_that_was_to_go_on_and_is_gone_is_not_replaced_after_a_stop_by_hand() -> None:
    story = at_work().when(PAUSE).outcome.when(observe("a", AgentStatus.STOPPED)).outcome.when(RESUME).outcome
    story = story.and_then(started("a", 2, agent_id=agent_id("a"))).when(stop("a", 2)).outcome
    story.when(reject("a", 2, GONE)).then(ev.AttemptFailed, ev.TaskFailed, ev.TaskCancelled, ev.OrchestrationFailed)


def test_a_stop_by_hand_outranks_a_timeout() -> None:
    story = at_work().when(expire("a"), at=after(120)).outcome
    then = story.when(stop("a"), at=after(121)).then(stop_requested("a", "REQUESTED"))
    then.when(expire("a"), at=after(122)).then_nothing()
    ended = then.when(observe("a", AgentStatus.STOPPED), at=after(122)).outcome
    assert (ended.task("a").status, ended.task("a").retry_count) == (TaskStatus.FAILED, 0)


def test_an_attempt_in_the_queue_has_no_agent_to_stop() -> None:
    given(created("a"), activated(), queued("a")).when(stop("a")).then_refused("INVALID_STATE_TRANSITION")


def test_an_agent_that_has_ended_cannot_be_stopped() -> None:
    at_work().when(finish("a")).outcome.when(stop("a")).then_refused("ALREADY_COMPLETED")


def test_the_agent_of_another_orchestration_is_not_found() -> None:
    at_work().when(stop("x")).then_refused("AGENT_NOT_FOUND")
    at_work().when(delete_agent("x")).then_refused("AGENT_NOT_FOUND")


# Delete


def ended() -> Given:
    return given(created("a"), activated(), running("a")).when(finish("a")).outcome


def test_the_agent_of_an_ended_attempt_is_deleted_at_the_provider_first() -> None:
    story = (
        ended()
        .when(delete_agent("a"))
        .then(ev.AgentDeleteRequested(task_id="a", attempt_id=attempt_id("a"), agent_id=agent_id("a")))
    )
    assert plan(story.state) == [FreeSlot(attempt_id("a")), DeleteAgent(attempt_id("a"), agent_id("a"))]
    then = story.when(agent_is_deleted("a")).then(
        ev.AgentDeleted(task_id="a", attempt_id=attempt_id("a"), agent_id=agent_id("a"))
    )
    assert plan(then.state) == [FreeSlot(attempt_id("a"))]
    assert (then.state.status, then.task("a").status) == (OrchestrationStatus.COMPLETED, TaskStatus.COMPLETED)


def test_deleted_twice_is_deleted_once() -> None:
    story = ended().when(delete_agent("a")).outcome
    story.when(delete_agent("a")).then_nothing()
    gone = story.when(agent_is_deleted("a")).outcome
    gone.when(agent_is_deleted("a")).then_nothing()
    gone.when(delete_agent("a")).then_nothing()


def test_nobody_asked_for_it_to_be_deleted() -> None:
    ended().when(agent_is_deleted("a")).then_nothing()


def test_an_agent_at_work_is_not_deleted() -> None:
    at_work().when(delete_agent("a")).then_refused("ALREADY_ACTIVE")


def test_an_attempt_whose_agent_is_not_known_has_none_to_delete() -> None:
    given(created("a"), activated(), queued("a")).when(delete_agent("a")).then_refused("AGENT_NOT_FOUND")
    given(created("a"), activated(), queued("a"), started("a")).when(delete_agent("a")).then_refused("AGENT_NOT_FOUND")
    refused = given(created("a"), activated(), queued("a"), started("a")).when(reject("a")).outcome
    refused.when(delete_agent("a")).then_refused("AGENT_NOT_FOUND")


def test_an_agent_that_goes_on_is_not_deleted_by_its_earlier_attempt() -> None:
    story = ended().when(follow_up("a")).outcome
    story.when(delete_agent("a", 1)).then_refused("ALREADY_ACTIVE")
    story = story.and_then(started("a", 2, agent_id=agent_id("a")))
    story.when(delete_agent("a", 1)).then_refused("ALREADY_ACTIVE")


def test_the_agent_of_an_earlier_attempt_is_deleted_while_another_works() -> None:
    story = at_work().when(observe("a", AgentStatus.FAILED)).outcome.and_then(running("a", 2), at=after(1))
    story.when(delete_agent("a", 1)).then(ev.AgentDeleteRequested)


def test_an_agent_with_two_attempts_is_deleted_once() -> None:
    story = ended().when(follow_up("a")).outcome.and_then(started("a", 2, agent_id=agent_id("a")))
    story = story.when(record("a", 2, agent_id=agent_id("a"))).outcome
    story = story.when(finish("a", 2, agent_id=agent_id("a"))).outcome
    story.when(delete_agent("a", 1)).outcome.when(delete_agent("a", 2)).then_nothing()


def test_a_task_that_was_to_go_on_with_a_deleted_agent_begins_anew() -> None:
    story = at_work().when(PAUSE).outcome.when(observe("a", AgentStatus.STOPPED)).outcome
    story = story.when(delete_agent("a")).then(ev.AgentDeleteRequested)
    assert story.task("a").continuation is None
    story.when(RESUME).then(resumed(), queued("a", 2))


def test_a_ticket_for_an_agent_that_goes_on_is_withdrawn_by_a_pause_and_then_it_can_be_deleted() -> None:
    story = at_work().when(PAUSE).outcome.when(observe("a", AgentStatus.STOPPED)).outcome.when(RESUME).outcome
    story.when(delete_agent("a")).then_refused("ALREADY_ACTIVE")
    story = story.when(PAUSE).then(ev.OrchestrationPaused, withdrawn("a", number=2))
    story.when(delete_agent("a")).then(ev.AgentDeleteRequested).when(RESUME).then(resumed(), queued("a", 3))


def test_agents_of_a_cancelled_orchestration_can_be_deleted() -> None:
    story = given(created("a", "b"), activated(), done("a"), queued("b")).when(CANCEL).outcome
    story.when(delete_agent("a")).then(ev.AgentDeleteRequested)
    story.when(start("b")).then_nothing()

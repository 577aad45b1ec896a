"""Paused, an orchestration launches nothing; resumed, it goes on where it was, and no work and no retry is lost."""

from typing import Any

import pytest

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.plan import Launch, StopAgent, Watch, plan
from shared.domain.state import Phase
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    DRAIN,
    OVERLOADED,
    PAUSE,
    REFUSED,
    RESUME,
    TICK,
    activated,
    after,
    agent_created,
    agent_id,
    attempt_failed,
    attempt_stopped,
    created,
    done,
    expire,
    finish,
    follow_up,
    going_on,
    make_task,
    observe,
    paused,
    queued,
    record,
    reject,
    restart,
    resumed,
    retry_scheduled,
    running,
    start,
    started,
    status_changed,
    stop,
    stop_requested,
    task_completed,
    task_failed,
    withdrawn,
)

GONE = ev.Failure(code="AGENT_GONE", message="the agent is archived")
STOPPED = observe("a", AgentStatus.STOPPED, cost=0.1, duration_ms=30_000)


def at_work(**spec: Any) -> Given:
    return given(created("a", "b", **spec), activated(), running("a"))


def stopping() -> Given:
    return at_work().when(PAUSE, at=after(5)).then(paused("stop"), stop_requested("a", "PAUSE"))


def stopped() -> Given:
    """Paused, and the agent is seen to have stopped."""
    return stopping().when(STOPPED, at=after(6)).outcome


# Pausing with `stop`


def test_a_pause_stops_the_agent_at_work() -> None:
    story = stopping()
    assert (story.state.status, story.state.pause_mode) == (OrchestrationStatus.PAUSED, "stop")
    assert story.task("a").status is TaskStatus.PROCESSING
    assert any(isinstance(action, StopAgent) for action in plan(story.state))


def test_the_stopped_agent_s_task_waits_to_go_on_with_it() -> None:
    then = (
        stopping()
        .when(STOPPED, at=after(6))
        .then(
            status_changed("a", AgentStatus.STOPPED),
            attempt_stopped("a", continues=going_on("a"), duration_ms=30_000, cost=0.1),
        )
    )
    task, attempt = then.task("a"), then.attempt("a")
    assert (task.status, task.retry_count, task.failure) == (TaskStatus.PENDING, 0, None)
    assert (attempt.phase, attempt.ending, attempt.failure, attempt.cost) == (Phase.ENDED, "STOPPED", None, 0.1)
    assert then.state.status is OrchestrationStatus.PAUSED


def test_what_the_stopped_agent_left_behind_is_kept() -> None:
    left = stopping().when(observe("a", AgentStatus.STOPPED, branch="cursor/a-1", summary="Half of it")).outcome
    assert left.attempt("a").result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-1", summary="Half of it")


def test_an_agent_that_finished_before_the_stop_reached_it_has_completed_its_task() -> None:
    then = stopping().when(finish("a")).then(status_changed("a", AgentStatus.FINISHED), task_completed("a"))
    assert then.state.status is OrchestrationStatus.PAUSED
    then.when(RESUME, at=after(9)).then(resumed(), queued("b"))


def test_where_stopped_agents_say_finished_too_the_task_goes_on() -> None:
    before = given(created("a"), activated(), queued("a"), started("a", api_version="v0"), agent_created("a"))
    story = before.when(PAUSE).outcome.when(finish("a")).then(ev.AgentStatusChanged, ev.AttemptStopped)
    assert story.attempt("a").result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-1", summary="Did a")
    then = story.when(RESUME).then(resumed(), ev.TaskQueued)
    assert then.attempt("a").continues == going_on("a").model_copy(update={"api_version": "v0"})


@pytest.mark.parametrize("end", [AgentStatus.FAILED, AgentStatus.EXPIRED])
def test_an_agent_that_broke_while_it_was_being_stopped_is_replaced_and_costs_no_retry(end: AgentStatus) -> None:
    then = stopping().when(observe("a", end)).then(status_changed("a", end), ev.AttemptStopped)
    assert (then.task("a").status, then.task("a").retry_count) == (TaskStatus.PENDING, 0)
    then.when(RESUME).then(resumed(), queued("a", 2))


def test_a_pause_takes_what_is_queued_out_of_the_queue() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), queued("a"), queued("b"), started("b"))
    then = before.when(PAUSE).then(paused(), withdrawn("a"), stop_requested("b", "PAUSE"))
    assert (then.task("a").status, then.attempt("a").ending) == (TaskStatus.PENDING, "WITHDRAWN")
    then.when(start("a")).then_nothing()


def test_withdrawing_costs_no_retry() -> None:
    story = given(created(make_task("a", max_retries=0)), activated(), queued("a")).when(PAUSE).outcome
    story = story.when(RESUME).then(resumed(), queued("a", 2))
    assert story.task("a").retry_count == 0


def test_nothing_is_launched_while_it_is_paused() -> None:
    before = given(created("a", "b", execution_mode="parallel", max_parallel=1), activated(), running("a"))
    story = before.when(DRAIN).outcome.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted)
    story.when(TICK, at=after(999)).then_nothing()
    assert not [action for action in plan(story.state) if isinstance(action, Launch)]


# While the create is unknown


def test_a_pause_while_the_create_is_unknown_is_remembered_until_it_is_known() -> None:
    before = given(created("a"), activated(), queued("a"), started("a"))
    story = before.when(PAUSE).then(paused(), stop_requested("a", "PAUSE"))
    assert [type(action) for action in plan(story.state)] == [Launch]
    story = story.when(record("a")).then(ev.AgentCreated)
    assert [type(action) for action in plan(story.state)] == [Watch, StopAgent]
    story.when(STOPPED).then(ev.AgentStatusChanged, ev.AttemptStopped).when(RESUME).then(
        resumed(), queued("a", 2, continues=going_on("a"))
    )


@pytest.mark.parametrize("failure", [REFUSED, OVERLOADED])
def test_a_create_that_never_came_to_be_is_made_anew_and_costs_no_retry(failure: ev.Failure) -> None:
    before = given(created("a"), activated(), queued("a"), started("a")).when(PAUSE).outcome
    story = before.when(reject("a", failure=failure)).then(attempt_stopped("a"))
    assert story.attempt("a").status is None
    then = story.when(RESUME).then(resumed(), queued("a", 2))
    assert then.task("a").retry_count == 0


# Pausing with `drain`


def test_draining_lets_the_agents_at_work_finish() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), running("a"), queued("b"))
    then = before.when(DRAIN).then(paused("drain"), withdrawn("b"))
    assert (then.state.pause_mode, then.attempt("a").stop_reason) == ("drain", None)
    then.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted)


def test_draining_lets_a_create_under_way_become_an_agent() -> None:
    story = given(created("a"), activated(), queued("a"), started("a")).when(DRAIN).then(paused("drain"))
    story.when(record("a")).then(ev.AgentCreated).when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted)


def test_the_last_task_done_while_it_drains_it_ends_when_it_is_resumed() -> None:
    before = given(created("a"), activated(), running("a")).when(DRAIN).outcome
    story = before.when(finish("a"), at=after(3)).then(ev.AgentStatusChanged, ev.TaskCompleted)
    assert story.state.status is OrchestrationStatus.PAUSED
    ended = story.when(RESUME, at=after(9)).then(resumed(), ev.OrchestrationCompleted)
    assert ended.state.status is OrchestrationStatus.COMPLETED


def test_a_failure_for_good_while_it_drains_gives_up_the_others_and_fails_it_when_it_is_resumed() -> None:
    before = given(created("a", "b"), activated(), running("a")).when(DRAIN).outcome
    story = before.when(observe("a", AgentStatus.STOPPED)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, ev.TaskFailed, ev.TaskCancelled
    )
    assert story.state.status is OrchestrationStatus.PAUSED
    story.when(RESUME).then(resumed(), ev.OrchestrationFailed)


def test_what_depends_on_a_task_that_failed_while_it_drains_is_given_up_at_once() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    before = given(created(*tasks, failure_policy="continue"), activated(), queued("a"), started("a"))
    before.when(DRAIN).outcome.when(reject("a")).then(ev.AttemptFailed, task_failed("a"), ev.TaskCancelled)


def test_a_deadline_holds_while_it_drains() -> None:
    at_work().when(DRAIN).outcome.when(expire("a"), at=after(120)).then(stop_requested("a", "TIMEOUT"))


def test_a_drain_becomes_a_stop() -> None:
    draining = at_work().when(DRAIN).outcome
    then = draining.when(PAUSE, at=after(2)).then(paused("stop"), stop_requested("a", "PAUSE"))
    assert (then.state.pause_mode, then.state.idle_since) == ("stop", draining.state.idle_since)


def test_a_stop_is_not_taken_back_by_a_drain() -> None:
    then = stopping().when(DRAIN).then_nothing()
    assert then.state.pause_mode == "stop"


@pytest.mark.parametrize("command", [PAUSE, DRAIN])
def test_paused_twice_is_paused_once(command: Any) -> None:
    at_work().when(command).outcome.when(command, at=after(1)).then_nothing()


def test_a_paused_one_is_resumed_and_not_activated() -> None:
    stopping().when(ActivateOrchestration()).then_refused("INVALID_STATE_TRANSITION")


# Resuming


def test_resumed_it_goes_on_with_the_agent_that_was_stopped() -> None:
    then = stopped().when(RESUME, at=after(30)).then(resumed(), queued("a", 2, continues=going_on("a")))
    assert then.task("a").continuation is None
    again = then.when(start("a", 2)).outcome.attempt("a")
    assert (again.phase, again.continues) == (Phase.STARTED, going_on("a"))


def test_resuming_costs_no_retry_however_often() -> None:
    story = given(created(make_task("a", max_retries=0)), activated(), running("a"))
    for number in (1, 2, 3):
        story = story.when(PAUSE).outcome.when(observe("a", AgentStatus.STOPPED, number)).outcome
        story = story.when(RESUME).then(resumed(), ev.TaskQueued).and_then(running("a", number + 1)[1:])
    assert (story.task("a").retry_count, len(story.task("a").attempts)) == (0, 4)
    story.when(finish("a", 4)).then(ev.AgentStatusChanged, ev.TaskCompleted, ev.OrchestrationCompleted)


def test_resumed_while_the_agent_is_still_being_stopped_it_goes_on_when_it_has() -> None:
    story = stopping().when(RESUME, at=after(5.5)).then(resumed())
    assert story.attempt("a").stop_reason == "PAUSE"
    story.when(STOPPED, at=after(6)).then(
        ev.AgentStatusChanged, ev.AttemptStopped, queued("a", 2, continues=going_on("a"))
    )


def test_in_sequence_no_other_task_takes_the_turn_of_one_that_is_still_being_stopped() -> None:
    story = stopping().when(RESUME).then(resumed())
    story.when(TICK, at=after(60)).then_nothing()


def test_paused_again_before_it_is_launched_it_still_goes_on_with_the_same_agent() -> None:
    story = stopped().when(RESUME).outcome.when(PAUSE).then(paused(), withdrawn("a", number=2))
    assert story.task("a").continuation == going_on("a")
    story.when(RESUME).then(resumed(), queued("a", 3, continues=going_on("a")))


def continuing() -> Given:
    """Resumed; its agent is about to be told to go on."""
    return stopped().when(RESUME, at=after(7)).outcome.and_then(started("a", 2, agent_id=agent_id("a")))


def test_an_agent_that_cannot_go_on_is_replaced_and_that_costs_no_retry() -> None:
    then = continuing().when(reject("a", 2, GONE)).then(withdrawn("a", "AGENT_GONE", 2), queued("a", 3))
    assert (then.task("a").retry_count, then.task("a").attempts[1].status) == (0, None)


def test_an_agent_that_cannot_go_on_while_it_is_paused_again_is_replaced_later() -> None:
    story = continuing().when(PAUSE).outcome.when(reject("a", 2, GONE)).then(attempt_stopped("a", number=2))
    story.when(RESUME).then(resumed(), queued("a", 3))


def test_a_follow_up_that_was_never_sent_because_of_a_pause_is_sent_after_it() -> None:
    story = continuing().when(PAUSE).outcome.when(reject("a", 2, OVERLOADED)).then(ev.AttemptStopped)
    story.when(RESUME).then(resumed(), queued("a", 3, continues=going_on("a")))


@pytest.mark.parametrize("failure", [OVERLOADED, GONE])
def test_what_a_user_wanted_told_is_not_lost_by_a_pause(failure: ev.Failure) -> None:
    story = given(created("a"), activated(), done("a")).when(follow_up("a")).outcome
    told = going_on("a", prompt="Now the tests.")
    story = story.and_then(started("a", 2, agent_id=agent_id("a"))).when(PAUSE).outcome
    story = story.when(reject("a", 2, failure)).then(ev.AttemptStopped)
    story.when(RESUME).then(resumed(), queued("a", 3, continues=told))


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_before_it_is_told_to_go_on_what_is_seen_of_the_agent_is_how_it_ended_before(version: str) -> None:
    before = stopped().when(RESUME).outcome
    story = before.and_then(started("a", 2, agent_id=agent_id("a"), api_version=version))
    for status in AgentStatus:
        story.when(observe("a", status, 2, agent_id=agent_id("a"), run_id="run-a-1")).then_nothing()


def test_a_failure_of_the_agent_that_went_on_is_tried_again_with_a_new_one() -> None:
    story = continuing().and_then(agent_created("a", 2).model_copy(update={"agent_id": agent_id("a")}))
    failed = story.when(observe("a", AgentStatus.FAILED, 2, agent_id=agent_id("a")), at=after(9)).outcome
    assert failed.task("a").retry_count == 1
    failed.when(TICK, at=after(10)).then(queued("a", 3))


# Retries and pauses


def retrying() -> Given:
    failed = (attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, after(8)))
    return given(created("a", "b"), activated(), running("a"), failed)


def test_a_wait_for_a_retry_survives_a_pause() -> None:
    story = retrying().when(PAUSE, at=after(1)).then(paused())
    story.when(TICK, at=after(8)).then_nothing()
    early = story.when(RESUME, at=after(2)).then(resumed())
    assert (early.task("a").retry_at, early.task("a").retry_count) == (after(8), 1)
    early.when(TICK, at=after(8)).then(queued("a", 2))


def test_a_retry_that_came_due_during_the_pause_is_taken_up_on_resume() -> None:
    retrying().when(PAUSE).outcome.when(RESUME, at=after(20)).then(resumed(), queued("a", 2))


def test_a_failure_during_a_pause_schedules_its_retry_and_waits() -> None:
    story = at_work().when(DRAIN).outcome
    story = story.when(observe("a", AgentStatus.FAILED), at=after(3)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, after(4))
    )
    story.when(TICK, at=after(5)).then_nothing().when(RESUME, at=after(6)).then(resumed(), queued("a", 2))


# Which stop counts


def test_a_timeout_stays_one_when_it_is_paused() -> None:
    before = at_work().when(expire("a"), at=after(120)).outcome
    story = before.when(PAUSE, at=after(121)).then(paused())
    then = story.when(observe("a", AgentStatus.STOPPED), at=after(122)).outcome
    assert (then.attempt("a").ending, then.task("a").retry_count) == ("FAILED", 1)


def test_a_deadline_that_passes_while_it_is_being_stopped_changes_nothing() -> None:
    stopping().when(expire("a"), at=after(120)).then_nothing()


def test_a_stop_by_hand_is_for_good_also_while_it_is_paused() -> None:
    story = stopping().when(stop("a")).then(stop_requested("a", "REQUESTED"))
    story.when(observe("a", AgentStatus.STOPPED)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, ev.TaskFailed, ev.TaskCancelled
    )


def test_a_stop_by_hand_stays_one_when_it_is_paused() -> None:
    at_work().when(stop("a")).outcome.when(PAUSE).then(paused())


# Time


def test_paused_time_does_not_count() -> None:
    story = at_work().when(DRAIN, at=after(10)).outcome
    assert story.state.active_ms(after(50)) == 600_000
    story = story.when(RESUME, at=after(40)).outcome
    assert (story.state.idle_ms, story.state.idle_since, story.state.pause_mode) == (1_800_000, None, None)
    assert story.state.active_ms(after(50)) == 1_200_000
    ended = story.when(finish("a"), at=after(55)).outcome.and_then(running("b")[1:]).when(finish("b"), at=after(60))
    assert ended.outcome.state.statistics is not None
    assert ended.outcome.state.statistics.duration_ms == 1_800_000


def test_a_pause_that_ends_in_a_cancel_does_not_count_either() -> None:
    story = given(created("a"), activated(), queued("a")).when(PAUSE, at=after(10)).outcome
    ended = story.when(CANCEL, at=after(40)).outcome
    assert ended.state.statistics is not None
    assert ended.state.statistics.duration_ms == ended.state.active_ms(after(99)) == 600_000


def test_a_restart_during_a_pause_waits_for_its_end() -> None:
    story = given(created("a", "b"), activated(), done("a"), running("b")).when(DRAIN).outcome
    story = story.when(restart("a")).then(ev.TaskReset)
    story.when(finish("b")).outcome.when(RESUME).then(resumed(), queued("a", 2))


@pytest.mark.parametrize("command", [PAUSE, DRAIN, RESUME])
def test_before_it_is_activated_there_is_nothing_to_pause_or_resume(command: Any) -> None:
    given(created("a")).when(command).then_refused("INVALID_STATE_TRANSITION")


@pytest.mark.parametrize("command", [PAUSE, DRAIN, RESUME])
def test_what_is_over_is_neither_paused_nor_resumed(command: Any) -> None:
    ended = given(created("a"), activated(), running("a")).when(finish("a")).outcome
    ended.when(command).then_refused("ALREADY_COMPLETED")

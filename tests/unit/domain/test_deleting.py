"""Deleted, an orchestration is stopped first and then there for nobody; what is late does no harm."""

from typing import Any

import pytest

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration, AnyCommand
from shared.domain.events import AgentStatus, OrchestrationStatus
from shared.domain.plan import plan
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    DELETE,
    DRAIN,
    PAUSE,
    RESUME,
    TICK,
    activated,
    add,
    after,
    agent_is_deleted,
    cancel_requested,
    change,
    change_task,
    created,
    delete_agent,
    expire,
    finish,
    follow_up,
    note_waiting,
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
    stop,
    stop_requested,
    task_cancelled,
)

WHY = "the orchestration was cancelled"


def at_work() -> Given:
    return given(created("a", "b"), activated(), running("a"))


def deleted() -> Given:
    return at_work().when(DELETE).outcome.when(observe("a", AgentStatus.STOPPED)).outcome


def test_with_an_agent_at_work_it_is_cancelled_first_and_then_deleted() -> None:
    story = (
        at_work()
        .when(DELETE)
        .then(cancel_requested(delete=True), stop_requested("a", "CANCEL"), task_cancelled("b", "CANCEL", WHY))
    )
    assert (story.state.status, story.state.deleted) == (OrchestrationStatus.CANCELLING, False)
    then = story.when(observe("a", AgentStatus.STOPPED)).then(
        ev.AgentStatusChanged, ev.AttemptStopped, ev.TaskCancelled, ev.OrchestrationCancelled, ev.OrchestrationDeleted
    )
    assert (then.state.status, then.state.deleted) == (OrchestrationStatus.CANCELLED, True)


@pytest.mark.parametrize("pause", [None, PAUSE, DRAIN])
def test_with_nothing_at_work_it_is_deleted_at_once(pause: AnyCommand | None) -> None:
    story = given(created("a"), activated(), queued("a"))
    story = story.when(pause).outcome if pause else story
    then = story.when(DELETE).then(
        cancel_requested(delete=True), ev.TaskCancelled, ev.OrchestrationCancelled, ev.OrchestrationDeleted
    )
    assert then.state.deleted
    then.when(start("a")).then_nothing()


def test_before_it_is_activated_it_is_deleted_at_once_and_never_starts() -> None:
    then = given(created("a", start_at=after(60))).when(DELETE).then(ev.OrchestrationDeleted)
    then.when(TICK, at=after(60)).then_nothing()
    assert plan(then.state) == []


@pytest.mark.parametrize("ended", ["completed", "failed", "cancelled"])
def test_what_is_over_is_deleted_at_once(ended: str) -> None:
    story = {
        "completed": lambda: given(created("a"), activated(), running("a")).when(finish("a")),
        "failed": lambda: given(created("a"), activated(), queued("a"), started("a")).when(reject("a")),
        "cancelled": lambda: given(created("a")).when(CANCEL),
    }[ended]().outcome
    then = story.when(DELETE, at=after(9)).then(ev.OrchestrationDeleted)
    assert then.state.status is story.state.status


def test_a_cancel_under_way_becomes_a_delete() -> None:
    story = at_work().when(CANCEL).outcome.when(DELETE).then(cancel_requested(delete=True))
    assert story.state.delete_requested
    assert story.when(observe("a", AgentStatus.STOPPED)).outcome.state.deleted


def test_while_a_delete_is_under_way_it_is_asked_for_once() -> None:
    story = at_work().when(DELETE).outcome
    story.when(DELETE, at=after(1)).then_nothing()
    story.when(CANCEL, at=after(1)).then_nothing()


def test_until_its_agents_have_stopped_it_is_still_there() -> None:
    story = at_work().when(DELETE).outcome
    story.when(change(name="Going")).then(ev.OrchestrationUpdated)
    story.when(RESUME).then_refused("INVALID_STATE_TRANSITION")


EVERY_COMMAND: list[Any] = [
    ActivateOrchestration(),
    PAUSE,
    DRAIN,
    RESUME,
    CANCEL,
    DELETE,
    change(name="x"),
    add("c"),
    change_task("a", title="x"),
    retry("a"),
    restart("a"),
    skip("a"),
    stop("a"),
    follow_up("a"),
    delete_agent("a"),
]


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=lambda command: command.type)
def test_deleted_it_is_there_for_no_user(command: AnyCommand) -> None:
    deleted().when(command).then_refused("ORCHESTRATION_NOT_FOUND")
    given(created("a")).when(DELETE).outcome.when(command).then_refused("ORCHESTRATION_NOT_FOUND")


def test_what_comes_late_of_its_agents_and_timers_does_no_harm() -> None:
    late: list[AnyCommand] = [
        TICK,
        start("a"),
        record("a"),
        reject("a"),
        finish("a"),
        expire("a"),
        note_waiting("a", "slot"),
    ]
    for command in late:
        deleted().when(command, at=after(999)).then_nothing()


def test_the_delete_of_an_agent_that_was_asked_for_before_is_carried_out() -> None:
    story = given(created("a"), activated(), running("a")).when(finish("a")).outcome
    story = story.when(delete_agent("a")).outcome.when(DELETE).outcome
    then = story.when(agent_is_deleted("a")).then(ev.AgentDeleted)
    assert then.attempt("a").agent_deletion == "DONE"

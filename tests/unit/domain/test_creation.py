"""An orchestration comes into being and is set going."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration, AnyCommand
from shared.domain.events import OrchestrationStatus, TaskStatus
from shared.domain.ids import derive_id
from tests.support.given import Given, given
from tests.support.orchestrations import (
    T0,
    TICK,
    activated,
    after,
    create,
    created,
    done,
    expire,
    finish,
    make_task,
    queued,
    record,
    reject,
    running,
    start,
)

ACTIVATE = ActivateOrchestration()


def test_created_it_waits_to_be_activated() -> None:
    then = given().when(create("a", "b")).then(created("a", "b"))
    assert then.state.status is OrchestrationStatus.PENDING
    assert [task.status for task in then.state.tasks.values()] == [TaskStatus.PENDING] * 2
    assert (then.state.version, then.state.created_at, then.state.activated_at) == (1, T0, None)


def test_created_and_activated_in_one_call_it_queues_the_first_task() -> None:
    then = given().when(create("a", "b", activate=True)).then(created("a", "b"), activated(), queued("a"))
    assert then.state.status is OrchestrationStatus.ACTIVE
    assert then.state.activated_at == T0


def test_it_is_created_with_what_there_is_to_warn_of() -> None:
    command = create("a").model_copy(update={"warnings": ("model 'x' is not known",)})
    then = given().when(command).then(created("a", warnings=["model 'x' is not known"]))
    assert then.state.warnings == ("model 'x' is not known",)


def test_tasks_run_in_the_order_of_their_index_not_of_the_request() -> None:
    last, first = make_task("last", order_index=7), make_task("first", order_index=3)
    command = create("x").model_copy(update={"tasks": (last, first)})
    then = given().when(command).then(ev.OrchestrationCreated)
    assert list(then.state.tasks) == ["first", "last"]
    then.when(ACTIVATE).then(activated(), queued("first"))


def test_an_id_is_created_only_once() -> None:
    given(created("a")).when(create("b")).then_refused("INVALID_STATE_TRANSITION")


@pytest.mark.parametrize("command", [ACTIVATE, TICK, start("a"), record("a"), reject("a"), finish("a"), expire("a")])
def test_nothing_can_be_asked_of_one_that_does_not_exist(command: AnyCommand) -> None:
    given().when(command).then_refused("ORCHESTRATION_NOT_FOUND")


@pytest.mark.parametrize("command", [start("x"), record("x"), reject("x"), finish("x"), expire("x")])
def test_an_attempt_that_is_not_its_own_is_refused(command: AnyCommand) -> None:
    given(created("a"), activated(), queued("a")).when(command).then_refused("AGENT_NOT_FOUND")


def test_activated_it_queues_its_first_task() -> None:
    given(created("a", "b")).when(ACTIVATE, at=after(5)).then(activated(), queued("a"))


def test_activated_twice_is_activated_once() -> None:
    given(created("a"), activated(), queued("a")).when(ACTIVATE).then_nothing()


@pytest.mark.parametrize("policy", ["fail_fast", "continue"])
def test_one_that_has_ended_is_not_activated_again(policy: str) -> None:
    completed = given(created("a"), activated(), running("a")).when(finish("a")).outcome
    assert completed.state.status is OrchestrationStatus.COMPLETED
    completed.when(ACTIVATE).then_refused("ALREADY_COMPLETED")
    started = given(created("a", failure_policy=policy), activated(), queued("a")).when(start("a")).outcome
    failed = started.when(reject("a")).outcome
    assert failed.state.status is OrchestrationStatus.FAILED
    failed.when(ACTIVATE).then_refused("ALREADY_COMPLETED")


@pytest.mark.parametrize("status", [OrchestrationStatus.PAUSED, OrchestrationStatus.CANCELLING])
def test_only_a_pending_one_can_be_activated(status: OrchestrationStatus) -> None:
    before = Given(replace(given(created("a")).state, status=status))
    before.when(ACTIVATE).then_refused("INVALID_STATE_TRANSITION")


def test_its_start_time_come_it_is_activated() -> None:
    before = given(created("a", start_at=after(60)))
    before.when(TICK, at=after(60) - timedelta(microseconds=1)).then_nothing()
    before.when(TICK, at=after(60)).then(activated(), queued("a")).when(TICK, at=after(61)).then_nothing()


def test_without_a_start_time_it_waits_for_its_user() -> None:
    given(created("a")).when(TICK, at=after(999_999)).then_nothing()


def test_activated_by_hand_it_does_not_start_again_at_its_start_time() -> None:
    before = given(created("a", start_at=after(60)), activated(), queued("a"))
    before.when(TICK, at=after(60)).then_nothing()


def test_time_moves_nothing_that_has_ended() -> None:
    ended = given(created("a", start_at=T0), activated(), running("a")).when(finish("a")).outcome
    ended.when(TICK, at=after(999)).then_nothing()


def test_a_tick_takes_up_what_should_long_be_queued() -> None:
    """A state that an older release left behind."""
    given(created("a", "b"), activated(), done("a")).when(TICK).then(queued("b"))


def test_an_attempt_has_the_same_id_whoever_decides() -> None:
    first, second = (given(created("a", "b")).when(ACTIVATE).events for _ in range(2))
    assert first == second
    assert derive_id("attempt", "a", 1) != derive_id("attempt", "a", 2) != derive_id("attempt", "b", 2)


@pytest.mark.parametrize(
    ("speed", "asked", "queued_at"),
    [
        ("balanced", "low", "low"),
        ("quality", "high", "high"),
        ("speed", "low", "medium"),
        ("speed", "medium", "high"),
        ("speed", "high", "high"),
    ],
)
def test_speed_lifts_a_task_by_one_priority(speed: str, asked: ev.Level, queued_at: ev.Level) -> None:
    before = given(created(make_task("a", priority=asked), priority=speed))
    before.when(ACTIVATE).then(activated(), queued("a", priority=queued_at))

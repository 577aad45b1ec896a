"""What was asked for may change while it is under way, as far as nothing was begun on it."""

from typing import Any

import pytest

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration
from shared.domain.events import AgentStatus, OrchestrationStatus, Schedule
from shared.domain.readiness import due_times
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    PAUSE,
    TICK,
    activated,
    after,
    change,
    change_task,
    created,
    done,
    finish,
    make_spec,
    make_task,
    make_tasks,
    observe,
    queued,
    reject,
    retry_scheduled,
    running,
    start,
    started,
    task_failed,
    task_skipped,
    withdrawn,
)


def spec_of(story: Given, task: str) -> ev.TaskSpec:
    return story.task(task).spec


# The orchestration


def test_before_it_is_activated_everything_may_change() -> None:
    changes = {
        "repository": "https://github.com/acme/other",
        "ref": "develop",
        "execution_mode": "parallel",
        "max_parallel": 2,
        "start_at": "2026-11-01T13:00:00Z",
        "tags": ["x"],
        "max_cost": 2.5,
    }
    then = given(created("a")).when(change(**changes)).then(ev.OrchestrationUpdated)
    spec = then.state.spec
    assert (spec.repository, spec.ref, spec.tags) == ("https://github.com/acme/other", "develop", ("x",))
    assert (spec.execution_mode, spec.max_parallel, spec.max_cost) == ("parallel", 2, 2.5)
    assert (spec.start_at, due_times(then.state)) == (after(60), [after(60)])


def test_the_event_names_what_is_new_and_holds_everything() -> None:
    before = given(created("a", name="Old", description="The same"))
    wanted = make_spec(name="New", description="The same")
    before.when(change(name="New", description="The same")).then(
        ev.OrchestrationUpdated(spec=wanted, changed=("name",))
    )


def test_a_field_set_to_none_goes_back_to_its_default() -> None:
    schedule = Schedule(cron="0 30 6 * * *")
    before = given(created("a", name="Old", max_cost=1.5, tags=("x",), schedule=schedule, failure_policy="continue"))
    changes = {"name": None, "max_cost": None, "tags": None, "schedule": None, "failure_policy": None}
    spec = before.when(change(**changes)).outcome.state.spec
    assert (spec.name, spec.max_cost, spec.tags, spec.schedule, spec.failure_policy) == (
        None,
        None,
        (),
        None,
        "fail_fast",
    )


@pytest.mark.parametrize("changes", [{}, {"name": None}, {"ref": "main", "tags": []}])
def test_what_is_so_already_changes_nothing(changes: dict[str, Any]) -> None:
    given(created("a")).when(change(**changes)).then_nothing()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"tasks": []}, "tasks"),
        ({"repository": None}, "repository"),
        ({"execution_mode": "sideways"}, "execution_mode"),
        ({"schedule": {"timezone": "UTC"}}, "schedule.cron"),
        ({"max_parallel": 2}, "maxParallel"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    when = given(created("a")).when(change(**changes))
    when.then_refused("INVALID_REQUEST")
    assert when.refusal is not None
    assert field in when.refusal.message


def test_a_limit_that_never_counted_does_not_hinder_other_changes() -> None:
    given(created("a", max_parallel=2)).when(change(name="New")).then(ev.OrchestrationUpdated)


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": "https://github.com/acme/other"},
        {"ref": "develop"},
        {"execution_mode": "parallel"},
        {"start_at": "2026-11-01T13:00:00Z"},
        {"schedule": {"cron": "0 30 6 * * *"}},
    ],
)
def test_what_agents_were_launched_with_is_fixed_from_its_activation_on(changes: dict[str, Any]) -> None:
    active = given(created("a"), activated(), running("a"))
    stages = [active, active.when(PAUSE).outcome, active.when(CANCEL).outcome, active.when(finish("a")).outcome]
    for story in stages:
        when = story.when(change(**changes))
        when.then_refused("INVALID_STATE_TRANSITION")
        assert when.refusal is not None
        assert next(iter(changes)) in when.refusal.message


def test_more_money_lets_it_go_on_at_once() -> None:
    story = given(created("a", "b", max_cost=0.25), activated(), running("a")).when(finish("a")).outcome
    story.when(change(max_cost=0.5)).then(ev.OrchestrationUpdated, queued("b"))
    story.when(change(max_cost=None)).then(ev.OrchestrationUpdated, queued("b"))
    story.when(change(max_cost=0.2)).then(ev.OrchestrationUpdated)


def test_more_places_are_filled_at_once() -> None:
    before = given(created("a", "b", "c", execution_mode="parallel", max_parallel=1), activated(), running("a"))
    before.when(change(max_parallel=2)).then(ev.OrchestrationUpdated, queued("b"))
    before.when(change(max_parallel=None)).then(ev.OrchestrationUpdated, queued("b"), queued("c"))


def test_fewer_places_stop_nobody() -> None:
    before = given(created(*"abc", execution_mode="parallel", max_parallel=2), activated(), running("a"), running("b"))
    story = before.when(change(max_parallel=1)).then(ev.OrchestrationUpdated)
    story = story.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted)
    story.when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("c"))


def test_a_failure_is_judged_by_the_policy_of_its_moment() -> None:
    before = given(created("a", "b"), activated(), queued("a"), started("a"))
    story = before.when(change(failure_policy="continue")).then(ev.OrchestrationUpdated)
    story.when(reject("a")).then(ev.AttemptFailed, task_failed("a"), queued("b"))


def test_what_is_asked_to_be_left_behind_may_change_while_an_agent_works() -> None:
    before = given(created("a"), activated(), running("a")).when(change(deliverable="pr")).outcome
    before.when(finish("a"), at=after(1)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, after(2))
    )


def test_the_name_of_what_is_over_may_change_and_it_stays_over() -> None:
    ended = given(created("a"), activated(), running("a")).when(finish("a"), at=after(5)).outcome
    then = ended.when(change(name="Done"), at=after(9)).then(ev.OrchestrationUpdated)
    assert (then.state.status, then.state.ended_at) == (OrchestrationStatus.COMPLETED, after(5))
    assert then.state.statistics == ended.state.statistics


def test_a_schedule_is_removed_before_it_is_activated_by_hand() -> None:
    before = given(created("a", schedule=Schedule(cron="0 30 6 * * *")))
    before.when(ActivateOrchestration()).then_refused("INVALID_STATE_TRANSITION")
    then = before.when(change(schedule=None)).then(ev.OrchestrationUpdated)
    then.when(ActivateOrchestration()).then(activated(), queued("a"))


# A task


def test_a_task_that_waits_may_change_in_everything() -> None:
    before = given(created("a", "b"), activated(), running("a"))
    changes = {
        "title": "New",
        "description": "Do it otherwise.",
        "priority": "high",
        "complexity": "simple",
        "max_retries": 0,
        "model": "o3",
        "timeout_minutes": 7,
        "metadata": {"ticket": None},
    }
    then = before.when(change_task("b", **changes)).then(ev.TaskUpdated)
    assert spec_of(then, "b").model_dump(include=set(changes)) == changes
    [event] = before.when(change_task("b", **changes)).events
    assert isinstance(event, ev.TaskUpdated)
    assert set(event.changed) == set(changes)


def test_before_activation_a_task_may_change_and_nothing_is_queued() -> None:
    given(created("a")).when(change_task("a", priority="high")).then(ev.TaskUpdated)


@pytest.mark.parametrize("changes", [{}, {"priority": "medium", "model": None}])
def test_a_task_that_is_so_already_is_left_alone(changes: dict[str, Any]) -> None:
    before = given(created("a"), activated(), queued("a"))
    before.when(change_task("a", **changes)).then_nothing()


def test_another_priority_puts_the_ticket_into_another_queue() -> None:
    before = given(created("a"), activated(), queued("a"))
    then = before.when(change_task("a", priority="high")).then(
        ev.TaskUpdated, withdrawn("a", "REQUEUE"), queued("a", 2, priority="high")
    )
    assert then.task("a").retry_count == 0
    then.when(start("a", 1)).then_nothing()


def test_another_title_leaves_the_ticket_where_it_is() -> None:
    before = given(created("a"), activated(), queued("a"))
    then = before.when(change_task("a", title="New", timeout_minutes=7)).then(ev.TaskUpdated)
    then.when(start("a"), at=after(1)).then(started("a", deadline_at=after(8)))


def test_a_task_that_depends_on_another_after_all_gives_up_its_place() -> None:
    before = given(created("a", "b"), activated(), queued("a"))
    then = before.when(change_task("a", depends_on=["b"])).then(ev.TaskUpdated, withdrawn("a", "REQUEUE"), queued("b"))
    then.and_then(running("b")[1:]).when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("a", 2))


def test_a_task_that_depends_on_nothing_any_more_starts_at_once() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    before = given(created(*tasks, execution_mode="parallel"), activated(), running("a"))
    before.when(change_task("b", depends_on=[])).then(ev.TaskUpdated, queued("b"))


def test_another_place_changes_the_order() -> None:
    before = given(created("a", "b", "c"), activated(), running("a"))
    then = before.when(change_task("c", order_index=0)).then(ev.TaskUpdated)
    assert list(then.state.tasks) == ["a", "c", "b"]
    then.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("c"))


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"task_id": "x"}, "INVALID_REQUEST", "task_id"),
        ({"colour": "red"}, "INVALID_REQUEST", "colour"),
        ({"title": None}, "INVALID_TASK", "title"),
        ({"priority": "urgent"}, "INVALID_TASK", "priority"),
        ({"depends_on": ["x"]}, "INVALID_TASK", "dependsOn"),
        ({"depends_on": ["b"]}, "INVALID_TASK", "dependsOn"),
        ({"depends_on": ["c"]}, "INVALID_TASK", "dependsOn"),
    ],
)
def test_a_change_of_a_task_that_makes_no_sense_is_refused_by_name(
    changes: dict[str, Any], code: str, field: str
) -> None:
    tasks = ("a", "b", make_task("d", depends_on=("b",)), make_task("c", depends_on=("d",)))
    when = given(created(*tasks), activated(), running("a")).when(change_task("b", **changes))
    when.then_refused(code)
    assert when.refusal is not None
    assert field in when.refusal.message


def test_a_task_cannot_come_to_depend_on_one_that_is_lost() -> None:
    before = given(created("a", "b", failure_policy="continue"), activated(), queued("a"), started("a"))
    before.when(reject("a")).outcome.when(change_task("b", depends_on=["a"])).then_refused("INVALID_TASK")


def test_a_task_may_come_to_depend_on_one_that_is_skipped() -> None:
    before = given(created("a", "b"), task_skipped("a"))
    then = before.when(change_task("b", depends_on=["a"])).then(ev.TaskUpdated)
    then.when(ActivateOrchestration()).then(activated(), queued("b"))


@pytest.mark.parametrize("at_work", [running("a"), running("a")[:2]])
def test_while_an_agent_is_at_work_only_what_it_was_not_told_may_change(at_work: Any) -> None:
    before = given(created("a"), activated(), at_work)
    before.when(change_task("a", title="New")).then_refused("ALREADY_ACTIVE")
    before.when(change_task("a", title="New", max_retries=1)).then_refused("ALREADY_ACTIVE")
    before.when(change_task("a", max_retries=0, metadata={"x": 1})).then(ev.TaskUpdated)


def test_fewer_retries_count_from_the_next_failure_on() -> None:
    before = given(created("a"), activated(), running("a")).when(change_task("a", max_retries=0)).outcome
    before.when(observe("a", AgentStatus.FAILED)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, ev.TaskFailed, ev.OrchestrationFailed
    )


def test_of_a_completed_task_only_the_notes_may_change() -> None:
    before = given(created("a", "b"), activated(), done("a"), running("b"))
    before.when(change_task("a", max_retries=1)).then_refused("ALREADY_COMPLETED")
    before.when(change_task("a", metadata={"x": 1})).then(ev.TaskUpdated)


def test_a_task_that_failed_may_change_before_it_is_tried_again() -> None:
    ended = given(created("a"), activated(), queued("a"), started("a")).when(reject("a")).outcome
    then = ended.when(change_task("a", description="Do it with less.")).then(ev.TaskUpdated)
    assert then.state.status is OrchestrationStatus.FAILED


def test_a_task_that_does_not_exist_cannot_change() -> None:
    given(created("a")).when(change_task("x", title="X")).then_refused("TASK_NOT_FOUND")


def test_paused_a_changed_task_is_not_queued() -> None:
    before = given(created("a", "b"), activated(), queued("a")).when(PAUSE).outcome
    before.when(change_task("a", priority="high")).then(ev.TaskUpdated).when(TICK).then_nothing()


def test_tasks_of_the_same_place_keep_their_order() -> None:
    tasks = make_tasks("a", "b", "c")
    before = given(created(*tasks)).when(change_task("c", order_index=1)).outcome
    assert list(before.state.tasks) == ["a", "b", "c"]

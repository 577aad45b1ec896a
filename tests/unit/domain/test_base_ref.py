"""Where an agent starts from: the given ref, or the work of the tasks before it."""

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration, Tick
from shared.domain.events import AgentStatus
from tests.support.given import given
from tests.support.orchestrations import (
    activated,
    after,
    created,
    done,
    finish,
    make_task,
    observe,
    queued,
    reject,
    running,
    started,
)

STACKED = {"base": "previous"}


def test_by_default_every_task_starts_from_the_given_ref() -> None:
    before = given(created("a", "b", ref="develop"), activated(), running("a", base_ref="develop"))
    before.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b", base_ref="develop"))


def test_stacked_the_first_task_starts_from_the_given_ref_and_the_next_from_its_branch() -> None:
    story = given(created("a", "b", **STACKED)).when(ActivateOrchestration()).then(activated(), queued("a"))
    story.and_then(running("a")[1:]).when(finish("a")).then(
        ev.AgentStatusChanged, ev.TaskCompleted, queued("b", base_ref="cursor/a-1")
    )


def test_stacked_a_task_that_changed_nothing_passes_on_what_it_started_from() -> None:
    before = given(created("a", "b", "c", **STACKED), activated(), done("a"), running("b", base_ref="cursor/a-1"))
    before.when(finish("b", branch=None)).then(
        ev.AgentStatusChanged, ev.TaskCompleted, queued("c", base_ref="cursor/a-1")
    )


def test_stacked_a_retry_starts_from_where_the_first_try_did() -> None:
    before = given(created("a", "b", **STACKED), activated(), done("a"), running("b", base_ref="cursor/a-1"))
    failed = before.when(observe("b", AgentStatus.FAILED)).outcome
    failed.when(Tick(), at=after(1)).then(queued("b", 2, base_ref="cursor/a-1"))


def test_stacked_what_failed_leaves_nothing_to_build_on() -> None:
    before = given(
        created("a", "b", "c", failure_policy="continue", **STACKED), activated(), done("a"), queued("b"), started("b")
    )
    before.when(reject("b")).then(ev.AttemptFailed, ev.TaskFailed, queued("c", base_ref="cursor/a-1"))


def test_stacked_a_task_builds_on_the_one_that_it_depends_on() -> None:
    tasks = ("a", "b", make_task("c", depends_on=("a",)))
    before = given(created(*tasks, **STACKED), activated(), done("a"), running("b"))
    before.when(finish("b")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("c", base_ref="cursor/a-1"))


def test_stacked_work_is_passed_on_through_a_dependency_that_changed_nothing() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)), make_task("c", depends_on=("b",)))
    before = given(created(*tasks, **STACKED), activated(), done("a"), running("b", base_ref="cursor/a-1"))
    before.when(finish("b", branch=None)).then(
        ev.AgentStatusChanged, ev.TaskCompleted, queued("c", base_ref="cursor/a-1")
    )


def test_stacked_a_dependency_with_work_comes_before_one_that_changed_nothing() -> None:
    tasks = ("a", "b", make_task("c", depends_on=("a", "b")))
    before = given(created(*tasks, execution_mode="parallel", **STACKED), activated(), done("a"), running("b"))
    before.when(finish("b", branch=None)).then(
        ev.AgentStatusChanged, ev.TaskCompleted, queued("c", base_ref="cursor/a-1")
    )


def test_stacked_on_nothing_at_all_a_task_starts_from_the_given_ref() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    before = given(created(*tasks, **STACKED), activated(), running("a"))
    before.when(finish("a", branch=None)).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


def test_stacked_the_tasks_before_are_those_that_run_before_whatever_their_index() -> None:
    tasks = tuple(make_task(name) for name in "ab")
    event = created("x", **STACKED).model_copy(update={"tasks": tasks})
    before = given(event, activated(), running("a"))
    before.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b", base_ref="cursor/a-1"))

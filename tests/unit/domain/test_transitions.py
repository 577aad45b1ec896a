"""Every command in every state of orchestration and task, the illegal ones too, does what the tables say."""

from typing import get_args

import pytest

from shared.domain.commands import CreateOrchestration, UserCommand
from shared.domain.events import OrchestrationStatus, TaskStatus
from tests.support.given import Given, When
from tests.support.orchestrations import after
from tests.unit.domain.transitions import (
    NEVER,
    OF_ORCHESTRATION,
    OF_TASK,
    ORCHESTRATIONS,
    REFUSALS,
    SITUATIONS,
    TASK_SITUATIONS,
    TASKS,
    rows,
)

NOW = after(0.5)


def status_of(story: Given) -> str:
    return "deleted" if story.state.deleted else story.state.status.value


def task_status_of(story: Given, task: str, before: Given) -> str:
    """Behind a slash, the state that the orchestration was moved to."""
    moved = f"/{status_of(story)}" if status_of(story) != status_of(before) else ""
    return f"{story.task(task).status.value}{moved}"


def found(when: When, task: str | None = None) -> str:
    """The cell as it is."""
    if when.refusal is not None:
        codes = {code: cell for cell, code in REFUSALS.items()}
        return codes.get(when.refusal.code, when.refusal.code)
    if not when.events:
        return "."
    now = task_status_of(when.outcome, task, when.before) if task else status_of(when.outcome)
    before = when.before.task(task).status.value if task else status_of(when.before)
    return "=" if now == before else now


@pytest.mark.parametrize(("situation", "expected"), rows(ORCHESTRATIONS))
def test_what_each_command_does_to_an_orchestration(situation: str, expected: dict[str, str]) -> None:
    story = SITUATIONS[situation]
    assert {name: found(story.when(command, at=NOW)) for name, command in OF_ORCHESTRATION.items()} == expected


@pytest.mark.parametrize(("situation", "expected"), rows(TASKS))
def test_what_each_command_does_to_a_task(situation: str, expected: dict[str, str]) -> None:
    orchestration, task = situation.split("/")
    story = TASK_SITUATIONS[orchestration]
    assert {name: found(story.when(command(task), at=NOW), task) for name, command in OF_TASK.items()} == expected


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_command_that_comes_again_does_no_more(situation: str) -> None:
    """Once it is over, deleted or has the task already, it may be refused; it never leads to anything else."""
    for command in OF_ORCHESTRATION.values():
        does_no_more(SITUATIONS[situation], command)


@pytest.mark.parametrize("situation", [name for name, _ in rows(TASKS)])
def test_a_command_on_a_task_that_comes_again_does_no_more(situation: str) -> None:
    orchestration, task = situation.split("/")
    for command in OF_TASK.values():
        does_no_more(TASK_SITUATIONS[orchestration], command(task))


def does_no_more(story: Given, command: UserCommand) -> None:
    first = story.when(command, at=NOW)
    if first.refusal is None:
        assert first.outcome.when(command, at=NOW).events == ()


def test_the_tables_hold_every_command() -> None:
    columns = [*OF_ORCHESTRATION.values(), *(command("a") for command in OF_TASK.values())]
    assert {type(command) for command in columns} == set(get_args(UserCommand)) - {CreateOrchestration}


def test_the_tables_hold_every_situation() -> None:
    assert {name for name, _ in rows(ORCHESTRATIONS)} == set(SITUATIONS)
    assert {story.state.status for story in SITUATIONS.values()} == set(OrchestrationStatus)
    assert {name.split("/")[0] for name, _ in rows(TASKS)} == set(TASK_SITUATIONS)


@pytest.mark.parametrize("status", OrchestrationStatus)
def test_the_tables_hold_a_task_in_every_state_that_it_can_have(status: OrchestrationStatus) -> None:
    known: set[TaskStatus] = set()
    for name, _ in rows(TASKS):
        orchestration, task = name.split("/")
        if TASK_SITUATIONS[orchestration].state.status is status:
            known.add(TASK_SITUATIONS[orchestration].task(task).status)
    assert known == set(TaskStatus) - NEVER.get(status, set())

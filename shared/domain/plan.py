"""`plan`: what ought to be under way in a state. Level-triggered: carrying an action out twice does no harm."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.domain.events import Level, Schedule
from shared.domain.readiness import due_times
from shared.domain.schedule import is_scheduled
from shared.domain.state import Attempt, Orchestration, Phase, Task

Cleanup = Literal["keep", "archive", "delete"]
"""What becomes of the agents of a task that has ended."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A ticket for the attempt is in the queue."""

    attempt_id: str
    priority: Level


@dataclass(frozen=True, slots=True)
class WakeAt:
    """A timer looks at the orchestration again at `due_at`."""

    due_at: datetime


@dataclass(frozen=True, slots=True)
class KeepSchedule:
    """A timer looks at the orchestration at the first time behind `after` that the schedule names."""

    schedule: Schedule
    after: datetime


@dataclass(frozen=True, slots=True)
class CreateRun:
    """The orchestration of a firing exists."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Watch:
    """The agent of the attempt is followed until it has ended."""

    attempt_id: str
    agent_id: str
    run_id: str | None


@dataclass(frozen=True, slots=True)
class StopAgent:
    """The agent of the attempt is told to stop."""

    attempt_id: str
    agent_id: str
    run_id: str | None


@dataclass(frozen=True, slots=True)
class AwaitResult:
    """What the finished agent of the attempt has not shown yet is looked for."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class DeleteAgent:
    """The agent of the attempt is deleted at the provider."""

    attempt_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class DiscardAgent:
    """It is asked for that the agent of the attempt be deleted."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class ArchiveAgent:
    """The agent of the attempt is archived at the provider."""

    attempt_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """The attempt holds no slot."""

    attempt_id: str


Action = (
    Launch
    | WakeAt
    | KeepSchedule
    | CreateRun
    | Watch
    | StopAgent
    | AwaitResult
    | DiscardAgent
    | DeleteAgent
    | ArchiveAgent
    | FreeSlot
)


def plan(state: Orchestration, cleanup: Cleanup = "keep") -> list[Action]:
    """Every action that the state calls for."""
    actions: list[Action] = []
    for task in state.tasks.values():
        for attempt in task.attempts:
            actions.extend(_for_attempt(attempt))
        actions.extend(_for_left_agents(task, cleanup))
    actions.extend(WakeAt(due) for due in due_times(state))
    actions.extend(_for_schedule(state))
    return actions


def _for_schedule(state: Orchestration) -> Iterator[Action]:
    if state.runs is None:
        return
    if is_scheduled(state) and state.spec.schedule is not None:
        yield KeepSchedule(state.spec.schedule, state.runs.after)
    for run_id, _ in state.runs.open:
        yield CreateRun(run_id)


def _for_left_agents(task: Task, cleanup: Cleanup) -> Iterator[Action]:
    for attempt in task.left_agents if cleanup != "keep" else []:
        if cleanup == "delete":
            yield DiscardAgent(attempt.attempt_id)
        elif attempt.agent_id is not None and not attempt.agent_archived:
            yield ArchiveAgent(attempt.attempt_id, attempt.agent_id)


def _for_attempt(attempt: Attempt) -> Iterator[Action]:
    match attempt.phase:
        case Phase.QUEUED | Phase.STARTED:
            yield Launch(attempt.attempt_id, attempt.priority)
        case Phase.CREATED if attempt.agent_id is not None:
            yield Watch(attempt.attempt_id, attempt.agent_id, attempt.run_id)
            if attempt.stop_reason is not None:
                yield StopAgent(attempt.attempt_id, attempt.agent_id, attempt.run_id)
            if attempt.awaited is not None:
                yield AwaitResult(attempt.attempt_id)
        case Phase.ENDED:
            yield FreeSlot(attempt.attempt_id)
            if attempt.agent_deletion == "REQUESTED" and attempt.agent_id is not None:
                yield DeleteAgent(attempt.attempt_id, attempt.agent_id)

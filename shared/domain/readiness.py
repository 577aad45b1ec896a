"""Which tasks may be queued now, why the others wait, and which can never start."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.domain.events import OrchestrationStatus, TaskStatus
from shared.domain.state import Orchestration, Phase, Task

WaitingFor = Literal["turn", "dependency", "slot", "rate_limit", "budget", "quota", "retry", "pause"]

SATISFIED = (TaskStatus.COMPLETED, TaskStatus.SKIPPED)
LOST = (TaskStatus.FAILED, TaskStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a task waits, and when that will be looked at again where it is known."""

    reason: WaitingFor
    until: datetime | None = None


def next_tasks(state: Orchestration, now: datetime) -> list[Task]:
    """The tasks to queue now, in order: ready, their turn, room left, and within `maxCost`."""
    if state.status is not OrchestrationStatus.ACTIVE or is_over_budget(state):
        return []
    room = _limit(state) - sum(1 for task in state.tasks.values() if _holds_turn(state, task, now))
    return [task for task in state.tasks.values() if _is_ready(state, task, now)][: max(0, room)]


def due_tasks(state: Orchestration, now: datetime) -> list[Task]:
    """The tasks that wait although the time of their retry has come."""
    return [task for task in state.tasks.values() if _is_waiting(task) and task.retry_at and task.retry_at <= now]


def unreachable_tasks(state: Orchestration) -> Iterator[Task]:
    """Pending tasks that depend, also through others, on one that failed or was cancelled."""
    lost = {task.task_id for task in state.tasks.values() if task.status in LOST}
    found = True
    while found:
        found = False
        for task in state.tasks.values():
            if task.task_id not in lost and _is_waiting(task) and lost.intersection(task.spec.depends_on):
                lost.add(task.task_id)
                found = True
                yield task


def waiting_for(state: Orchestration, task: Task, now: datetime) -> Waiting | None:
    """Why the task does not run, None when it runs, has ended, or the orchestration is not under way."""
    attempt = task.current
    if attempt is not None and attempt.phase is not Phase.CREATED and attempt.delay is not None:
        return Waiting(attempt.delay.reason, attempt.delay.until)
    if task.status is not TaskStatus.PENDING:
        return None
    if state.status is OrchestrationStatus.PAUSED:
        return Waiting("pause")
    if state.status is not OrchestrationStatus.ACTIVE:
        return None
    if attempt is not None:
        return Waiting("slot")
    if task.retry_at is not None and task.retry_at > now:
        return Waiting("retry", task.retry_at)
    if not _dependencies_met(state, task):
        return Waiting("dependency")
    return Waiting("budget") if is_over_budget(state) else Waiting("turn")


def is_over_budget(state: Orchestration) -> bool:
    """Whether `maxCost` is spent."""
    return state.spec.max_cost is not None and state.total_cost >= state.spec.max_cost


def due_times(state: Orchestration) -> list[datetime]:
    """The moments at which time alone changes something, each once.

    All of them and not the next one only: a task whose time has come may still wait for something else.
    """
    if state.status is OrchestrationStatus.PENDING:
        return [state.spec.start_at] if state.spec.start_at and not state.deleted else []
    if state.status is not OrchestrationStatus.ACTIVE:
        return []
    return sorted({task.retry_at for task in state.tasks.values() if _is_waiting(task) and task.retry_at})


def _limit(state: Orchestration) -> int:
    if state.spec.execution_mode == "sequential":
        return 1
    return state.spec.max_parallel or len(state.tasks)


def _holds_turn(state: Orchestration, task: Task, now: datetime) -> bool:
    """In sequential mode a task that waits for its retry keeps its turn: the next one may build on it."""
    if task.current is not None:
        return True
    waits_for_retry = task.retry_at is not None and task.retry_at > now and not task.status.is_terminal
    return waits_for_retry and state.spec.execution_mode == "sequential"


def _is_waiting(task: Task) -> bool:
    return task.status is TaskStatus.PENDING and task.current is None


def _is_ready(state: Orchestration, task: Task, now: datetime) -> bool:
    due = task.retry_at is None or task.retry_at <= now
    return _is_waiting(task) and due and _dependencies_met(state, task)


def _dependencies_met(state: Orchestration, task: Task) -> bool:
    return all(state.tasks[task_id].status in SATISFIED for task_id in task.spec.depends_on)

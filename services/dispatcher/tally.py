"""The tally: what becomes of orchestrations and tasks, counted as each commit of the log is told.

A commit that is delivered again is not counted again; one during whose first delivery the process died may be missing,
like everything else that a process has counted and not shown.
"""

from datetime import datetime

from shared.domain import events as ev
from shared.domain.events import OrchestrationStatus, TaskStatus
from shared.domain.state import Orchestration
from shared.envelope import Commit
from shared.observability.metrics import ORCHESTRATION_SECONDS, ORCHESTRATIONS, TASK_SECONDS, TASKS

_REACHED: dict[type[ev.Event], OrchestrationStatus] = {
    ev.OrchestrationCreated: OrchestrationStatus.PENDING,
    ev.OrchestrationActivated: OrchestrationStatus.ACTIVE,
    ev.OrchestrationPaused: OrchestrationStatus.PAUSED,
    ev.OrchestrationResumed: OrchestrationStatus.ACTIVE,
    ev.OrchestrationReopened: OrchestrationStatus.ACTIVE,
    ev.OrchestrationCancelRequested: OrchestrationStatus.CANCELLING,
}


def tally(commit: Commit, state: Orchestration) -> None:
    """Count what the commit led to. `state` includes it, and may be newer."""
    for recorded in commit.events:
        match recorded.event:
            case ev.OrchestrationCompleted() as event:
                _ended(event.status, event.statistics)
            case ev.OrchestrationFailed() as event:
                _ended(OrchestrationStatus.FAILED, event.statistics)
            case ev.OrchestrationCancelled() as event:
                _ended(OrchestrationStatus.CANCELLED, event.statistics)
            case ev.TaskCompleted() as event:
                _task_ended(state, event.task_id, TaskStatus.COMPLETED, recorded.occurred_at)
            case ev.TaskFailed() as event:
                _task_ended(state, event.task_id, TaskStatus.FAILED, recorded.occurred_at)
            case ev.TaskCancelled() as event:
                _task_ended(state, event.task_id, TaskStatus.CANCELLED, recorded.occurred_at)
            case ev.TaskSkipped() as event:
                _task_ended(state, event.task_id, TaskStatus.SKIPPED, recorded.occurred_at)
            case event if (status := _REACHED.get(type(event))) is not None:
                ORCHESTRATIONS.labels(status.value).inc()


def _ended(status: OrchestrationStatus, statistics: ev.Statistics) -> None:
    ORCHESTRATIONS.labels(status.value).inc()
    ORCHESTRATION_SECONDS.labels(status.value).observe(statistics.duration_ms / 1000)


def _task_ended(state: Orchestration, task_id: str, status: TaskStatus, at: datetime) -> None:
    task = state.tasks.get(task_id)
    if task is None:
        return
    TASKS.labels(status.value, task.spec.priority, task.spec.complexity).inc()
    if task.started_at is not None:
        TASK_SECONDS.labels(status.value, task.spec.complexity).observe((at - task.started_at).total_seconds())

"""`evolve`: what an event makes of the state. It never refuses."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from shared.domain import events as ev
from shared.domain.events import OrchestrationStatus, TaskStatus
from shared.domain.state import Attempt, Orchestration, Phase, Task

_OfAttempt = (
    ev.AttemptStarted
    | ev.AgentCreated
    | ev.AgentStatusChanged
    | ev.AttemptStopRequested
    | ev.AttemptFailed
    | ev.TaskCompleted
)


def evolve(state: Orchestration | None, event: ev.OrchestrationEvent, at: datetime) -> Orchestration:
    """The state after `event`, which happened at `at`; `state` is None before the first event."""
    if state is None and isinstance(event, ev.OrchestrationCreated):
        return _created(event, at)
    if state is None:
        raise ValueError(f"the history begins with {event.type}, not with {ev.OrchestrationCreated.type}")
    return replace(_apply(state, event, at), version=state.version + 1, updated_at=at)


def _created(event: ev.OrchestrationCreated, at: datetime) -> Orchestration:
    tasks = sorted(event.tasks, key=lambda spec: spec.order_index)
    return Orchestration(
        id=event.orchestration_id,
        team=event.team,
        created_by=event.created_by,
        spec=event.spec,
        tasks={spec.task_id: Task(spec=spec, created_at=at, updated_at=at) for spec in tasks},
        created_at=at,
        updated_at=at,
        version=1,
        warnings=event.warnings,
    )


def _apply(state: Orchestration, event: ev.OrchestrationEvent, at: datetime) -> Orchestration:
    match event:
        case ev.OrchestrationCreated():
            return state
        case ev.OrchestrationActivated():
            return replace(state, status=OrchestrationStatus.ACTIVE, activated_at=at)
        case ev.TaskQueued():
            return _queued(state, event, at)
        case ev.AttemptStarted():
            return _attempt(
                state,
                event,
                at,
                lambda a: replace(
                    a,
                    phase=Phase.STARTED,
                    agent_id=event.agent_id,
                    api_version=event.api_version,
                    branch_name=event.branch_name,
                    model=event.model,
                    started_at=at,
                    deadline_at=event.deadline_at,
                    status=ev.AgentStatus.CREATING,
                ),
                lambda t: replace(t, status=TaskStatus.PROCESSING, started_at=t.started_at or at),
            )
        case ev.AgentCreated():
            return _attempt(
                state,
                event,
                at,
                lambda a: replace(
                    a,
                    phase=Phase.CREATED,
                    agent_id=event.agent_id,
                    run_id=event.run_id,
                    url=event.url,
                    status=event.status,
                    provider_status=event.provider_status,
                ),
            )
        case ev.AgentStatusChanged():
            return _attempt(
                state,
                event,
                at,
                lambda a: replace(a, status=event.status, provider_status=event.provider_status),
            )
        case ev.AttemptStopRequested():
            return _attempt(state, event, at, lambda a: replace(a, stop_reason=event.reason))
        case ev.AttemptFailed():
            return _attempt(
                state,
                event,
                at,
                lambda a: replace(
                    _ended(a, at, event.duration_ms, event.cost),
                    failure=event.failure,
                    usage=event.usage,
                    # Not known to have been created, it has no agent that could be in any status.
                    status=None if a.phase is Phase.STARTED else a.status,
                ),
                lambda t: replace(t, failure=event.failure),
            )
        case ev.TaskCompleted():
            return _attempt(
                state,
                event,
                at,
                lambda a: replace(_ended(a, at, event.duration_ms, event.cost), usage=event.usage),
                lambda t: replace(t, status=TaskStatus.COMPLETED, result=event.result, failure=None, completed_at=at),
            )
        case ev.TaskRetryScheduled():
            return _task(
                state,
                event.task_id,
                at,
                lambda t: replace(t, status=TaskStatus.PENDING, retry_count=event.retry_count, retry_at=event.due_at),
            )
        case ev.TaskFailed():
            return _task(
                state,
                event.task_id,
                at,
                lambda t: replace(t, status=TaskStatus.FAILED, failure=event.failure, failed_at=at),
            )
        case ev.TaskCancelled():
            return _task(state, event.task_id, at, lambda t: _cancelled(t, at))
        case ev.OrchestrationCompleted():
            return replace(
                state,
                status=OrchestrationStatus(event.status),
                ended_at=at,
                summary=event.summary,
                statistics=event.statistics,
            )
        case ev.OrchestrationFailed():
            return replace(
                state,
                status=OrchestrationStatus.FAILED,
                ended_at=at,
                summary=event.summary,
                failure=event.failure,
                statistics=event.statistics,
            )
        case _:
            assert_never(event)


def _task(state: Orchestration, task_id: str, at: datetime, change: Callable[[Task], Task]) -> Orchestration:
    changed = replace(change(state.tasks[task_id]), updated_at=at)
    return replace(state, tasks={**state.tasks, task_id: changed})


def _attempt(
    state: Orchestration,
    event: _OfAttempt,
    at: datetime,
    change: Callable[[Attempt], Attempt],
    change_task: Callable[[Task], Task] = lambda task: task,
) -> Orchestration:
    def apply(task: Task) -> Task:
        attempts = tuple(change(a) if a.attempt_id == event.attempt_id else a for a in task.attempts)
        return change_task(replace(task, attempts=attempts))

    return _task(state, event.task_id, at, apply)


def _queued(state: Orchestration, event: ev.TaskQueued, at: datetime) -> Orchestration:
    attempt = Attempt(
        attempt_id=event.attempt_id,
        number=event.number,
        priority=event.priority,
        base_ref=event.base_ref,
        queued_at=at,
    )
    queued = _task(
        state,
        event.task_id,
        at,
        lambda t: replace(t, attempts=(*t.attempts, attempt), retry_at=None),
    )
    return replace(queued, attempt_index={**state.attempt_index, event.attempt_id: event.task_id})


def _ended(attempt: Attempt, at: datetime, duration_ms: int = 0, cost: float = 0.0) -> Attempt:
    return replace(attempt, phase=Phase.ENDED, ended_at=at, duration_ms=duration_ms, cost=cost)


def _cancelled(task: Task, at: datetime) -> Task:
    attempts = tuple(_ended(a, at) if a.is_active else a for a in task.attempts)
    return replace(task, status=TaskStatus.CANCELLED, attempts=attempts, retry_at=None)

"""`evolve`: what an event makes of the state. It never refuses."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from shared.domain import events as ev
from shared.domain.events import OrchestrationStatus, TaskStatus
from shared.domain.state import (
    Attempt,
    AwaitedResult,
    Ending,
    LaunchDelay,
    Missed,
    Orchestration,
    Phase,
    Runs,
    Task,
    milliseconds,
)

_OfOrchestration = (
    ev.ScheduleFired
    | ev.ScheduledRunCreated
    | ev.OrchestrationActivated
    | ev.OrchestrationUpdated
    | ev.OrchestrationPaused
    | ev.OrchestrationResumed
    | ev.OrchestrationCancelRequested
    | ev.OrchestrationCancelled
    | ev.OrchestrationReopened
    | ev.OrchestrationDeleted
    | ev.OrchestrationCompleted
    | ev.OrchestrationFailed
)
_OfTask = ev.TaskReset | ev.TaskSkipped | ev.TaskRetryScheduled | ev.TaskRetryDue | ev.TaskFailed | ev.TaskCancelled
_OfAttempt = (
    ev.AttemptWaiting
    | ev.AttemptWithdrawn
    | ev.AttemptStarted
    | ev.AttemptModelDropped
    | ev.AgentCreated
    | ev.AgentStatusChanged
    | ev.AgentMissed
    | ev.AttemptResultAwaited
    | ev.AttemptStopRequested
    | ev.AttemptStopped
    | ev.AttemptFailed
    | ev.TaskCompleted
    | ev.AgentDeleteRequested
    | ev.AgentDeleted
    | ev.AgentArchived
)


def evolve(state: Orchestration | None, event: ev.OrchestrationEvent, at: datetime) -> Orchestration:
    """The state after `event`, which happened at `at`; `state` is None before the first event."""
    if state is None and isinstance(event, ev.OrchestrationCreated):
        return _created(event, at)
    if state is None:
        raise ValueError(f"the history begins with {event.type}, not with {ev.OrchestrationCreated.type}")
    return replace(_apply(state, event, at), version=state.version + 1, updated_at=at)


def _created(event: ev.OrchestrationCreated, at: datetime) -> Orchestration:
    return Orchestration(
        id=event.orchestration_id,
        team=event.team,
        created_by=event.created_by,
        spec=event.spec,
        tasks=_in_order({spec.task_id: Task(spec=spec, created_at=at, updated_at=at) for spec in event.tasks}),
        created_at=at,
        updated_at=at,
        version=1,
        warnings=event.warnings,
        schedule_id=event.schedule_id,
        runs=Runs(after=at) if event.spec.schedule else None,
    )


def _in_order(tasks: Mapping[str, Task]) -> dict[str, Task]:
    return dict(sorted(tasks.items(), key=lambda item: item[1].spec.order_index))


def _apply(state: Orchestration, event: ev.OrchestrationEvent, at: datetime) -> Orchestration:
    match event:
        case ev.OrchestrationCreated():
            return state
        case ev.TaskAdded(task=spec):
            added = Task(spec=spec, created_at=at, updated_at=at)
            tasks = _in_order({**state.tasks, spec.task_id: added})
            return replace(state, tasks=tasks, warnings=_warned(state, event.warnings))
        case ev.TaskUpdated():
            updated = _task(state, event.task_id, at, lambda task: replace(task, spec=event.spec))
            return replace(updated, tasks=_in_order(updated.tasks), warnings=_warned(state, event.warnings))
        case ev.TaskQueued():
            return _queued(state, event, at)
        case (
            ev.TaskReset()
            | ev.TaskSkipped()
            | ev.TaskRetryScheduled()
            | ev.TaskRetryDue()
            | ev.TaskFailed()
            | ev.TaskCancelled()
        ):
            return _task(state, event.task_id, at, lambda task: _of_task(task, event, at))
        case (
            ev.ScheduleFired()
            | ev.ScheduledRunCreated()
            | ev.OrchestrationActivated()
            | ev.OrchestrationUpdated()
            | ev.OrchestrationPaused()
            | ev.OrchestrationResumed()
            | ev.OrchestrationCancelRequested()
            | ev.OrchestrationCancelled()
            | ev.OrchestrationReopened()
            | ev.OrchestrationDeleted()
            | ev.OrchestrationCompleted()
            | ev.OrchestrationFailed()
        ):
            return _of_orchestration(state, event, at)
        case ev.AttemptModelDropped():
            dropped = _task(state, event.task_id, at, lambda task: _of_attempt(task, event, at))
            return replace(dropped, warnings=_warned(state, (event.warning,)))
        case _:
            return _task(state, event.task_id, at, lambda task: _of_attempt(task, event, at))


def _of_orchestration(state: Orchestration, event: _OfOrchestration, at: datetime) -> Orchestration:
    match event:
        case ev.OrchestrationActivated():
            return replace(state, status=OrchestrationStatus.ACTIVE, activated_at=at)
        case ev.OrchestrationUpdated():
            return _updated(state, event, at)
        case ev.ScheduleFired() | ev.ScheduledRunCreated():
            return replace(state, runs=_runs(state.runs or Runs(at), event))
        case ev.OrchestrationPaused():
            since = state.idle_since or at
            return replace(state, status=OrchestrationStatus.PAUSED, pause_mode=event.mode, idle_since=since)
        case ev.OrchestrationResumed():
            return replace(_going_on(state, at), status=OrchestrationStatus.ACTIVE)
        case ev.OrchestrationCancelRequested():
            asked = replace(_going_on(state, at), status=OrchestrationStatus.CANCELLING)
            return replace(asked, delete_requested=state.delete_requested or event.delete)
        case ev.OrchestrationCancelled():
            cancelled = replace(_going_on(state, at), status=OrchestrationStatus.CANCELLED)
            return replace(cancelled, ended_at=at, summary=event.summary, statistics=event.statistics)
        case ev.OrchestrationReopened():
            return _reopened(state, at)
        case ev.OrchestrationDeleted():
            return replace(state, deleted=True)
        case ev.OrchestrationCompleted():
            ended = replace(state, status=OrchestrationStatus(event.status), ended_at=at)
            return replace(ended, summary=event.summary, statistics=event.statistics)
        case ev.OrchestrationFailed():
            failed = replace(state, status=OrchestrationStatus.FAILED, ended_at=at, failure=event.failure)
            return replace(failed, summary=event.summary, statistics=event.statistics)
        case _:
            assert_never(event)


def _updated(state: Orchestration, event: ev.OrchestrationUpdated, at: datetime) -> Orchestration:
    """A changed schedule begins anew: it must not come due for a time before it was made."""
    runs = replace(state.runs or Runs(at), after=at) if "schedule" in event.changed else state.runs
    return replace(state, spec=event.spec, runs=runs, warnings=_warned(state, event.warnings))


def _warned(state: Orchestration, warnings: tuple[str, ...]) -> tuple[str, ...]:
    """What has been warned of so far, each once."""
    return tuple(dict.fromkeys((*state.warnings, *warnings)))


def _runs(runs: Runs, event: ev.ScheduleFired | ev.ScheduledRunCreated) -> Runs:
    if isinstance(event, ev.ScheduledRunCreated):
        return replace(runs, open=tuple(run for run in runs.open if run[0] != event.run_id))
    fired = replace(runs, after=event.due_at, count=runs.count + 1, last_id=event.run_id, last_at=event.due_at)
    return replace(fired, open=(*runs.open, (event.run_id, event.due_at)))


def _going_on(state: Orchestration, at: datetime) -> Orchestration:
    """No longer paused, if it was."""
    paused = milliseconds(at - state.idle_since) if state.idle_since else 0
    return replace(state, pause_mode=None, idle_since=None, idle_ms=state.idle_ms + paused)


def _reopened(state: Orchestration, at: datetime) -> Orchestration:
    over = milliseconds(at - state.ended_at) if state.ended_at and state.activated_at else 0
    return replace(
        state,
        status=OrchestrationStatus.ACTIVE,
        activated_at=state.activated_at or at,
        idle_ms=state.idle_ms + over,
        ended_at=None,
        summary=None,
        failure=None,
        statistics=None,
    )


def _of_task(task: Task, event: _OfTask, at: datetime) -> Task:
    match event:
        case ev.TaskReset():
            return _reset(task, event)
        case ev.TaskSkipped():
            return replace(_without_attempt(task, at), status=TaskStatus.SKIPPED, failure=None, failed_at=None)
        case ev.TaskRetryScheduled():
            again = replace(task, status=TaskStatus.PENDING, retry_count=event.retry_count, retry_at=event.due_at)
            return replace(again, continuation=event.continues)
        case ev.TaskRetryDue():
            return replace(task, retry_at=None)
        case ev.TaskFailed():
            return replace(task, status=TaskStatus.FAILED, failure=event.failure, failed_at=at)
        case ev.TaskCancelled():
            return replace(_without_attempt(task, at), status=TaskStatus.CANCELLED, cancel_cause=event.cause)
        case _:
            assert_never(event)


def _reset(task: Task, event: ev.TaskReset) -> Task:
    return replace(
        task,
        status=TaskStatus.PENDING,
        continuation=event.continues,
        retry_count=0,
        retry_at=None,
        result=None,
        failure=None,
        cancel_cause=None,
        started_at=None,
        completed_at=None,
        failed_at=None,
    )


def _without_attempt(task: Task, at: datetime) -> Task:
    attempts = tuple(_ended(a, at, "WITHDRAWN") if a.is_active else a for a in task.attempts)
    return replace(task, attempts=attempts, retry_at=None, continuation=None)


def _queued(state: Orchestration, event: ev.TaskQueued, at: datetime) -> Orchestration:
    attempt = Attempt(
        attempt_id=event.attempt_id,
        number=event.number,
        priority=event.priority,
        base_ref=event.base_ref,
        queued_at=at,
        continues=event.continues,
    )
    queued = _task(
        state,
        event.task_id,
        at,
        lambda t: replace(t, attempts=(*t.attempts, attempt), retry_at=None, continuation=None),
    )
    return replace(queued, attempt_index={**state.attempt_index, event.attempt_id: event.task_id})


def _of_attempt(task: Task, event: _OfAttempt, at: datetime) -> Task:
    attempts = tuple(_changed(a, event, at) if a.attempt_id == event.attempt_id else a for a in task.attempts)
    task = replace(task, attempts=attempts)
    match event:
        case ev.AttemptStarted():
            return replace(task, status=TaskStatus.PROCESSING, started_at=task.started_at or at)
        case ev.AttemptWithdrawn():
            again = None if event.reason == "AGENT_GONE" else task.attempts[-1].continues
            return replace(task, status=TaskStatus.PENDING, continuation=again)
        case ev.AttemptStopped():
            return replace(task, status=TaskStatus.PENDING, continuation=event.continues)
        case ev.AttemptFailed():
            return replace(task, failure=event.failure)
        case ev.TaskCompleted():
            return replace(task, status=TaskStatus.COMPLETED, result=event.result, failure=None, completed_at=at)
        case ev.AgentDeleteRequested() if task.continuation and task.continuation.agent_id == event.agent_id:
            return replace(task, continuation=None)
        case _:
            return task


def _changed(attempt: Attempt, event: _OfAttempt, at: datetime) -> Attempt:
    match event:
        case ev.AttemptWaiting():
            is_same = attempt.delay is not None and attempt.delay.reason == event.reason
            since = attempt.delay.since if attempt.delay and is_same else at
            return replace(attempt, delay=LaunchDelay(event.reason, since, event.until))
        case ev.AttemptStarted():
            return _started(attempt, event, at)
        case ev.AttemptModelDropped():
            return replace(attempt, model=None)
        case ev.AgentCreated():
            known = replace(attempt, phase=Phase.CREATED, agent_id=event.agent_id, run_id=event.run_id, url=event.url)
            return replace(known, status=event.status, provider_status=event.provider_status, delay=None)
        case ev.AgentStatusChanged():
            known = replace(attempt, status=event.status, provider_status=event.provider_status, missed=None)
            known = replace(known, run_id=attempt.run_id or event.run_id)
            return known if event.status is ev.AgentStatus.FINISHED else replace(known, awaited=None)
        case ev.AgentMissed():
            return replace(attempt, missed=Missed(event.since, event.times, at))
        case ev.AttemptResultAwaited():
            since = attempt.awaited.since if attempt.awaited else at
            return replace(attempt, awaited=AwaitedResult(since, event.until, event.missing, event.found))
        case ev.AttemptStopRequested():
            return replace(attempt, stop_reason=event.reason)
        case ev.AttemptWithdrawn():
            return _ended(attempt, at, "WITHDRAWN")
        case ev.AttemptStopped():
            return _closed(attempt, event, at, "STOPPED")
        case ev.AttemptFailed():
            return replace(_closed(attempt, event, at, "FAILED"), failure=event.failure)
        case ev.TaskCompleted():
            return _closed(attempt, event, at, "COMPLETED")
        case ev.AgentDeleteRequested():
            return replace(attempt, agent_deletion="REQUESTED")
        case ev.AgentDeleted():
            return replace(attempt, agent_deletion="DONE")
        case ev.AgentArchived():
            return replace(attempt, agent_archived=True)
        case _:
            assert_never(event)


def _started(attempt: Attempt, event: ev.AttemptStarted, at: datetime) -> Attempt:
    return replace(
        attempt,
        phase=Phase.STARTED,
        delay=None,
        agent_id=event.agent_id,
        api_version=event.api_version,
        branch_name=event.branch_name,
        model=event.model,
        started_at=at,
        deadline_at=event.deadline_at,
        status=ev.AgentStatus.CREATING,
    )


def _closed(
    attempt: Attempt, event: ev.AttemptStopped | ev.AttemptFailed | ev.TaskCompleted, at: datetime, ending: Ending
) -> Attempt:
    """Ended after it was started."""
    return replace(
        _ended(attempt, at, ending),
        duration_ms=event.duration_ms,
        cost=event.cost,
        usage=event.usage,
        result=event.result,
    )


def _ended(attempt: Attempt, at: datetime, ending: Ending) -> Attempt:
    """Not known to have been created, it has no agent that could be in any status."""
    status = None if attempt.phase is Phase.STARTED else attempt.status
    ended = replace(attempt, phase=Phase.ENDED, ended_at=at, ending=ending, delay=None, status=status)
    return replace(ended, awaited=None, missed=None)


def _task(state: Orchestration, task_id: str, at: datetime, change: Callable[[Task], Task]) -> Orchestration:
    changed = replace(change(state.tasks[task_id]), updated_at=at)
    return replace(state, tasks={**state.tasks, task_id: changed})

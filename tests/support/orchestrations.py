"""Specs, commands and events of orchestrations, each with what a test does not care about filled in.

A task goes by a short name ("a"), which is its id too; its n-th attempt is `attempt_id("a", n)`, with the agent
`agent_id("a", n)`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.events import AgentStatus, Continuation, OrchestrationEvent, OrchestrationSpec, TaskSpec
from shared.domain.ids import derive_id

TEAM: Final = "team-1"
ORCHESTRATION: Final = "orc-1"
REPOSITORY: Final = "https://github.com/acme/shop"
T0: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
DEADLINE: Final = T0 + timedelta(hours=2)

PAUSE: Final = cmd.PauseOrchestration()
DRAIN: Final = cmd.PauseOrchestration(mode="drain")
RESUME: Final = cmd.ResumeOrchestration()
CANCEL: Final = cmd.CancelOrchestration()
DELETE: Final = cmd.DeleteOrchestration()
TICK: Final = cmd.Tick()

REFUSED: Final = ev.Failure(code="INVALID_REPOSITORY", message="no access")
OVERLOADED: Final = ev.Failure(code="SERVICE_UNAVAILABLE", message="try later", retryable=True)


def after(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def attempt_id(task: str, number: int = 1) -> str:
    return derive_id("attempt", task, number)


def agent_id(task: str, number: int = 1) -> str:
    return f"bc-{task}-{number}"


def make_spec(**fields: Any) -> OrchestrationSpec:
    return OrchestrationSpec(**{"repository": REPOSITORY, **fields})


def make_task(name: str, **fields: Any) -> TaskSpec:
    return TaskSpec(
        **{"task_id": name, "title": f"Task {name}", "description": f"Do {name} as it should be.", **fields}
    )


def make_tasks(*tasks: str | TaskSpec) -> tuple[TaskSpec, ...]:
    """The tasks in this order, each with its place as its order index."""
    specs = (task if isinstance(task, TaskSpec) else make_task(task) for task in tasks)
    return tuple(spec.model_copy(update={"order_index": place}) for place, spec in enumerate(specs))


# Commands


def create(*tasks: str | TaskSpec, activate: bool = False, **spec: Any) -> cmd.CreateOrchestration:
    return cmd.CreateOrchestration(
        orchestration_id=ORCHESTRATION,
        team=TEAM,
        created_by="ann",
        spec=make_spec(**spec),
        tasks=make_tasks(*tasks),
        activate=activate,
    )


def start(task: str, number: int = 1) -> cmd.StartAttempt:
    return cmd.StartAttempt(
        attempt_id=attempt_id(task, number),
        agent_id=agent_id(task, number),
        api_version="v1",
        branch_name=f"cursor/{task}-{number}",
    )


def record(task: str, number: int = 1, status: AgentStatus = AgentStatus.CREATING, **fields: Any) -> cmd.RecordAgent:
    return cmd.RecordAgent(
        **{
            "attempt_id": attempt_id(task, number),
            "agent_id": agent_id(task, number),
            "status": status,
            "provider_status": status.value,
            "run_id": f"run-{task}-{number}",
            "url": f"https://cursor.com/agents/{agent_id(task, number)}",
            **fields,
        }
    )


def reject(task: str, number: int = 1, failure: ev.Failure = REFUSED) -> cmd.RejectAttempt:
    return cmd.RejectAttempt(attempt_id=attempt_id(task, number), failure=failure)


def drop_model(task: str, model: str = "o9", number: int = 1) -> cmd.DropModel:
    return cmd.DropModel(attempt_id=attempt_id(task, number), model=model, reason="it is not known")


def observe(task: str, status: AgentStatus, number: int = 1, **fields: Any) -> cmd.ObserveAgent:
    return cmd.ObserveAgent(
        **{
            "attempt_id": attempt_id(task, number),
            "agent_id": agent_id(task, number),
            "status": status,
            "provider_status": status.value,
            "source": "poll",
            **fields,
        }
    )


def finish(task: str, number: int = 1, **fields: Any) -> cmd.ObserveAgent:
    """The agent is seen FINISHED, with a branch, a summary and a cost of a quarter dollar."""
    result = {"branch": f"cursor/{task}-{number}", "summary": f"Did {task}", "cost": 0.25, "duration_ms": 60_000}
    return observe(task, AgentStatus.FINISHED, number, **{**result, **fields})


def report_missing(task: str, number: int = 1, **fields: Any) -> cmd.ReportMissing:
    return cmd.ReportMissing(
        **{
            "attempt_id": attempt_id(task, number),
            "agent_id": agent_id(task, number),
            "provider_code": "agent_not_found",
            "source": "poll",
            **fields,
        }
    )


def expire(task: str, number: int = 1) -> cmd.ExpireAttempt:
    return cmd.ExpireAttempt(attempt_id=attempt_id(task, number))


def retry(task: str) -> cmd.RetryTask:
    return cmd.RetryTask(task_id=task)


def restart(task: str) -> cmd.RestartTask:
    return cmd.RestartTask(task_id=task)


def skip(task: str) -> cmd.SkipTask:
    return cmd.SkipTask(task_id=task)


def add(task: str, *, at_end: bool = True, **fields: Any) -> cmd.AddTask:
    return cmd.AddTask(task=make_task(task, **fields), at_end=at_end)


def change(**changes: Any) -> cmd.UpdateOrchestration:
    return cmd.UpdateOrchestration(changes=changes)


def change_task(task: str, **changes: Any) -> cmd.UpdateTask:
    return cmd.UpdateTask(task_id=task, changes=changes)


def stop(task: str, number: int = 1) -> cmd.StopAttempt:
    return cmd.StopAttempt(attempt_id=attempt_id(task, number))


def follow_up(task: str, number: int = 1, prompt: str = "Now the tests.") -> cmd.FollowUp:
    return cmd.FollowUp(attempt_id=attempt_id(task, number), prompt=prompt)


def delete_agent(task: str, number: int = 1) -> cmd.DeleteAgent:
    return cmd.DeleteAgent(attempt_id=attempt_id(task, number))


def discard(task: str, number: int = 1) -> cmd.DiscardAgent:
    return cmd.DiscardAgent(attempt_id=attempt_id(task, number))


def agent_is_archived(task: str, number: int = 1) -> cmd.RecordAgentArchived:
    return cmd.RecordAgentArchived(attempt_id=attempt_id(task, number))


def agent_is_deleted(task: str, number: int = 1) -> cmd.RecordAgentDeleted:
    return cmd.RecordAgentDeleted(attempt_id=attempt_id(task, number))


def note_waiting(task: str, reason: ev.LaunchWait, number: int = 1, until: datetime | None = None) -> cmd.NoteWaiting:
    return cmd.NoteWaiting(attempt_id=attempt_id(task, number), reason=reason, until=until)


# Events


def created(*tasks: str | TaskSpec, warnings: Sequence[str] = (), **spec: Any) -> ev.OrchestrationCreated:
    return ev.OrchestrationCreated(
        orchestration_id=ORCHESTRATION,
        team=TEAM,
        created_by="ann",
        spec=make_spec(**spec),
        tasks=make_tasks(*tasks),
        warnings=tuple(warnings),
    )


def activated() -> ev.OrchestrationActivated:
    return ev.OrchestrationActivated()


def queued(
    task: str,
    number: int = 1,
    *,
    priority: ev.Level = "medium",
    base_ref: str = "main",
    continues: Continuation | None = None,
) -> ev.TaskQueued:
    return ev.TaskQueued(
        task_id=task,
        attempt_id=attempt_id(task, number),
        number=number,
        priority=priority,
        base_ref=base_ref,
        continues=continues,
    )


def going_on(task: str, number: int = 1, prompt: str | None = None) -> Continuation:
    """The agent of the task's n-th attempt, to go on."""
    return Continuation(agent_id=agent_id(task, number), api_version="v1", run_id=f"run-{task}-{number}", prompt=prompt)


def started(task: str, number: int = 1, *, deadline_at: datetime = DEADLINE, **fields: Any) -> ev.AttemptStarted:
    return ev.AttemptStarted(
        **{
            "task_id": task,
            "attempt_id": attempt_id(task, number),
            "agent_id": agent_id(task, number),
            "api_version": "v1",
            "branch_name": f"cursor/{task}-{number}",
            "deadline_at": deadline_at,
            **fields,
        }
    )


def agent_created(task: str, number: int = 1, status: AgentStatus = AgentStatus.CREATING) -> ev.AgentCreated:
    return ev.AgentCreated(
        task_id=task,
        attempt_id=attempt_id(task, number),
        agent_id=agent_id(task, number),
        status=status,
        provider_status=status.value,
        run_id=f"run-{task}-{number}",
        url=f"https://cursor.com/agents/{agent_id(task, number)}",
    )


def status_changed(
    task: str, status: AgentStatus, number: int = 1, *, provider_status: str | None = None
) -> ev.AgentStatusChanged:
    return ev.AgentStatusChanged(
        task_id=task,
        attempt_id=attempt_id(task, number),
        agent_id=agent_id(task, number),
        status=status,
        provider_status=provider_status or status.value,
        source="poll",
    )


def missed(task: str, number: int = 1, *, since: datetime, times: int) -> ev.AgentMissed:
    return ev.AgentMissed(
        task_id=task, attempt_id=attempt_id(task, number), agent_id=agent_id(task, number), since=since, times=times
    )


def result_awaited(
    task: str, *missing: ev.ResultPart, until: datetime, number: int = 1, **found: Any
) -> ev.AttemptResultAwaited:
    return ev.AttemptResultAwaited(
        task_id=task,
        attempt_id=attempt_id(task, number),
        missing=missing,
        until=until,
        found=ev.Findings(**found),
    )


def stop_requested(task: str, reason: ev.StopReason, number: int = 1) -> ev.AttemptStopRequested:
    return ev.AttemptStopRequested(task_id=task, attempt_id=attempt_id(task, number), reason=reason)


def attempt_failed(task: str, failure: ev.Failure = REFUSED, number: int = 1, *, cost: float = 0.0) -> ev.AttemptFailed:
    return ev.AttemptFailed(task_id=task, attempt_id=attempt_id(task, number), failure=failure, cost=cost)


def retry_scheduled(task: str, retry: int, due_at: datetime) -> ev.TaskRetryScheduled:
    return ev.TaskRetryScheduled(task_id=task, retry_count=retry, due_at=due_at)


def task_completed(task: str, number: int = 1, *, branch: str | None = "", cost: float = 0.25) -> ev.TaskCompleted:
    """`branch`: by default the attempt's own; None for an agent that changed nothing."""
    left = f"cursor/{task}-{number}" if branch == "" else branch
    return ev.TaskCompleted(
        task_id=task,
        attempt_id=attempt_id(task, number),
        result=ev.TaskResult(outcome="DELIVERED" if left else "NO_CHANGE", branch=left, summary=f"Did {task}"),
        duration_ms=60_000,
        cost=cost,
    )


def task_failed(task: str, failure: ev.Failure = REFUSED) -> ev.TaskFailed:
    return ev.TaskFailed(task_id=task, failure=failure)


def task_cancelled(
    task: str, cause: ev.CancelCause = "FAIL_FAST", reason: str = "another task failed for good"
) -> ev.TaskCancelled:
    return ev.TaskCancelled(task_id=task, reason=reason, cause=cause)


def task_reset(task: str, reason: ev.ResetReason, continues: Continuation | None = None) -> ev.TaskReset:
    return ev.TaskReset(task_id=task, reason=reason, continues=continues)


def task_skipped(task: str) -> ev.TaskSkipped:
    return ev.TaskSkipped(task_id=task)


def withdrawn(task: str, reason: ev.WithdrawReason = "PAUSE", number: int = 1) -> ev.AttemptWithdrawn:
    return ev.AttemptWithdrawn(task_id=task, attempt_id=attempt_id(task, number), reason=reason)


def attempt_stopped(task: str, reason: ev.StopReason = "PAUSE", number: int = 1, **fields: Any) -> ev.AttemptStopped:
    return ev.AttemptStopped(task_id=task, attempt_id=attempt_id(task, number), reason=reason, **fields)


def paused(mode: ev.PauseMode = "stop") -> ev.OrchestrationPaused:
    return ev.OrchestrationPaused(mode=mode)


def resumed() -> ev.OrchestrationResumed:
    return ev.OrchestrationResumed()


def cancel_requested(*, delete: bool = False) -> ev.OrchestrationCancelRequested:
    return ev.OrchestrationCancelRequested(delete=delete)


def running(task: str, number: int = 1, **queue: Any) -> tuple[OrchestrationEvent, ...]:
    """The task's attempt from the queue to a running agent."""
    return (
        queued(task, number, **queue),
        started(task, number),
        agent_created(task, number),
        status_changed(task, AgentStatus.RUNNING, number),
    )


def done(task: str, number: int = 1, **result: Any) -> tuple[OrchestrationEvent, ...]:
    """The task's attempt from the queue to its good end."""
    return (
        *running(task, number),
        status_changed(task, AgentStatus.FINISHED, number),
        task_completed(task, number, **result),
    )

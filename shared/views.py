"""How an orchestration is shown: the JSON objects of the REST API, of live messages and of notifications.

Everything is a function of the state alone, so that a stored view never ages; only `statistics` takes the time.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shared.domain.events import Failure, OrchestrationStatus, TaskStatus
from shared.domain.readiness import Waiting, waiting_for
from shared.domain.state import Attempt, Orchestration, Runs, Task
from shared.moments import written

View = dict[str, Any]


def orchestration_view(state: Orchestration) -> View:
    """The orchestration object, without its tasks; snake_case, times in ISO 8601."""
    spec = state.spec
    return {
        "id": state.id,
        "name": spec.name,
        "description": spec.description,
        "status": state.status.value,
        "repository": spec.repository,
        "ref": spec.ref,
        "model": spec.model,
        "strict_model": spec.strict_model,
        "priority": spec.priority,
        "auto_create_pr": spec.auto_create_pr,
        "webhook_url": spec.webhook_url,
        "execution_mode": spec.execution_mode,
        "max_parallel": spec.max_parallel,
        "failure_policy": spec.failure_policy,
        "base": spec.base,
        "deliverable": spec.deliverable,
        "max_cost": spec.max_cost,
        "start_at": written(spec.start_at),
        "schedule": spec.schedule.model_dump() if spec.schedule else None,
        "schedule_id": state.schedule_id,
        "runs": _runs_view(state.runs) if state.runs else None,
        "tags": list(spec.tags),
        "metadata": spec.metadata,
        "created_by": state.created_by,
        "summary": state.summary,
        "error_code": state.failure.code if state.failure else None,
        "error_message": state.failure.message if state.failure else None,
        "warnings": list(state.warnings),
        "created_at": written(state.created_at),
        "updated_at": written(state.updated_at),
        "activated_at": written(state.activated_at),
        "pause_mode": state.pause_mode,
        "paused_at": written(state.idle_since),
        "paused_duration": state.idle_ms,
        "completed_at": written(state.ended_at),
        "version": state.version,
    }


def _runs_view(runs: Runs) -> View:
    return {"count": runs.count, "last_id": runs.last_id, "last_at": written(runs.last_at)}


def task_view(state: Orchestration, task: Task) -> View:
    """The task object with its attempts."""
    attempt = task.attempts[-1] if task.attempts else None
    result = task.result
    waiting = waiting_for(state, task, state.updated_at)
    failure = _shortage(waiting) or task.failure
    ended = task.completed_at or task.failed_at
    return {
        "id": task.task_id,
        "orchestration_id": state.id,
        "title": task.spec.title,
        "description": task.spec.description,
        "status": task.status.value,
        "priority": task.spec.priority,
        "complexity": task.spec.complexity,
        "order_index": task.spec.order_index,
        "depends_on": list(task.spec.depends_on),
        "model": task.spec.model,
        "timeout_minutes": task.spec.timeout_minutes,
        "metadata": task.spec.metadata,
        "cloud_agent_id": _agent_id(attempt) if attempt else None,
        "cloud_agent_status": attempt.status.value if attempt and attempt.status else None,
        "cloud_agent_url": attempt.url if attempt else None,
        "outcome": result.outcome if result else None,
        "result_summary": result.summary if result else None,
        "result_branch": result.branch if result else None,
        "result_pr_url": result.pr_url if result else None,
        "error_code": failure.code if failure else None,
        "error_message": failure.message if failure else None,
        "retry_count": task.retry_count,
        "max_retries": task.spec.max_retries,
        "duration": _milliseconds(task.started_at, ended),
        "cost": round(task.cost, 6),
        "waiting_for": waiting.reason if waiting else None,
        "waiting_until": written(waiting.until) if waiting else None,
        "created_at": written(task.created_at),
        "updated_at": written(task.updated_at),
        "started_at": written(task.started_at),
        "completed_at": written(task.completed_at),
        "failed_at": written(task.failed_at),
        "attempts": [_attempt_view(attempt) for attempt in task.attempts],
    }


def _shortage(waiting: Waiting | None) -> Failure | None:
    """A task that waits for money says so where people look for errors."""
    if waiting is None or waiting.reason not in ("budget", "quota"):
        return None
    spent = "maxCost of the orchestration" if waiting.reason == "budget" else "monthly budget"
    return Failure(code="QUOTA_EXCEEDED", message=f"the {spent} is used up; the task waits until there is room")


def task_views(state: Orchestration) -> list[View]:
    return [task_view(state, task) for task in state.tasks.values()]


def _attempt_view(attempt: Attempt) -> View:
    return {
        "id": attempt.attempt_id,
        "number": attempt.number,
        "phase": attempt.phase.value,
        "base_ref": attempt.base_ref,
        "ending": attempt.ending,
        "stop_reason": attempt.stop_reason,
        "continues_agent": attempt.continues is not None,
        "agent": _agent_view(attempt) if _agent_id(attempt) else None,
        "error_code": attempt.failure.code if attempt.failure else None,
        "error_message": attempt.failure.message if attempt.failure else None,
        "result_branch": attempt.result.branch if attempt.result else None,
        "result_pr_url": attempt.result.pr_url if attempt.result else None,
        "result_summary": attempt.result.summary if attempt.result else None,
        "result_missing": list(attempt.awaited.missing) if attempt.awaited else [],
        "result_awaited_until": written(attempt.awaited.until) if attempt.awaited else None,
        "duration": attempt.duration_ms or None,
        "cost": round(attempt.cost, 6),
        "queued_at": written(attempt.queued_at),
        "started_at": written(attempt.started_at),
        "deadline_at": written(attempt.deadline_at),
        "ended_at": written(attempt.ended_at),
    }


def _agent_id(attempt: Attempt) -> str | None:
    """The agent's id once it is the provider's own: on v0 the one that we chose means nothing to anybody else."""
    is_real = attempt.api_version == "v1" or attempt.provider_status is not None
    return attempt.agent_id if is_real else None


def _agent_view(attempt: Attempt) -> View:
    return {
        "id": attempt.agent_id,
        "run_id": attempt.run_id,
        "status": attempt.status.value if attempt.status else None,
        "provider_status": attempt.provider_status,
        "url": attempt.url,
        "missing_since": written(attempt.missed.since) if attempt.missed else None,
        "api_version": attempt.api_version,
        "model": attempt.model,
    }


def statistics(orchestration: View, tasks: Sequence[View], now: datetime) -> View:
    """The statistics object, camelCase; durations in milliseconds, `progress` in percent, cost in dollars.

    Args:
        orchestration: an `orchestration_view`.
        tasks: its `task_view`s.
        now: the moment as of which an unfinished orchestration is counted.
    """
    statuses = [task["status"] for task in tasks]
    finished = sum(1 for status in statuses if TaskStatus(status).is_terminal)
    return {
        "totalTasks": len(tasks),
        "pendingTasks": statuses.count(TaskStatus.PENDING),
        "processingTasks": statuses.count(TaskStatus.PROCESSING),
        "completedTasks": statuses.count(TaskStatus.COMPLETED),
        "failedTasks": statuses.count(TaskStatus.FAILED),
        "cancelledTasks": statuses.count(TaskStatus.CANCELLED),
        "skippedTasks": statuses.count(TaskStatus.SKIPPED),
        "progress": round(100 * finished / len(tasks)) if tasks else 0,
        "duration": _elapsed(orchestration, now),
        "estimatedTimeRemaining": _remaining(orchestration, tasks),
        "totalCost": round(sum((task["cost"] for task in tasks), 0.0), 6),
    }


def _elapsed(orchestration: View, now: datetime) -> int:
    if orchestration["activated_at"] is None:
        return 0
    started = datetime.fromisoformat(orchestration["activated_at"])
    ended = orchestration["completed_at"] or orchestration.get("paused_at")
    elapsed = _milliseconds(started, datetime.fromisoformat(ended) if ended else now) or 0
    # A row that an earlier release wrote does not have it.
    paused: int = orchestration.get("paused_duration", 0)
    return max(0, elapsed - paused)


def _remaining(orchestration: View, tasks: Sequence[View]) -> int | None:
    """The mean time of the completed tasks for each one still to come; None while nothing is known."""
    if OrchestrationStatus(orchestration["status"]).is_terminal:
        return 0
    times = [task["duration"] for task in tasks if task["status"] == TaskStatus.COMPLETED and task["duration"]]
    left = sum(1 for task in tasks if not TaskStatus(task["status"]).is_terminal)
    if not times:
        return None
    at_once: int = 1 if orchestration["execution_mode"] == "sequential" else orchestration["max_parallel"] or left
    mean: float = sum(times) / len(times)
    return round(mean * left / max(1, min(at_once, left)))


def _milliseconds(start: datetime | None, end: datetime | None) -> int | None:
    if start is None or end is None:
        return None
    return max(0, round((end - start).total_seconds() * 1000))

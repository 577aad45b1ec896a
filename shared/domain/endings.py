"""How an attempt ends: what became of its agent becomes what became of its task, and the others go on."""

from typing import assert_never

from shared.domain import events as ev
from shared.domain.advance import ENDED_BY_OTHERS, give_up_others, is_account_refused, settle
from shared.domain.draft import Draft
from shared.domain.events import AgentStatus, TaskStatus
from shared.domain.state import Attempt, Task, milliseconds


def end_finished(draft: Draft) -> None:
    """Attempts that were given up while their agents, which had finished, might show more: what there is counts."""
    for task, attempt in list(draft.state.active_attempts()):
        if attempt.awaited is not None and attempt.stop_reason is not None:
            end(draft, task, attempt, AgentStatus.FINISHED, attempt.awaited.found)


def end(draft: Draft, task: Task, attempt: Attempt, status: AgentStatus, found: ev.Findings) -> None:
    """The agent was seen to end as `status`, and `found` is all that it leaves: the attempt is judged."""
    missing = _missing_deliverable(draft.state.spec.deliverable, found)
    if _has_finished(attempt, status) and missing is None:
        _complete(draft, task, attempt, found)
    elif is_no_failure(attempt):
        end_stopped(draft, task, attempt, _continuation(task, attempt, status), found)
    elif _has_finished(attempt, status) and missing is not None:
        fail(draft, task, attempt, missing, found)
    else:
        fail(draft, task, attempt, _failure_of(status), found)


def _has_finished(attempt: Attempt, status: AgentStatus) -> bool:
    """By itself. v0 may say FINISHED also of an agent that we stopped; v1 has another word for those.

    Once it was seen to have finished, whatever it is said to be later comes of something else.
    """
    if attempt.awaited is not None:
        return True
    may_be_stopped = attempt.stop_reason is not None and attempt.api_version != "v1"
    return status is AgentStatus.FINISHED and not may_be_stopped


def is_no_failure(attempt: Attempt) -> bool:
    """We had it stopped for reasons of our own."""
    return attempt.stop_reason in ("PAUSE", "CANCEL", "FAIL_FAST")


def _complete(draft: Draft, task: Task, attempt: Attempt, found: ev.Findings) -> None:
    draft.emit(
        ev.TaskCompleted(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            result=_result(found),
            duration_ms=_duration(draft, attempt, found),
            cost=found.cost or 0.0,
            usage=found.usage,
        )
    )
    settle(draft)


def _result(found: ev.Findings) -> ev.TaskResult:
    return ev.TaskResult(
        outcome="DELIVERED" if found.branch or found.pr_url else "NO_CHANGE",
        branch=found.branch,
        pr_url=found.pr_url,
        summary=found.summary,
    )


def _left_behind(found: ev.Findings | None) -> ev.TaskResult | None:
    return _result(found) if found and (found.branch or found.pr_url or found.summary) else None


def end_stopped(
    draft: Draft,
    task: Task,
    attempt: Attempt,
    continues: ev.Continuation | None,
    found: ev.Findings | None = None,
) -> None:
    """We had it stopped: its task waits to go on, with the agent of `continues` if there is one, or is given up."""
    reason = attempt.stop_reason or "CANCEL"
    is_given_up = reason == "CANCEL" or (reason == "FAIL_FAST" and _any_failed(draft))
    draft.emit(
        ev.AttemptStopped(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            reason=reason,
            result=_left_behind(found),
            continues=None if is_given_up else continues,
            duration_ms=_duration(draft, attempt, found),
            cost=(found.cost or 0.0) if found else 0.0,
            usage=found.usage if found else None,
        )
    )
    if reason == "CANCEL":
        draft.emit(ev.TaskCancelled(task_id=task.task_id, reason="the orchestration was cancelled", cause="CANCEL"))
    elif is_given_up:
        draft.emit(ev.TaskCancelled(task_id=task.task_id, reason=ENDED_BY_OTHERS, cause="FAIL_FAST"))
    settle(draft)


def _any_failed(draft: Draft) -> bool:
    """The failure that the stop was asked for may have been retried or skipped since."""
    return any(task.status is TaskStatus.FAILED for task in draft.state.tasks.values())


def _continuation(task: Task, attempt: Attempt, status: AgentStatus) -> ev.Continuation | None:
    """The agent, if it is in a state in which it can go on. If not, what the user told it must not be forgotten."""
    is_there = status in (AgentStatus.STOPPED, AgentStatus.FINISHED)
    if not is_there or attempt.agent_id is None or attempt.api_version is None:
        return task.follow_up
    return ev.Continuation(agent_id=attempt.agent_id, api_version=attempt.api_version, run_id=attempt.run_id)


def _failure_of(status: AgentStatus) -> ev.Failure:
    match status:
        case AgentStatus.EXPIRED:
            return ev.Failure(code="AGENT_EXPIRED", message="the agent expired", retryable=True)
        case AgentStatus.STOPPED:
            return ev.Failure(code="AGENT_STOPPED", message="the agent was stopped at the provider")
        case _:
            return ev.Failure(code="AGENT_FAILED", message="the agent ended in an error", retryable=True)


def _missing_deliverable(deliverable: str, found: ev.Findings) -> ev.Failure | None:
    missing = (deliverable == "branch" and not found.branch) or (deliverable == "pr" and not found.pr_url)
    if not missing:
        return None
    return ev.Failure(
        code="DELIVERABLE_MISSING",
        message=f"the agent finished without the {deliverable} that the orchestration asks for",
        retryable=True,
    )


def fail(draft: Draft, task: Task, attempt: Attempt, failure: ev.Failure, found: ev.Findings | None = None) -> None:
    """The attempt has failed: another one follows if the task has any left, else it fails, too."""
    failure = _cause_of_stop(task, attempt) or failure
    draft.emit(
        ev.AttemptFailed(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            failure=failure,
            result=_left_behind(found),
            duration_ms=_duration(draft, attempt, found),
            cost=(found.cost or 0.0) if found else 0.0,
            usage=found.usage if found else None,
        )
    )
    may_be_retried = failure.retryable and not is_account_refused(draft.state, since=attempt.queued_at)
    if may_be_retried and task.retry_count < task.spec.max_retries:
        retry = task.retry_count + 1
        due_at = draft.now + draft.deciding.policy.delay(retry, draft.deciding.jitter)
        again = draft.task(task.task_id).follow_up
        draft.emit(ev.TaskRetryScheduled(task_id=task.task_id, retry_count=retry, due_at=due_at, continues=again))
    else:
        draft.emit(ev.TaskFailed(task_id=task.task_id, failure=failure))
        give_up_others(draft, failure)
        end_finished(draft)
    settle(draft)


def _cause_of_stop(task: Task, attempt: Attempt) -> ev.Failure | None:
    """Why we had the attempt stopped where that is a failure: however it then ended, that is why."""
    match attempt.stop_reason:
        case "TIMEOUT":
            message = f"the attempt took longer than {task.spec.timeout_minutes} minutes"
            return ev.Failure(code="TIMEOUT", message=message, retryable=True)
        case "REQUESTED":
            return ev.Failure(code="AGENT_STOPPED", message="the agent was stopped on request")
        case None | "FAIL_FAST" | "PAUSE" | "CANCEL":
            return None
        case _:
            assert_never(attempt.stop_reason)


def _duration(draft: Draft, attempt: Attempt, found: ev.Findings | None) -> int:
    if found is not None and found.duration_ms is not None:
        return found.duration_ms
    finished_at = attempt.awaited.since if attempt.awaited else draft.now
    return max(0, milliseconds(finished_at - (attempt.started_at or attempt.queued_at)))

"""The life of an attempt: from its ticket to what became of its agent."""

from datetime import timedelta
from typing import Final, assert_never

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.advance import ENDED_BY_OTHERS, give_up_others, is_account_refused, request_stop, settle
from shared.domain.draft import Draft, illegal
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.state import Attempt, Orchestration, Phase, Task, milliseconds

AGENT_GONE: Final = "AGENT_GONE"
"""Code of the failure of an attempt whose agent, which it was to go on with, cannot go on."""


def note_waiting(draft: Draft, command: cmd.NoteWaiting) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    known = (attempt.delay.reason, attempt.delay.until) if attempt.delay else None
    if attempt.phase in (Phase.QUEUED, Phase.STARTED) and known != (command.reason, command.until):
        draft.emit(
            ev.AttemptWaiting(
                task_id=task.task_id, attempt_id=attempt.attempt_id, reason=command.reason, until=command.until
            )
        )


def start(draft: Draft, command: cmd.StartAttempt) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is not Phase.QUEUED or draft.status is not OrchestrationStatus.ACTIVE:
        return
    draft.emit(
        ev.AttemptStarted(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            agent_id=command.agent_id,
            api_version=command.api_version,
            branch_name=command.branch_name,
            model=task.spec.model or draft.state.spec.model,
            deadline_at=draft.now + timedelta(minutes=task.spec.timeout_minutes),
        )
    )


def record_agent(draft: Draft, command: cmd.RecordAgent | cmd.ObserveAgent) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is not Phase.STARTED:
        return
    ended = command.status.is_terminal
    draft.emit(
        ev.AgentCreated(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            agent_id=command.agent_id,
            run_id=command.run_id,
            url=command.url,
            # An end is recorded by the observation that reads the result, never by the create alone.
            status=AgentStatus.RUNNING if ended else command.status,
            provider_status=command.provider_status,
        )
    )


def may_drop_model(state: Orchestration, attempt: Attempt) -> bool:
    """Whether the agent may be created without the model that it was to have."""
    is_to_come = attempt.phase is Phase.STARTED and attempt.continues is None
    return is_to_come and attempt.model is not None and not state.spec.strict_model


def drop_model(draft: Draft, command: cmd.DropModel) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.model == command.model and may_drop_model(draft.state, attempt):
        warning = f"model {command.model!r} is left out and the provider chooses one: {command.reason}"
        draft.emit(
            ev.AttemptModelDropped(
                task_id=task.task_id, attempt_id=attempt.attempt_id, model=command.model, warning=warning
            )
        )


def reject(draft: Draft, command: cmd.RejectAttempt) -> None:
    """There is no agent, and there will be none of this attempt."""
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is not Phase.STARTED:
        return
    if _is_no_failure(attempt):
        is_gone = command.failure.code == AGENT_GONE and _goes_on_where_it_was(task, attempt)
        _end_stopped(draft, task, attempt, None if is_gone else attempt.continues)
    elif command.failure.code == AGENT_GONE and attempt.stop_reason is None and _goes_on_where_it_was(task, attempt):
        # It was to go on where it had been stopped: another agent begins anew, and nothing was tried yet.
        draft.emit(ev.AttemptWithdrawn(task_id=task.task_id, attempt_id=attempt.attempt_id, reason="AGENT_GONE"))
        settle(draft)
    else:
        _fail(draft, task, attempt, command.failure)


def _goes_on_where_it_was(task: Task, attempt: Attempt) -> bool:
    """It was to continue an agent with the task as it is described, so that another one can take its place."""
    return attempt.continues is not None and task.follow_up is None


def observe(draft: Draft, command: cmd.ObserveAgent) -> None:
    _, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is Phase.STARTED and _may_be_its_agent(attempt, command.agent_id):
        record_agent(draft, command)
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is not Phase.CREATED or attempt.agent_id != command.agent_id:
        return
    if _is_news(attempt, command):
        draft.emit(
            ev.AgentStatusChanged(
                task_id=task.task_id,
                attempt_id=attempt.attempt_id,
                agent_id=command.agent_id,
                status=command.status,
                provider_status=command.provider_status,
                source=command.source,
            )
        )
    if command.status.is_terminal:
        _end(draft, task, attempt, command)


def _may_be_its_agent(attempt: Attempt, agent_id: str) -> bool:
    """Before the create's reply: v1 takes the id that was chosen for the agent, v0 chooses one itself.

    An agent that is to go on was there before, and what is seen of it may be how its last run ended.
    """
    if attempt.continues is not None:
        return False
    return attempt.api_version != "v1" or attempt.agent_id == agent_id


def _is_news(attempt: Attempt, command: cmd.ObserveAgent) -> bool:
    """A status never goes back to CREATING: such an observation is old."""
    if command.status is AgentStatus.CREATING and attempt.status is not AgentStatus.CREATING:
        return False
    return (attempt.status, attempt.provider_status) != (command.status, command.provider_status)


def _end(draft: Draft, task: Task, attempt: Attempt, seen: cmd.ObserveAgent) -> None:
    missing = _missing_deliverable(draft.state.spec.deliverable, seen)
    if _has_finished(attempt, seen) and missing is None:
        _complete(draft, task, attempt, seen)
    elif _is_no_failure(attempt):
        _end_stopped(draft, task, attempt, _continuation(task, attempt, seen), seen)
    elif _has_finished(attempt, seen) and missing is not None:
        _fail(draft, task, attempt, missing, seen)
    else:
        _fail(draft, task, attempt, _failure_of(seen.status), seen)


def _has_finished(attempt: Attempt, seen: cmd.ObserveAgent) -> bool:
    """By itself. v0 may say FINISHED also of an agent that we stopped; v1 has another word for those."""
    may_be_stopped = attempt.stop_reason is not None and attempt.api_version != "v1"
    return seen.status is AgentStatus.FINISHED and not may_be_stopped


def _is_no_failure(attempt: Attempt) -> bool:
    """We had it stopped for reasons of our own."""
    return attempt.stop_reason in ("PAUSE", "CANCEL", "FAIL_FAST")


def _complete(draft: Draft, task: Task, attempt: Attempt, seen: cmd.ObserveAgent) -> None:
    draft.emit(
        ev.TaskCompleted(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            result=_result(seen),
            duration_ms=_duration(draft, attempt, seen),
            cost=seen.cost or 0.0,
            usage=seen.usage,
        )
    )
    settle(draft)


def _result(seen: cmd.ObserveAgent) -> ev.TaskResult:
    return ev.TaskResult(
        outcome="DELIVERED" if seen.branch or seen.pr_url else "NO_CHANGE",
        branch=seen.branch,
        pr_url=seen.pr_url,
        summary=seen.summary,
    )


def _left_behind(seen: cmd.ObserveAgent | None) -> ev.TaskResult | None:
    return _result(seen) if seen and (seen.branch or seen.pr_url or seen.summary) else None


def _end_stopped(
    draft: Draft,
    task: Task,
    attempt: Attempt,
    continues: ev.Continuation | None,
    seen: cmd.ObserveAgent | None = None,
) -> None:
    reason = attempt.stop_reason or "CANCEL"
    is_given_up = reason == "CANCEL" or (reason == "FAIL_FAST" and _any_failed(draft))
    draft.emit(
        ev.AttemptStopped(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            reason=reason,
            result=_left_behind(seen),
            continues=None if is_given_up else continues,
            duration_ms=_duration(draft, attempt, seen),
            cost=(seen.cost or 0.0) if seen else 0.0,
            usage=seen.usage if seen else None,
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


def _continuation(task: Task, attempt: Attempt, seen: cmd.ObserveAgent) -> ev.Continuation | None:
    """The agent, if it is in a state in which it can go on. If not, what the user told it must not be forgotten."""
    is_there = seen.status in (AgentStatus.STOPPED, AgentStatus.FINISHED)
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


def _missing_deliverable(deliverable: str, seen: cmd.ObserveAgent) -> ev.Failure | None:
    missing = (deliverable == "branch" and not seen.branch) or (deliverable == "pr" and not seen.pr_url)
    if not missing:
        return None
    return ev.Failure(
        code="DELIVERABLE_MISSING",
        message=f"the agent finished without the {deliverable} that the orchestration asks for",
        retryable=True,
    )


def _fail(
    draft: Draft, task: Task, attempt: Attempt, failure: ev.Failure, seen: cmd.ObserveAgent | None = None
) -> None:
    failure = _cause_of_stop(task, attempt) or failure
    draft.emit(
        ev.AttemptFailed(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            failure=failure,
            result=_left_behind(seen),
            duration_ms=_duration(draft, attempt, seen),
            cost=(seen.cost or 0.0) if seen else 0.0,
            usage=seen.usage if seen else None,
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


def _duration(draft: Draft, attempt: Attempt, seen: cmd.ObserveAgent | None) -> int:
    if seen is not None and seen.duration_ms is not None:
        return seen.duration_ms
    return max(0, milliseconds(draft.now - (attempt.started_at or attempt.queued_at)))


def expire(draft: Draft, command: cmd.ExpireAttempt) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    overdue = attempt.deadline_at is not None and attempt.deadline_at <= draft.now
    if attempt.may_have_agent and overdue and attempt.stop_reason is None:
        draft.emit(ev.AttemptStopRequested(task_id=task.task_id, attempt_id=attempt.attempt_id, reason="TIMEOUT"))


def stop(draft: Draft, command: cmd.StopAttempt) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is Phase.ENDED:
        raise illegal("the agent has ended", "ALREADY_COMPLETED")
    if attempt.phase is Phase.QUEUED:
        raise illegal("the attempt is not launched yet: pause or skip the task instead")
    request_stop(draft, task, "REQUESTED")


def delete_agent(draft: Draft, command: cmd.DeleteAgent) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    if not attempt.has_had_agent or attempt.agent_id is None:
        raise Refusal("AGENT_NOT_FOUND", "the attempt has no agent")
    if task.current is not None and attempt.agent_id in _agents_of(task.current):
        raise illegal("the agent is at work, or about to go on: stop it, or pause, first", "ALREADY_ACTIVE")
    if task.continuation and task.continuation.agent_id == attempt.agent_id and _has_words(task, task.continuation):
        raise illegal("the agent is about to go on with a follow-up: skip the task first", "ALREADY_ACTIVE")
    if not task.has_deleted(attempt.agent_id):
        requested = ev.AgentDeleteRequested(
            task_id=task.task_id, attempt_id=attempt.attempt_id, agent_id=attempt.agent_id
        )
        draft.emit(requested)


def _has_words(task: Task, agent: ev.Continuation) -> bool:
    """The agent is to go on with what the user told it, which no other one could."""
    return agent.prompt is not None or task.follow_up is not None


def _agents_of(attempt: Attempt) -> tuple[str | None, str | None]:
    return attempt.agent_id, attempt.continues.agent_id if attempt.continues else None


def discard_agent(draft: Draft, command: cmd.DiscardAgent) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    if attempt in task.left_agents and attempt.agent_id is not None:
        draft.emit(
            ev.AgentDeleteRequested(task_id=task.task_id, attempt_id=attempt.attempt_id, agent_id=attempt.agent_id)
        )


def record_agent_archived(draft: Draft, command: cmd.RecordAgentArchived) -> None:
    """Not where the task goes on by now: the agent is brought back for that, or archived again when that has ended."""
    task, attempt = draft.attempt(command.attempt_id)
    if attempt in task.left_agents and attempt.agent_id is not None and not attempt.agent_archived:
        draft.emit(ev.AgentArchived(task_id=task.task_id, attempt_id=attempt.attempt_id, agent_id=attempt.agent_id))


def record_agent_deleted(draft: Draft, command: cmd.RecordAgentDeleted) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.agent_deletion == "REQUESTED" and attempt.agent_id is not None:
        deleted = ev.AgentDeleted(task_id=task.task_id, attempt_id=attempt.attempt_id, agent_id=attempt.agent_id)
        draft.emit(deleted)

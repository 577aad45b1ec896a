"""The life of an attempt: from its ticket to what became of its agent."""

from datetime import datetime, timedelta
from typing import Final, assert_never

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.advance import ENDED_BY_OTHERS, give_up_others, is_account_refused, request_stop, settle
from shared.domain.draft import Draft, illegal
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.state import Attempt, Orchestration, Phase, Task, milliseconds

AGENT_LOST: Final = "AGENT_LOST"
"""Code of the failure of an attempt whose agent the provider does not know any more."""
_LOOKS_FOR_LOST: Final = 3

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
    if _is_news(draft, attempt, command):
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
        _end_or_await(draft, task, attempt, command)


def _may_be_its_agent(attempt: Attempt, agent_id: str) -> bool:
    """Before the create's reply: v1 takes the id that was chosen for the agent, v0 chooses one itself.

    An agent that is to go on was there before, and what is seen of it may be how its last run ended.
    """
    if attempt.continues is not None:
        return False
    return attempt.api_version != "v1" or attempt.agent_id == agent_id


def _is_news(draft: Draft, attempt: Attempt, command: cmd.ObserveAgent) -> bool:
    """A status never goes back to CREATING, nor from an end: such an observation is old.

    But an agent that is RUNNING when its result was to be there has been set to work again, by a person, or its end
    was that of an earlier run: it has its deadline back. Of an agent that was missed it is news that it is there.
    """
    if command.status is AgentStatus.CREATING and attempt.status is not AgentStatus.CREATING:
        return False
    if attempt.awaited is not None and command.status is not AgentStatus.FINISHED:
        return command.status is AgentStatus.RUNNING and draft.now >= attempt.awaited.until
    return attempt.missed is not None or (attempt.status, attempt.provider_status) != (
        command.status,
        command.provider_status,
    )


def report_missing(draft: Draft, command: cmd.ReportMissing) -> None:
    """Three looks over `lost_after` make an agent lost; those that come too soon after another do not count.

    One that was told to stop has stopped with the first.
    """
    task, attempt = draft.attempt(command.attempt_id)
    is_known = attempt.phase is Phase.CREATED and attempt.agent_id == command.agent_id
    if not is_known or attempt.stop_reason is not None:
        return
    distance = draft.deciding.patience.lost_after / (_LOOKS_FOR_LOST - 1)
    if attempt.missed is not None and draft.now < attempt.missed.at + distance:
        return
    since, times = (attempt.missed.since, attempt.missed.times) if attempt.missed else (draft.now, 0)
    if times + 1 < _LOOKS_FOR_LOST:
        draft.emit(
            ev.AgentMissed(
                task_id=task.task_id,
                attempt_id=attempt.attempt_id,
                agent_id=command.agent_id,
                since=since,
                times=times + 1,
            )
        )
    elif attempt.awaited is not None:
        _end(draft, task, attempt, AgentStatus.FINISHED, attempt.awaited.found)
    else:
        _lose(draft, task, attempt, command, since)


def _lose(draft: Draft, task: Task, attempt: Attempt, command: cmd.ReportMissing, since: datetime) -> None:
    draft.emit(
        ev.AgentStatusChanged(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            agent_id=command.agent_id,
            status=AgentStatus.UNKNOWN,
            provider_status=command.provider_code,
            source=command.source,
        )
    )
    message = f"the provider has not known the agent since {since:%Y-%m-%d %H:%M:%S} UTC"
    failure = ev.Failure(code=AGENT_LOST, message=message, retryable=True)
    _fail(draft, task, attempt, failure, ev.Findings(cost=command.cost))


def _end_or_await(draft: Draft, task: Task, attempt: Attempt, seen: cmd.ObserveAgent) -> None:
    """FINISHED says that the agent's turn is over, not that its work is there: what is missing is waited for."""
    found = _findings(attempt, seen)
    missing = _still_to_come(draft.state.spec, found, usage_pending=seen.usage_pending)
    until = attempt.awaited.until if attempt.awaited else draft.now + draft.deciding.patience.result_grace
    may_come = seen.status is AgentStatus.FINISHED and attempt.stop_reason is None and draft.now < until
    if not (missing and may_come):
        _end(draft, task, attempt, seen.status, found)
    elif attempt.awaited is None or attempt.awaited.missing != missing:
        awaited = ev.AttemptResultAwaited(
            task_id=task.task_id, attempt_id=attempt.attempt_id, missing=missing, until=until, found=found
        )
        draft.emit(awaited)


def _findings(attempt: Attempt, seen: cmd.ObserveAgent) -> ev.Findings:
    """What is seen now, and what was seen before and is not there now: looks may come in any order."""
    before = attempt.awaited.found if attempt.awaited else ev.Findings()
    priced = before if before.usage and not seen.usage else seen
    return ev.Findings(
        branch=seen.branch or before.branch,
        pr_url=seen.pr_url or before.pr_url,
        summary=seen.summary or before.summary,
        duration_ms=before.duration_ms if seen.duration_ms is None else seen.duration_ms,
        cost=before.cost if priced.cost is None else priced.cost,
        usage=priced.usage,
    )


def _still_to_come(spec: ev.OrchestrationSpec, found: ev.Findings, *, usage_pending: bool) -> tuple[ev.ResultPart, ...]:
    is_missing: dict[ev.ResultPart, bool] = {
        "branch": not found.branch,
        "pull_request": not found.pr_url and (spec.auto_create_pr or spec.deliverable == "pr"),
        "summary": not found.summary,
        "usage": not found.usage and usage_pending,
    }
    return tuple(part for part, missing in is_missing.items() if missing)


def end_finished(draft: Draft) -> None:
    """Attempts that were given up while their agents, which had finished, might show more: what there is counts."""
    for task, attempt in list(draft.state.active_attempts()):
        if attempt.awaited is not None and attempt.stop_reason is not None:
            _end(draft, task, attempt, AgentStatus.FINISHED, attempt.awaited.found)


def _end(draft: Draft, task: Task, attempt: Attempt, status: AgentStatus, found: ev.Findings) -> None:
    missing = _missing_deliverable(draft.state.spec.deliverable, found)
    if _has_finished(attempt, status) and missing is None:
        _complete(draft, task, attempt, found)
    elif _is_no_failure(attempt):
        _end_stopped(draft, task, attempt, _continuation(task, attempt, status), found)
    elif _has_finished(attempt, status) and missing is not None:
        _fail(draft, task, attempt, missing, found)
    else:
        _fail(draft, task, attempt, _failure_of(status), found)


def _has_finished(attempt: Attempt, status: AgentStatus) -> bool:
    """By itself. v0 may say FINISHED also of an agent that we stopped; v1 has another word for those.

    Once it was seen to have finished, whatever it is said to be later comes of something else.
    """
    if attempt.awaited is not None:
        return True
    may_be_stopped = attempt.stop_reason is not None and attempt.api_version != "v1"
    return status is AgentStatus.FINISHED and not may_be_stopped


def _is_no_failure(attempt: Attempt) -> bool:
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


def _end_stopped(
    draft: Draft,
    task: Task,
    attempt: Attempt,
    continues: ev.Continuation | None,
    found: ev.Findings | None = None,
) -> None:
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


def _fail(draft: Draft, task: Task, attempt: Attempt, failure: ev.Failure, found: ev.Findings | None = None) -> None:
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


def expire(draft: Draft, command: cmd.ExpireAttempt) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    overdue = attempt.deadline_at is not None and attempt.deadline_at <= draft.now
    is_at_work = attempt.may_have_agent and attempt.awaited is None
    if is_at_work and overdue and attempt.stop_reason is None:
        draft.emit(ev.AttemptStopRequested(task_id=task.task_id, attempt_id=attempt.attempt_id, reason="TIMEOUT"))


def stop(draft: Draft, command: cmd.StopAttempt) -> None:
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is Phase.ENDED:
        raise illegal("the agent has ended", "ALREADY_COMPLETED")
    if attempt.awaited is not None:
        raise illegal("the agent has finished; its result is being looked for", "ALREADY_COMPLETED")
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

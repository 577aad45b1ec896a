"""The life of an attempt from its ticket on, but for what is seen of its agent and how it ends."""

from datetime import timedelta
from typing import Final

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.advance import request_stop, settle
from shared.domain.draft import Draft, illegal
from shared.domain.endings import end_stopped, fail, is_no_failure
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, OrchestrationStatus
from shared.domain.state import Attempt, Orchestration, Phase, Task

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
    if is_no_failure(attempt):
        is_gone = command.failure.code == AGENT_GONE and _goes_on_where_it_was(task, attempt)
        end_stopped(draft, task, attempt, None if is_gone else attempt.continues)
    elif command.failure.code == AGENT_GONE and attempt.stop_reason is None and _goes_on_where_it_was(task, attempt):
        # It was to go on where it had been stopped: another agent begins anew, and nothing was tried yet.
        draft.emit(ev.AttemptWithdrawn(task_id=task.task_id, attempt_id=attempt.attempt_id, reason="AGENT_GONE"))
        settle(draft)
    else:
        fail(draft, task, attempt, command.failure)


def _goes_on_where_it_was(task: Task, attempt: Attempt) -> bool:
    """It was to continue an agent with the task as it is described, so that another one can take its place."""
    return attempt.continues is not None and task.follow_up is None


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

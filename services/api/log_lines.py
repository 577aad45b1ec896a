"""The log of an orchestration for people: lines derived from its events and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import assert_never

from services.api import log_words as words
from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus
from shared.domain.state import Orchestration
from shared.envelope import RecordedEvent, Stored
from shared.moments import written
from shared.views import View

_TaskEvent = (
    ev.TaskAdded
    | ev.TaskUpdated
    | ev.TaskReset
    | ev.TaskSkipped
    | ev.TaskQueued
    | ev.TaskRetryScheduled
    | ev.TaskRetryDue
    | ev.TaskCompleted
    | ev.TaskFailed
    | ev.TaskCancelled
)
_AttemptEvent = (
    ev.AttemptWaiting
    | ev.AttemptStarted
    | ev.AttemptModelDropped
    | ev.AgentCreated
    | ev.AgentStatusChanged
    | ev.AgentMissed
    | ev.AttemptResultAwaited
    | ev.AttemptStopRequested
    | ev.AttemptStopped
    | ev.AttemptWithdrawn
    | ev.AttemptFailed
    | ev.AgentDeleteRequested
    | ev.AgentDeleted
    | ev.AgentArchived
)


class Level(IntEnum):
    """How much a line matters; who asks for one level gets those above it, too."""

    INFO = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `event` is the type of the event that it tells of; task and attempt are None where it is about none."""

    sequence: int
    time: datetime
    level: Level
    message: str
    event: str
    task_id: str | None
    task_title: str | None
    attempt_id: str | None

    def view(self) -> View:
        """The JSON object."""
        return {
            "sequence": self.sequence,
            "time": written(self.time),
            "level": self.level.name.lower(),
            "message": self.message,
            "event": self.event,
            "task_id": self.task_id,
            "task_title": self.task_title,
            "attempt_id": self.attempt_id,
        }


@dataclass(frozen=True, slots=True)
class _Said:
    """What there is to say of an event."""

    message: str
    level: Level = Level.INFO


def log_lines(stored: Stored, after: Orchestration) -> Iterator[LogLine]:
    """The lines of one commit, in order.

    Args:
        after: the state behind the commit, which knows titles and numbers.
    """
    for recorded in stored.commit.events:
        for said in _said(recorded.event, stored, after):
            yield _line(stored.sequence, recorded, said, after)


def _line(sequence: int, recorded: RecordedEvent, said: _Said, after: Orchestration) -> LogLine:
    event = recorded.event
    task_id = event.task.task_id if isinstance(event, ev.TaskAdded) else getattr(event, "task_id", None)
    task = after.tasks.get(task_id) if task_id else None
    title = task.spec.title if task else None
    return LogLine(
        sequence=sequence,
        time=recorded.occurred_at,
        level=said.level,
        message=words.one_line(f"{title}: {said.message}" if title else said.message),
        event=event.type,
        task_id=task_id,
        task_title=title,
        attempt_id=getattr(event, "attempt_id", None),
    )


def _said(event: ev.OrchestrationEvent, stored: Stored, after: Orchestration) -> list[_Said]:
    """What happened, and then what was to be warned of with it."""
    warnings: tuple[str, ...] = getattr(event, "warnings", ())
    return [*_happened(event, stored, after), *(_Said(warning, Level.WARNING) for warning in warnings)]


def _happened(event: ev.OrchestrationEvent, stored: Stored, after: Orchestration) -> list[_Said]:
    actor = stored.commit.actor
    if isinstance(event, _TaskEvent):
        return [_of_task(event, stored, after)]
    if isinstance(event, _AttemptEvent):
        return [_of_attempt(event, actor, after)]
    match event:
        case ev.OrchestrationCreated():
            return _creation(event)
        case ev.OrchestrationActivated():
            return [_Said(f"activated by {actor}")]
        case ev.OrchestrationUpdated():
            return [_Said(f"changed by {actor}: {', '.join(event.changed)}")]
        case ev.OrchestrationPaused():
            running = "are stopped" if event.mode == "stop" else "may finish"
            return [_Said(f"paused by {actor}; agents that run {running}")]
        case ev.OrchestrationResumed():
            return [_Said(f"resumed by {actor}")]
        case ev.OrchestrationCancelRequested():
            what = "cancelled and then deleted" if event.delete else "cancelled"
            return [_Said(f"is to be {what}, asked for by {actor}", Level.WARNING)]
        case ev.OrchestrationCancelled():
            return [_Said(f"CANCELLED: {event.summary}", Level.WARNING)]
        case ev.OrchestrationReopened():
            return [_Said("had ended and is under way again")]
        case ev.OrchestrationDeleted():
            return [_Said("deleted", Level.WARNING)]
        case ev.OrchestrationCompleted():
            level = Level.INFO if event.status == OrchestrationStatus.COMPLETED else Level.WARNING
            return [_Said(f"{event.status}: {event.summary}", level)]
        case ev.OrchestrationFailed():
            return [_Said(f"FAILED: {event.summary}; {words.failure(event.failure)}", Level.ERROR)]
        case ev.ScheduleFired():
            missed = f"; {event.skipped} times before it were missed" if event.skipped else ""
            due = f"came due at {written(event.due_at)}: orchestration {event.run_id} is to be created"
            return [_Said(due + missed, Level.WARNING if event.skipped else Level.INFO)]
        case ev.ScheduledRunCreated():
            return [_Said(f"orchestration {event.run_id} is created")]
        case _:
            assert_never(event)


def _creation(event: ev.OrchestrationCreated) -> list[_Said]:
    tasks = "1 task" if len(event.tasks) == 1 else f"{len(event.tasks)} tasks"
    return [_Said(f"created by {event.created_by}: {tasks} on {event.spec.repository} at {event.spec.ref}")]


def _of_task(event: _TaskEvent, stored: Stored, after: Orchestration) -> _Said:
    actor = stored.commit.actor
    match event:
        case ev.TaskAdded():
            return _Said(f"added by {actor}")
        case ev.TaskUpdated():
            return _Said(f"changed by {actor}: {', '.join(event.changed)}")
        case ev.TaskReset():
            return _Said(words.reset(event.reason, actor))
        case ev.TaskSkipped():
            return _Said(f"skipped by {actor}")
        case ev.TaskQueued():
            agent = event.continues
            start = f"goes on with agent {agent.agent_id}" if agent else f"starts from {event.base_ref}"
            return _Said(f"attempt {event.number} is queued with {event.priority} priority and {start}")
        case ev.TaskRetryScheduled():
            return _retry(event, stored, after)
        case ev.TaskRetryDue():
            return _Said("its retry is due, and waits for room")
        case ev.TaskCompleted():
            end = f"completed after {words.spent(event.duration_ms, event.cost)}"
            return _Said(f"{end}: {words.result(event.result)}")
        case ev.TaskFailed():
            return _Said(f"failed for good: {words.failure(event.failure)}", Level.ERROR)
        case ev.TaskCancelled():
            return _Said(f"cancelled: {event.reason}", Level.WARNING)
        case _:
            assert_never(event)


def _retry(event: ev.TaskRetryScheduled, stored: Stored, after: Orchestration) -> _Said:
    """When, and why: the attempt's failure stands in the same commit."""
    number = f"retry {event.retry_count} of {after.tasks[event.task_id].spec.max_retries}"
    causes = [
        recorded.event.failure
        for recorded in stored.commit.events
        if isinstance(recorded.event, ev.AttemptFailed) and recorded.event.task_id == event.task_id
    ]
    why = f", for {words.failure(causes[-1])}" if causes else ""
    return _Said(f"{number} comes at {written(event.due_at)}{why}", Level.WARNING)


def _of_attempt(event: _AttemptEvent, actor: str, after: Orchestration) -> _Said:
    attempt = _attempt(event.attempt_id, after)
    match event:
        case ev.AttemptWaiting():
            return _waiting(event, attempt)
        case ev.AttemptStarted():
            # v1 takes no name for the branch: the agent chooses one itself, which its result tells.
            branch = f" on branch {event.branch_name}" if event.api_version == "v0" else ""
            model = f" with model {event.model}" if event.model else ""
            limit = f"it may take until {written(event.deadline_at)}"
            return _Said(f"{attempt} starts its agent{branch}{model}; {limit}")
        case ev.AttemptModelDropped():
            return _Said(event.warning, Level.WARNING)
        case ev.AgentCreated():
            see = f", see {event.url}" if event.url else ""
            return _Said(f"{attempt} has agent {event.agent_id}{see}")
        case ev.AgentStatusChanged():
            return _agent_status(event)
        case ev.AgentMissed():
            missed = f"agent {event.agent_id} is not found at the provider since {written(event.since)}"
            return _Said(f"{missed}; after some minutes it counts as lost", Level.WARNING)
        case ev.AttemptResultAwaited():
            parts = words.parts(event.missing)
            return _Said(f"{attempt}: its agent has finished, looking for its {parts} until {written(event.until)}")
        case ev.AttemptStopRequested():
            why = words.why_stopped(event.reason, actor)
            return _Said(f"{attempt} is to be stopped: {why}", Level.WARNING)
        case ev.AttemptStopped():
            return _Said(f"{attempt} was stopped after {words.spent(event.duration_ms, event.cost)}")
        case ev.AttemptWithdrawn():
            return _Said(f"{attempt} is taken back: {words.why_withdrawn(event.reason)}")
        case ev.AttemptFailed():
            after_all = f"{attempt} failed after {words.spent(event.duration_ms, event.cost)}"
            return _Said(f"{after_all}: {words.failure(event.failure)}", Level.WARNING)
        case ev.AgentDeleteRequested():
            return _Said(f"agent {event.agent_id} is to be deleted, asked for by {actor}")
        case ev.AgentDeleted():
            return _Said(f"agent {event.agent_id} is deleted")
        case ev.AgentArchived():
            return _Said(f"agent {event.agent_id} is archived")
        case _:
            assert_never(event)


def _attempt(attempt_id: str, after: Orchestration) -> str:
    found = after.find_attempt(attempt_id)
    return f"attempt {found[1].number}" if found else "an attempt"


def _waiting(event: ev.AttemptWaiting, attempt: str) -> _Said:
    """A slot frees itself and a rate limit passes; for the others somebody may have to do something."""
    until = f", looked at again at {written(event.until)}" if event.until else ""
    level = Level.WARNING if event.reason in ("budget", "quota") else Level.INFO
    return _Said(f"{attempt} waits {words.wait(event.reason)}{until}", level)


def _agent_status(event: ev.AgentStatusChanged) -> _Said:
    own_word = f" ({event.provider_status})" if event.provider_status != event.status else ""
    is_bad = event.status in (AgentStatus.FAILED, AgentStatus.EXPIRED, AgentStatus.UNKNOWN)
    level = Level.WARNING if is_bad else Level.INFO
    return _Said(f"agent {event.agent_id} is {event.status}{own_word}, known by {event.source}", level)

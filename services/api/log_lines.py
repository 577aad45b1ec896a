"""The log of an orchestration for people: lines derived from its events and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final, assert_never

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus
from shared.domain.state import Orchestration
from shared.envelope import RecordedEvent, Stored
from shared.views import View

_LONGEST: Final = 500

_TaskEvent = (
    ev.TaskAdded
    | ev.TaskUpdated
    | ev.TaskReset
    | ev.TaskSkipped
    | ev.TaskQueued
    | ev.TaskRetryScheduled
    | ev.TaskCompleted
    | ev.TaskFailed
    | ev.TaskCancelled
)
_AttemptEvent = (
    ev.AttemptWaiting
    | ev.AttemptStarted
    | ev.AgentCreated
    | ev.AgentStatusChanged
    | ev.AttemptStopRequested
    | ev.AttemptStopped
    | ev.AttemptWithdrawn
    | ev.AttemptFailed
    | ev.AgentDeleteRequested
    | ev.AgentDeleted
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
    task_id: str | None = None
    task_title: str | None = None
    attempt_id: str | None = None

    def view(self) -> View:
        """The JSON object."""
        return {
            "sequence": self.sequence,
            "time": _time(self.time),
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
        for said in _said(recorded, stored, after):
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
        message=_one_line(f"{title}: {said.message}" if title else said.message),
        event=event.type,
        task_id=task_id,
        task_title=title,
        attempt_id=getattr(event, "attempt_id", None),
    )


def _said(recorded: RecordedEvent, stored: Stored, after: Orchestration) -> Iterator[_Said]:
    event, actor = recorded.event, stored.commit.actor
    match event:
        case ev.OrchestrationCreated():
            tasks = "1 task" if len(event.tasks) == 1 else f"{len(event.tasks)} tasks"
            yield _Said(f"created by {event.created_by}: {tasks} on {event.spec.repository} at {event.spec.ref}")
            yield from (_Said(warning, Level.WARNING) for warning in event.warnings)
        case ev.OrchestrationActivated():
            yield _Said(f"activated by {actor}")
        case ev.OrchestrationUpdated():
            yield _Said(f"changed by {actor}: {_names(event.changed)}")
        case ev.OrchestrationPaused():
            running = "running agents are stopped" if event.mode == "stop" else "running agents may finish"
            yield _Said(f"paused by {actor}; {running}")
        case ev.OrchestrationResumed():
            yield _Said(f"resumed by {actor}")
        case ev.OrchestrationCancelRequested():
            end = "cancelled and then deleted" if event.delete else "cancelled"
            yield _Said(f"is to be {end}, asked for by {actor}", Level.WARNING)
        case ev.OrchestrationCancelled():
            yield _Said(f"CANCELLED: {event.summary}", Level.WARNING)
        case ev.OrchestrationReopened():
            yield _Said("had ended and is ACTIVE again")
        case ev.OrchestrationDeleted():
            yield _Said("deleted", Level.WARNING)
        case ev.OrchestrationCompleted():
            whole = event.status == OrchestrationStatus.COMPLETED
            yield _Said(f"{event.status}: {event.summary}", Level.INFO if whole else Level.WARNING)
        case ev.OrchestrationFailed():
            yield _Said(f"FAILED: {event.summary}; {_failure(event.failure)}", Level.ERROR)
        case (
            ev.TaskAdded()
            | ev.TaskUpdated()
            | ev.TaskReset()
            | ev.TaskSkipped()
            | ev.TaskQueued()
            | ev.TaskRetryScheduled()
            | ev.TaskCompleted()
            | ev.TaskFailed()
            | ev.TaskCancelled()
        ):
            yield _of_task(event, stored, after)
        case _:
            yield _of_attempt(event, actor, after)


def _of_task(event: _TaskEvent, stored: Stored, after: Orchestration) -> _Said:
    actor = stored.commit.actor
    match event:
        case ev.TaskAdded():
            return _Said(f"added by {actor}")
        case ev.TaskUpdated():
            return _Said(f"changed by {actor}: {_names(event.changed)}")
        case ev.TaskReset():
            return _Said(_reset(event.reason, actor))
        case ev.TaskSkipped():
            return _Said(f"skipped by {actor}")
        case ev.TaskQueued():
            start = (
                f"goes on with agent {event.continues.agent_id}" if event.continues else f"starts from {event.base_ref}"
            )
            return _Said(f"attempt {event.number} is queued with {event.priority} priority and {start}")
        case ev.TaskRetryScheduled():
            return _retry(event, stored, after)
        case ev.TaskCompleted():
            end = f"completed after {_span(event.duration_ms)}{_cost(event.cost)}: {_result(event.result)}"
            return _Said(end)
        case ev.TaskFailed():
            return _Said(f"failed for good: {_failure(event.failure)}", Level.ERROR)
        case ev.TaskCancelled():
            return _Said(f"cancelled: {event.reason}", Level.WARNING)
        case _:
            assert_never(event)


def _of_attempt(event: _AttemptEvent, actor: str, after: Orchestration) -> _Said:
    attempt = _attempt(event.attempt_id, after)
    match event:
        case ev.AttemptWaiting():
            until = f", looked at again at {_time(event.until)}" if event.until else ""
            return _Said(f"{attempt} waits {_wait(event.reason)}{until}", _wait_level(event.reason))
        case ev.AttemptStarted():
            model = f" with model {event.model}" if event.model else ""
            limit = f"it may take until {_time(event.deadline_at)}"
            return _Said(f"{attempt} starts its agent on branch {event.branch_name}{model}; {limit}")
        case ev.AgentCreated():
            return _Said(f"{attempt} has agent {event.agent_id}{_see(event.url)}")
        case ev.AgentStatusChanged():
            return _agent_status(event)
        case ev.AttemptStopRequested():
            return _Said(f"{attempt} is to be stopped: {_why_stopped(event.reason, actor)}", Level.WARNING)
        case ev.AttemptStopped():
            return _Said(f"{attempt} was stopped after {_span(event.duration_ms)}{_cost(event.cost)}")
        case ev.AttemptWithdrawn():
            return _Said(f"{attempt} is taken back: {_why_withdrawn(event.reason)}")
        case ev.AttemptFailed():
            cost = f"{_span(event.duration_ms)}{_cost(event.cost)}"
            return _Said(f"{attempt} failed after {cost}: {_failure(event.failure)}", Level.WARNING)
        case ev.AgentDeleteRequested():
            return _Said(f"agent {event.agent_id} is to be deleted, asked for by {actor}")
        case ev.AgentDeleted():
            return _Said(f"agent {event.agent_id} is deleted")
        case _:
            assert_never(event)


def _attempt(attempt_id: str, after: Orchestration) -> str:
    found = after.find_attempt(attempt_id)
    return f"attempt {found[1].number}" if found else "an attempt"


def _agent_status(event: ev.AgentStatusChanged) -> _Said:
    own_word = f" ({event.provider_status})" if event.provider_status != event.status else ""
    is_bad = event.status in (AgentStatus.FAILED, AgentStatus.EXPIRED, AgentStatus.UNKNOWN)
    level = Level.WARNING if is_bad else Level.INFO
    return _Said(f"agent {event.agent_id} is {event.status}{own_word}, known by {event.source}", level)


def _retry(event: ev.TaskRetryScheduled, stored: Stored, after: Orchestration) -> _Said:
    """When, and why: the attempt's failure stands in the same commit."""
    number = f"retry {event.retry_count} of {after.tasks[event.task_id].spec.max_retries}"
    causes = [
        recorded.event.failure
        for recorded in stored.commit.events
        if isinstance(recorded.event, ev.AttemptFailed) and recorded.event.task_id == event.task_id
    ]
    why = f", for {_failure(causes[-1])}" if causes else ""
    return _Said(f"{number} comes at {_time(event.due_at)}{why}", Level.WARNING)


def _reset(reason: ev.ResetReason, actor: str) -> str:
    match reason:
        case "RETRY":
            return f"is to be tried again, asked for by {actor}"
        case "RESTART":
            return f"starts anew, asked for by {actor}"
        case "FOLLOW_UP":
            return f"goes on with its agent on a new prompt by {actor}"
        case "REVIVED":
            return "is PENDING again: what it was given up for is taken up again"
        case _:
            assert_never(reason)


def _wait(reason: ev.LaunchWait) -> str:
    match reason:
        case "slot":
            return "for a free slot"
        case "rate_limit":
            return "for the rate limit of the provider"
        case "budget":
            return "for room in the budget (QUOTA_EXCEEDED)"
        case "quota":
            return "for the quota of the provider (QUOTA_EXCEEDED)"
        case _:
            assert_never(reason)


def _wait_level(reason: ev.LaunchWait) -> Level:
    """A slot frees itself and the rate limit passes; for the others somebody may have to do something."""
    return Level.WARNING if reason in ("budget", "quota") else Level.INFO


def _why_stopped(reason: ev.StopReason, actor: str) -> str:
    match reason:
        case "TIMEOUT":
            return "it takes longer than it may (TIMEOUT)"
        case "FAIL_FAST":
            return "another task failed for good"
        case "PAUSE":
            return f"paused by {actor}"
        case "CANCEL":
            return "the orchestration is cancelled"
        case "REQUESTED":
            return f"asked for by {actor}"
        case _:
            assert_never(reason)


def _why_withdrawn(reason: ev.WithdrawReason) -> str:
    match reason:
        case "PAUSE":
            return "it had not started before the pause"
        case "REQUEUE":
            return "it is queued anew"
        case "AGENT_GONE":
            return "the agent that it was to go on with is gone"
        case _:
            assert_never(reason)


def _failure(failure: ev.Failure) -> str:
    return f"{failure.code}: {failure.message}"


def _result(result: ev.TaskResult) -> str:
    left = [f"branch {result.branch}" if result.branch else "", result.pr_url or "", result.summary or ""]
    return ", ".join([result.outcome, *(part for part in left if part)])


def _see(url: str | None) -> str:
    return f", see {url}" if url else ""


def _cost(dollars: float) -> str:
    return f" for ${dollars:.2f}" if dollars else ""


def _span(milliseconds: int) -> str:
    """To the second."""
    seconds = round(milliseconds / 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return (f"{hours} h " if hours else "") + (f"{minutes} min " if hours or minutes else "") + f"{seconds % 60} s"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _one_line(text: str) -> str:
    """Texts of agents and users, so that they can neither break a line nor drive a terminal."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _time(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")

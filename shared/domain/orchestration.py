"""The life of an orchestration: what may be asked of it and what follows. `decide` is the only place that refuses."""

import uuid
from datetime import datetime, timedelta
from typing import assert_never

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.commands import Deciding
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, OrchestrationEvent, OrchestrationStatus, TaskStatus
from shared.domain.evolve import evolve
from shared.domain.readiness import next_tasks, unreachable_tasks
from shared.domain.state import Attempt, Orchestration, Phase, Task, statistics_of

NAMESPACE = uuid.UUID("5b7f6a2e-6f0b-5d0c-9a53-3a1c9d6f2b10")
_ENDED_BY_OTHERS = "another task failed for good"


def derive_id(*parts: str | int) -> str:
    """An id that is always the same for the same parts, so that repeating a decision repeats its ids."""
    return str(uuid.uuid5(NAMESPACE, ":".join(str(part) for part in parts)))


def decide(state: Orchestration | None, command: cmd.AnyCommand, deciding: Deciding) -> list[OrchestrationEvent]:
    """What `command` leads to in `state`: the events of one commit, none when it changes nothing.

    Raises:
        Refusal: the state does not allow it.
    """
    if isinstance(command, cmd.CreateOrchestration):
        return _create(state, command, deciding)
    if state is None:
        raise Refusal("ORCHESTRATION_NOT_FOUND", "there is no such orchestration")
    draft = _Draft(state, deciding)
    match command:
        case cmd.ActivateOrchestration():
            _activate(draft)
        case cmd.Tick():
            _tick(draft)
        case cmd.StartAttempt():
            _start(draft, command)
        case cmd.RecordAgent():
            _record_agent(draft, command)
        case cmd.RejectAttempt():
            _reject(draft, command)
        case cmd.ObserveAgent():
            _observe(draft, command)
        case cmd.ExpireAttempt():
            _expire(draft, command)
        case _:
            assert_never(command)
    return draft.events


class _Draft:
    """The events decided so far and the state that they lead to."""

    def __init__(self, state: Orchestration, deciding: Deciding) -> None:
        self.state = state
        self.deciding = deciding
        self.events: list[OrchestrationEvent] = []

    @property
    def now(self) -> datetime:
        return self.deciding.now

    def emit(self, event: OrchestrationEvent) -> None:
        self.events.append(event)
        self.state = evolve(self.state, event, self.now)


def _create(
    state: Orchestration | None, command: cmd.CreateOrchestration, deciding: Deciding
) -> list[OrchestrationEvent]:
    if state is not None:
        raise Refusal("INVALID_STATE_TRANSITION", "an orchestration with this id exists already")
    created = ev.OrchestrationCreated(
        orchestration_id=command.orchestration_id,
        team=command.team,
        created_by=command.created_by,
        spec=command.spec,
        tasks=command.tasks,
        warnings=command.warnings,
    )
    draft = _Draft(evolve(None, created, deciding.now), deciding)
    draft.events.append(created)
    if command.activate:
        _activate(draft)
    return draft.events


def _activate(draft: _Draft) -> None:
    status = draft.state.status
    if status is OrchestrationStatus.ACTIVE:
        return
    if status.is_terminal:
        raise Refusal("ALREADY_COMPLETED", f"the orchestration is {status} and cannot be activated again")
    if status is not OrchestrationStatus.PENDING:
        raise Refusal("INVALID_STATE_TRANSITION", f"an orchestration that is {status} cannot be activated")
    draft.emit(ev.OrchestrationActivated())
    _advance(draft)


def _tick(draft: _Draft) -> None:
    start_at = draft.state.spec.start_at
    if draft.state.status is OrchestrationStatus.PENDING and start_at and start_at <= draft.now:
        draft.emit(ev.OrchestrationActivated())
    _advance(draft)


def _start(draft: _Draft, command: cmd.StartAttempt) -> None:
    task, attempt = _known(draft, command.attempt_id)
    if attempt.phase is not Phase.QUEUED or draft.state.status is not OrchestrationStatus.ACTIVE:
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


def _record_agent(draft: _Draft, command: cmd.RecordAgent | cmd.ObserveAgent) -> None:
    task, attempt = _known(draft, command.attempt_id)
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


def _reject(draft: _Draft, command: cmd.RejectAttempt) -> None:
    task, attempt = _known(draft, command.attempt_id)
    if attempt.phase is Phase.STARTED:
        _fail_attempt(draft, task, attempt, command.failure)


def _observe(draft: _Draft, command: cmd.ObserveAgent) -> None:
    _, attempt = _known(draft, command.attempt_id)
    if attempt.phase is Phase.STARTED and _may_be_its_agent(attempt, command.agent_id):
        _record_agent(draft, command)
    task, attempt = _known(draft, command.attempt_id)
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
        _end_attempt(draft, task, attempt, command)


def _may_be_its_agent(attempt: Attempt, agent_id: str) -> bool:
    """Before the create's reply: v1 takes the id that was chosen for the agent, v0 chooses one itself."""
    return attempt.api_version != "v1" or attempt.agent_id == agent_id


def _is_news(attempt: Attempt, command: cmd.ObserveAgent) -> bool:
    """A status never goes back to CREATING: such an observation is old."""
    if command.status is AgentStatus.CREATING and attempt.status is not AgentStatus.CREATING:
        return False
    return (attempt.status, attempt.provider_status) != (command.status, command.provider_status)


def _end_attempt(draft: _Draft, task: Task, attempt: Attempt, command: cmd.ObserveAgent) -> None:
    if attempt.stop_reason is not None or command.status is not AgentStatus.FINISHED:
        _fail_attempt(draft, task, attempt, _failure_of(command.status), command)
        return
    if missing := _missing_deliverable(draft.state.spec.deliverable, command):
        _fail_attempt(draft, task, attempt, missing, command)
        return
    draft.emit(
        ev.TaskCompleted(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            result=ev.TaskResult(
                outcome="DELIVERED" if command.branch or command.pr_url else "NO_CHANGE",
                branch=command.branch,
                pr_url=command.pr_url,
                summary=command.summary,
            ),
            duration_ms=_duration(attempt, command, draft.now),
            cost=command.cost or 0.0,
            usage=command.usage,
        )
    )
    _advance(draft)


def _failure_of(status: AgentStatus) -> ev.Failure:
    match status:
        case AgentStatus.EXPIRED:
            return ev.Failure(code="AGENT_EXPIRED", message="the agent expired", retryable=True)
        case AgentStatus.STOPPED:
            return ev.Failure(code="AGENT_STOPPED", message="the agent was stopped at the provider")
        case _:
            return ev.Failure(code="AGENT_FAILED", message="the agent ended in an error", retryable=True)


def _missing_deliverable(deliverable: str, command: cmd.ObserveAgent) -> ev.Failure | None:
    missing = (deliverable == "branch" and not command.branch) or (deliverable == "pr" and not command.pr_url)
    if not missing:
        return None
    return ev.Failure(
        code="DELIVERABLE_MISSING",
        message=f"the agent finished without the {deliverable} that the orchestration asks for",
        retryable=True,
    )


def _fail_attempt(
    draft: _Draft, task: Task, attempt: Attempt, failure: ev.Failure, seen: cmd.ObserveAgent | None = None
) -> None:
    failure = _cause_of_stop(task, attempt) or failure
    draft.emit(
        ev.AttemptFailed(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            failure=failure,
            duration_ms=_duration(attempt, seen, draft.now),
            cost=(seen.cost or 0.0) if seen else 0.0,
            usage=seen.usage if seen else None,
        )
    )
    if attempt.stop_reason == "FAIL_FAST":
        draft.emit(ev.TaskCancelled(task_id=task.task_id, reason=_ENDED_BY_OTHERS))
    elif failure.retryable and task.retry_count < task.spec.max_retries:
        retry = task.retry_count + 1
        due_at = draft.now + draft.deciding.policy.delay(retry, draft.deciding.jitter)
        draft.emit(ev.TaskRetryScheduled(task_id=task.task_id, retry_count=retry, due_at=due_at))
    else:
        draft.emit(ev.TaskFailed(task_id=task.task_id, failure=failure))
    _advance(draft)


def _cause_of_stop(task: Task, attempt: Attempt) -> ev.Failure | None:
    """Why we had the attempt stopped, None if we had not: however it then ended, that is why."""
    match attempt.stop_reason:
        case None:
            return None
        case "TIMEOUT":
            message = f"the attempt took longer than {task.spec.timeout_minutes} minutes"
            return ev.Failure(code="TIMEOUT", message=message, retryable=True)
        case "FAIL_FAST":
            return ev.Failure(code="AGENT_STOPPED", message=f"the attempt was stopped: {_ENDED_BY_OTHERS}")
        case _:
            assert_never(attempt.stop_reason)


def _duration(attempt: Attempt, seen: cmd.ObserveAgent | None, now: datetime) -> int:
    if seen is not None and seen.duration_ms is not None:
        return seen.duration_ms
    started = attempt.started_at or attempt.queued_at
    return max(0, round((now - started).total_seconds() * 1000))


def _expire(draft: _Draft, command: cmd.ExpireAttempt) -> None:
    task, attempt = _known(draft, command.attempt_id)
    started = attempt.phase in (Phase.STARTED, Phase.CREATED)
    overdue = attempt.deadline_at is not None and attempt.deadline_at <= draft.now
    if started and overdue and attempt.stop_reason is None:
        draft.emit(ev.AttemptStopRequested(task_id=task.task_id, attempt_id=attempt.attempt_id, reason="TIMEOUT"))


def _known(draft: _Draft, attempt_id: str) -> tuple[Task, Attempt]:
    found = draft.state.find_attempt(attempt_id)
    if found is None:
        raise Refusal("AGENT_NOT_FOUND", "the orchestration has no such attempt")
    return found


def _advance(draft: _Draft) -> None:
    """Go on after a change: give up what can no longer start, queue what is ready, end what is done."""
    if draft.state.status is not OrchestrationStatus.ACTIVE:
        return
    _give_up(draft)
    for task in next_tasks(draft.state, draft.now):
        number = len(task.attempts) + 1
        draft.emit(
            ev.TaskQueued(
                task_id=task.task_id,
                attempt_id=derive_id("attempt", task.task_id, number),
                number=number,
                priority=_queue_priority(draft.state, task),
                base_ref=_base_ref(draft.state, task),
            )
        )
    if all(task.status.is_terminal for task in draft.state.tasks.values()):
        _conclude(draft)


def _give_up(draft: _Draft) -> None:
    failed = any(task.status is TaskStatus.FAILED for task in draft.state.tasks.values())
    if failed and draft.state.spec.failure_policy == "fail_fast":
        for task in list(draft.state.tasks.values()):
            _stop_or_cancel(draft, task)
    for task in unreachable_tasks(draft.state):
        draft.emit(ev.TaskCancelled(task_id=task.task_id, reason="a task that it depends on did not complete"))


def _stop_or_cancel(draft: _Draft, task: Task) -> None:
    attempt = task.current
    if attempt is not None and attempt.phase is not Phase.QUEUED:
        if attempt.stop_reason is None:
            draft.emit(ev.AttemptStopRequested(task_id=task.task_id, attempt_id=attempt.attempt_id, reason="FAIL_FAST"))
    elif not task.status.is_terminal:
        draft.emit(ev.TaskCancelled(task_id=task.task_id, reason=_ENDED_BY_OTHERS))


def _queue_priority(state: Orchestration, task: Task) -> ev.Level:
    """`speed` lifts a task by one level."""
    if state.spec.priority != "speed":
        return task.spec.priority
    return "medium" if task.spec.priority == "low" else "high"


def _base_ref(state: Orchestration, task: Task) -> str:
    """Where the agent starts from: with `base: previous`, the branch of the task before it or that it depends on."""
    if state.spec.base == "ref":
        return state.spec.ref
    wanted = [state.tasks[task_id] for task_id in task.spec.depends_on] or _before(state, task)
    completed = [other for other in wanted if other.status is TaskStatus.COMPLETED]
    branches = [other.result.branch for other in completed if other.result and other.result.branch]
    # One that changed nothing passes on what it started from itself, or the work before it would be lost.
    inherited = [base for other in completed if (base := other.attempts[-1].base_ref) != state.spec.ref]
    return (branches or inherited or [state.spec.ref])[-1]


def _before(state: Orchestration, task: Task) -> list[Task]:
    order = list(state.tasks)
    return [state.tasks[task_id] for task_id in order[: order.index(task.task_id)]]


def _conclude(draft: _Draft) -> None:
    state = draft.state
    statistics = statistics_of(state, draft.now)
    done = statistics.completed_tasks + statistics.skipped_tasks
    failed = next((task for task in state.tasks.values() if task.status is TaskStatus.FAILED), None)
    if done == statistics.total_tasks:
        summary = f"All {done} tasks completed successfully" if done > 1 else "The task completed successfully"
        draft.emit(
            ev.OrchestrationCompleted(status=OrchestrationStatus.COMPLETED, summary=summary, statistics=statistics)
        )
        return
    summary = f"{statistics.completed_tasks}/{statistics.total_tasks} tasks completed"
    if failed is not None and (state.spec.failure_policy == "fail_fast" or statistics.completed_tasks == 0):
        draft.emit(ev.OrchestrationFailed(failure=_reason(failed), summary=summary, statistics=statistics))
        return
    draft.emit(
        ev.OrchestrationCompleted(status=OrchestrationStatus.PARTIAL_COMPLETED, summary=summary, statistics=statistics)
    )


def _reason(task: Task) -> ev.Failure:
    cause = task.failure or ev.Failure(code="INTERNAL_ERROR", message="unknown cause")
    return ev.Failure(code=cause.code, message=f"task {task.spec.title!r} failed: {cause.message}")

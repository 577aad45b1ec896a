"""What holds of every orchestration at every moment, and of every event at the moment that it happens."""

from datetime import datetime

import orjson

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.commands import AnyCommand
from shared.domain.events import AgentStatus, OrchestrationEvent, OrchestrationStatus, TaskStatus
from shared.domain.observing import AGENT_LOST
from shared.domain.plan import (
    ArchiveAgent,
    AwaitResult,
    Cleanup,
    CreateRun,
    DeleteAgent,
    DiscardAgent,
    FreeSlot,
    KeepSchedule,
    Launch,
    StopAgent,
    WakeAt,
    Watch,
    plan,
)
from shared.domain.prompt import build_prompt
from shared.domain.readiness import LOST, SATISFIED, due_times, waiting_for
from shared.domain.state import Attempt, Orchestration, Phase, Task, statistics_of
from shared.views import orchestration_view, statistics, task_views

UNDER_WAY = (OrchestrationStatus.ACTIVE, OrchestrationStatus.PAUSED)
REOPENING = (cmd.AddTask, cmd.RetryTask, cmd.RestartTask, cmd.FollowUp)
AFTER_THE_END = (
    ev.OrchestrationUpdated,
    ev.OrchestrationReopened,
    ev.OrchestrationDeleted,
    ev.TaskUpdated,
    ev.AgentDeleteRequested,
    ev.AgentDeleted,
    ev.AgentArchived,
)
AFTER_THE_DELETION = (ev.AgentDeleteRequested, ev.AgentDeleted, ev.AgentArchived)
"""Its agents are put away although it is shown to nobody any more."""
ENDS_OF_ATTEMPTS = (
    ev.AttemptFailed,
    ev.AttemptStopped,
    ev.AttemptWithdrawn,
    ev.TaskCompleted,
    ev.TaskCancelled,
    ev.TaskSkipped,
)


# Of every event


def keeps_its_promises(before: Orchestration, event: OrchestrationEvent, command: AnyCommand, now: datetime) -> None:
    """`event`, one of those that `command` led to, may happen in `before`."""
    assert not before.deleted or isinstance(event, AFTER_THE_DELETION), "it is deleted"
    if before.status.is_terminal:
        assert isinstance(event, AFTER_THE_END), f"{event.type} after the end"
    match event:
        case ev.TaskQueued():
            _may_be_queued(before, event, now)
        case ev.AttemptStarted():
            assert before.status is OrchestrationStatus.ACTIVE, "launched while it was not active"
            assert not over_budget(before), "launched with money that is spent"
            _has_met_dependencies(before, before.tasks[event.task_id])
        case ev.AttemptModelDropped():
            assert not before.spec.strict_model, "the user insisted on the model"
        case ev.AgentArchived():
            task = before.tasks[event.task_id]
            assert task.status.is_terminal, "archived while its task may go on with it"
            assert not task.has_deleted(event.agent_id)
        case ev.OrchestrationReopened():
            assert before.status.is_terminal
            assert isinstance(command, REOPENING)
        case ev.OrchestrationCancelled() | ev.OrchestrationCompleted() | ev.OrchestrationFailed():
            assert all(task.status.is_terminal for task in before.tasks.values())
            assert not list(before.active_attempts()), "it ended while an agent may be at work"
        case ev.OrchestrationDeleted():
            assert not list(before.active_attempts()), "deleted while an agent may be at work"
        case ev.TaskReset():
            assert before.tasks[event.task_id].status.is_terminal
        case ev.TaskRetryScheduled():
            task = before.tasks[event.task_id]
            assert event.retry_count == task.retry_count + 1 <= task.spec.max_retries, "tried too often"
        case ev.TaskRetryDue():
            retry_at = before.tasks[event.task_id].retry_at
            assert retry_at is not None, "no retry is to come"
            assert retry_at <= now, "before its time"
        case _:
            pass
    if isinstance(event, ENDS_OF_ATTEMPTS):
        _leaves_no_agent_behind(before, event, command)


def _may_be_queued(state: Orchestration, event: ev.TaskQueued, now: datetime) -> None:
    task = state.tasks[event.task_id]
    assert state.status is OrchestrationStatus.ACTIVE
    assert task.status is TaskStatus.PENDING
    assert task.current is None
    assert task.retry_at is None or task.retry_at <= now
    assert event.number == len(task.attempts) + 1
    assert event.attempt_id not in state.attempt_index
    assert event.continues == task.continuation
    assert not over_budget(state)
    assert len(list(state.active_attempts())) < limit(state), "more at once than asked for"
    _has_met_dependencies(state, task)
    if state.spec.execution_mode == "sequential":
        waiting = [other for other in state.tasks.values() if other.retry_at is not None and other.retry_at > now]
        assert not waiting, "it took the turn of a task that waits for its retry"


def _has_met_dependencies(state: Orchestration, task: Task) -> None:
    assert all(state.tasks[other].status in SATISFIED for other in task.spec.depends_on)


def _leaves_no_agent_behind(state: Orchestration, event: OrchestrationEvent, command: AnyCommand) -> None:
    """An agent is let go only when it was seen to end, or is known not to be at work for the attempt."""
    attempt = state.tasks[event.task_id].current  # type: ignore[union-attr]  # all that end attempts have a task
    if attempt is None or attempt.phase is Phase.QUEUED:
        return
    if isinstance(event, ev.AttemptWithdrawn):
        assert (attempt.phase, event.reason) == (Phase.STARTED, "AGENT_GONE"), "withdrawn with an agent at work"
        return
    assert isinstance(event, ev.AttemptFailed | ev.AttemptStopped | ev.TaskCompleted), "an agent may still be at work"
    if isinstance(event, ev.AttemptFailed) and event.failure.code == AGENT_LOST:
        assert isinstance(command, cmd.ReportMissing)
        return
    if attempt.phase is Phase.CREATED:
        assert attempt.status is not None
        assert attempt.status.is_terminal, "an agent is let go that was not seen to end"


def changes_nothing_else(before: Orchestration, event: OrchestrationEvent, after: Orchestration) -> None:
    """What is finished stays so unless it is to be done again, and only failures count as tries."""
    for task_id, task in before.tasks.items():
        now = after.tasks[task_id]
        if task.status.is_terminal and now.status is not task.status:
            assert isinstance(event, ev.TaskReset | ev.TaskSkipped), f"{event.type} changed a finished task"
            assert event.task_id == task_id
        if now.retry_count != task.retry_count:
            assert isinstance(event, ev.TaskRetryScheduled | ev.TaskReset), f"{event.type} counts as a try"
        if task.status is TaskStatus.COMPLETED and now.status is TaskStatus.COMPLETED:
            assert now.result == task.result


# Of every state


def keeps_its_limits(state: Orchestration) -> None:
    for task in state.tasks.values():
        assert not any(attempt.is_active for attempt in task.attempts[:-1]), "two attempts of one task"
        assert [attempt.number for attempt in task.attempts] == list(range(1, len(task.attempts) + 1))
    if state.spec.execution_mode == "sequential":
        assert len(list(state.active_attempts())) <= 1, "two at once in sequence"
    if state.status is not OrchestrationStatus.ACTIVE:
        queued = [attempt for _, attempt in state.active_attempts() if attempt.phase is Phase.QUEUED]
        assert not queued, "a ticket while nothing is to be launched"
    if state.status.is_terminal or state.deleted:
        assert not list(state.active_attempts())
    if state.status is OrchestrationStatus.CANCELLING:
        reasons = {attempt.stop_reason for _, attempt in state.active_attempts()}
        assert reasons == {"CANCEL"}, "CANCELLING without an agent that is being stopped for it"


def keeps_its_statuses(state: Orchestration) -> None:
    for task in state.tasks.values():
        current = task.current
        has_agent = current is not None and current.may_have_agent
        assert has_agent == (task.status is TaskStatus.PROCESSING)
        if task.status.is_terminal:
            assert current is None
            assert task.retry_at is None
            assert task.continuation is None
        assert (task.status is TaskStatus.COMPLETED) == (task.result is not None)
        assert (task.status is TaskStatus.CANCELLED) == (task.cancel_cause is not None)
        if task.status is TaskStatus.PENDING and state.status in UNDER_WAY:
            assert not any(state.tasks[other].status in LOST for other in task.spec.depends_on)
        _goes_on_only_with_what_is_there(task)
        _awaits_only_what_has_finished(task)
    if state.status.is_terminal:
        assert all(task.status.is_terminal for task in state.tasks.values())


def _goes_on_only_with_what_is_there(task: Task) -> None:
    deleted = {attempt.agent_id for attempt in task.attempts if attempt.agent_deletion}
    wanted = [task.continuation, task.current.continues if task.current else None]
    assert not any(continuation and continuation.agent_id in deleted for continuation in wanted)


def _awaits_only_what_has_finished(task: Task) -> None:
    for attempt in task.attempts:
        if attempt.awaited is not None:
            assert (attempt.phase, attempt.status) == (Phase.CREATED, AgentStatus.FINISHED)
            assert attempt.stop_reason is None, "an agent is to be stopped that has finished"
            assert attempt.awaited.missing


def keeps_its_counts(state: Orchestration, now: datetime) -> None:
    counts = statistics_of(state, now)
    parts = (
        counts.pending_tasks,
        counts.processing_tasks,
        counts.completed_tasks,
        counts.failed_tasks,
        counts.cancelled_tasks,
        counts.skipped_tasks,
    )
    assert sum(parts) == counts.total_tasks == len(state.tasks)
    lived = (now - state.activated_at).total_seconds() * 1000 if state.activated_at else 0
    assert 0 <= counts.duration_ms <= lived + 1
    shown = [orchestration_view(state), *task_views(state)]
    found = statistics(shown[0], shown[1:], now)
    assert (found["duration"], found["totalCost"]) == (counts.duration_ms, counts.total_cost)
    assert (found["progress"] == 100) == all(task.status.is_terminal for task in state.tasks.values())
    assert orjson.loads(orjson.dumps([*shown, found])) == [*shown, found]
    assert (state.statistics is not None) == state.status.is_terminal
    if state.statistics is not None:
        assert state.statistics == counts


def is_never_stuck(state: Orchestration) -> None:
    if state.status is OrchestrationStatus.ACTIVE:
        goes_on = list(state.active_attempts()) or due_times(state)
        assert goes_on or over_budget(state), "nothing will ever happen again"
    for task in state.tasks.values():
        _says_what_it_waits_for(state, task)


def _says_what_it_waits_for(state: Orchestration, task: Task) -> None:
    waiting = waiting_for(state, task, state.updated_at)
    if state.status in UNDER_WAY and task.status is TaskStatus.PENDING:
        assert waiting is not None, "it waits and says not for what"
    if waiting is None:
        return
    current = task.current
    if current is not None and current.delay is not None:
        assert (waiting.reason, waiting.until) == (current.delay.reason, current.delay.until)
        assert current.phase in (Phase.QUEUED, Phase.STARTED)
        return
    assert task.status is TaskStatus.PENDING
    assert state.status in UNDER_WAY
    is_true = {
        "pause": state.status is OrchestrationStatus.PAUSED,
        "slot": current is not None,
        "retry": task.retry_at is not None and task.retry_at == waiting.until,
        "dependency": any(state.tasks[other].status not in SATISFIED for other in task.spec.depends_on),
        "budget": over_budget(state),
        "turn": bool(list(state.active_attempts()) or due_times(state)),
    }
    assert is_true[waiting.reason], f"it does not wait for {waiting.reason}"


def plans_for_each_phase(state: Orchestration) -> None:
    planned: dict[str, set[type]] = {}
    for action in plan(state):
        if not isinstance(action, WakeAt | KeepSchedule | CreateRun):
            planned.setdefault(action.attempt_id, set()).add(type(action))
    for task in state.tasks.values():
        for attempt in task.attempts:
            assert planned[attempt.attempt_id] == _wanted(attempt)
        if current := task.current:
            place = list(state.tasks).index(task.task_id) + 1
            first = build_prompt(state, task, current).splitlines()[0]
            assert first == f"Task {place} of {len(state.tasks)}: {task.spec.title}"


def puts_away_what_is_left(state: Orchestration) -> None:
    """Each agent of a task that has ended once, and none of a task that may go on."""
    ways: tuple[Cleanup, ...] = ("archive", "delete")
    for cleanup in ways:
        planned = [action for action in plan(state, cleanup) if isinstance(action, ArchiveAgent | DiscardAgent)]
        left: list[tuple[str, str | None]] = []
        for action in planned:
            found = state.find_attempt(action.attempt_id)
            assert found is not None
            task, attempt = found
            assert task.status.is_terminal
            assert task.current is None
            assert not task.has_deleted(attempt.agent_id or "")
            left.append((task.task_id, attempt.agent_id))
        assert len(set(left)) == len(left), "one agent twice"


def _wanted(attempt: Attempt) -> set[type]:
    match attempt.phase:
        case Phase.QUEUED | Phase.STARTED:
            return {Launch}
        case Phase.CREATED:
            expected = {StopAgent} if attempt.stop_reason else {AwaitResult} if attempt.awaited else set()
            return {Watch} | expected
        case _:
            return {FreeSlot, DeleteAgent} if attempt.agent_deletion == "REQUESTED" else {FreeSlot}


def over_budget(state: Orchestration) -> bool:
    return state.spec.max_cost is not None and state.total_cost >= state.spec.max_cost


def limit(state: Orchestration) -> int:
    if state.spec.execution_mode == "sequential":
        return 1
    return state.spec.max_parallel or len(state.tasks)

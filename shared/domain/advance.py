"""What follows by itself from a change: what is ready is queued, what cannot start is given up, what is done ends."""

from datetime import datetime
from typing import Final, Literal

from shared.domain import events as ev
from shared.domain.draft import Draft
from shared.domain.events import OrchestrationStatus, TaskStatus
from shared.domain.ids import derive_id
from shared.domain.readiness import LOST, due_tasks, is_over_budget, next_tasks, unreachable_tasks
from shared.domain.state import Orchestration, Phase, Task, statistics_of

ENDED_BY_OTHERS = "another task failed for good"
_UNREACHABLE = "a task that it depends on did not complete"
_CANCELLED = "the orchestration was cancelled"
_REFUSED = "the provider refuses every agent of this account"

_OF_THE_ACCOUNT: Final = frozenset(["QUOTA_EXCEEDED", "INVALID_API_KEY", "FORBIDDEN"])
"""Codes of refusals that do not depend on what was asked for: every other create meets the same."""


def settle(draft: Draft) -> None:
    """Go on after a change, as far as the state of the orchestration lets it."""
    if draft.status in (OrchestrationStatus.ACTIVE, OrchestrationStatus.PAUSED):
        for task in unreachable_tasks(draft.state):
            _withdraw_unreachable(draft, task)
    if draft.status is OrchestrationStatus.ACTIVE:
        _take_back_unaffordable(draft)
        _queue_ready(draft)
        _note_due(draft)
        if _is_over(draft.state):
            _conclude(draft)
    elif draft.status is OrchestrationStatus.CANCELLING and _is_over(draft.state):
        conclude_cancelled(draft)


def _withdraw_unreachable(draft: Draft, task: Task) -> None:
    draft.emit(ev.TaskCancelled(task_id=task.task_id, reason=_UNREACHABLE, cause="DEPENDENCY"))


def _is_over(state: Orchestration) -> bool:
    return all(task.status.is_terminal for task in state.tasks.values())


def _take_back_unaffordable(draft: Draft) -> None:
    """What was queued before the money was spent would be launched all the same, and there may be fifty of it."""
    if is_over_budget(draft.state):
        for task in list(draft.state.tasks.values()):
            withdraw_queued(draft, task, "BUDGET")


def _queue_ready(draft: Draft) -> None:
    for task in next_tasks(draft.state, draft.now):
        number = len(task.attempts) + 1
        draft.emit(
            ev.TaskQueued(
                task_id=task.task_id,
                attempt_id=derive_id("attempt", task.task_id, number),
                number=number,
                priority=_queue_priority(draft.state, task),
                base_ref=_base_ref(draft.state, task),
                continues=task.continuation,
            )
        )


def _note_due(draft: Draft) -> None:
    """A retry that has come due without room for it waits for something else now, which is to be seen."""
    for task in due_tasks(draft.state, draft.now):
        draft.emit(ev.TaskRetryDue(task_id=task.task_id))


def give_up_others(draft: Draft, failure: ev.Failure) -> None:
    """A task has failed for good: under `fail_fast` nothing else is begun, and what runs is stopped.

    Where the account was refused, nothing else is begun under `continue` either, for it would only be refused, too;
    but what runs may finish.
    """
    if draft.status is OrchestrationStatus.CANCELLING:
        return
    if draft.state.spec.failure_policy == "fail_fast":
        stop_or_cancel_all(draft, "FAIL_FAST", ENDED_BY_OTHERS)
    elif _is_of_account(failure):
        for task in list(draft.state.tasks.values()):
            _cancel_unlaunched(draft, task, "FAIL_FAST", _REFUSED)


def _is_of_account(failure: ev.Failure | None) -> bool:
    return failure is not None and failure.code in _OF_THE_ACCOUNT


def is_account_refused(state: Orchestration, since: datetime) -> bool:
    """Whether an agent was refused for the account since then: the next one would be, too."""
    return any(
        _is_of_account(task.failure) and task.failed_at is not None and task.failed_at >= since
        for task in state.tasks.values()
    )


def cancel_all(draft: Draft) -> None:
    stop_or_cancel_all(draft, "CANCEL", _CANCELLED)


def stop_or_cancel_all(draft: Draft, cause: ev.CancelCause, reason: str) -> None:
    for task in list(draft.state.tasks.values()):
        attempt = task.current
        if attempt is not None and attempt.may_have_agent:
            _request_stop(draft, task.task_id, attempt.attempt_id, "CANCEL" if cause == "CANCEL" else "FAIL_FAST")
        else:
            _cancel_unlaunched(draft, task, cause, reason)


def _cancel_unlaunched(draft: Draft, task: Task, cause: ev.CancelCause, reason: str) -> None:
    has_agent = task.current is not None and task.current.may_have_agent
    if not has_agent and not task.status.is_terminal:
        draft.emit(ev.TaskCancelled(task_id=task.task_id, reason=reason, cause=cause))


def _request_stop(draft: Draft, task_id: str, attempt_id: str, reason: ev.StopReason) -> None:
    """The first reason stands, unless one comes that leaves the task less to go on to."""
    _, attempt = draft.attempt(attempt_id)
    if attempt.stop_reason is None or _rank(reason) > _rank(attempt.stop_reason):
        draft.emit(ev.AttemptStopRequested(task_id=task_id, attempt_id=attempt_id, reason=reason))


def _rank(reason: ev.StopReason) -> int:
    return {"CANCEL": 3, "FAIL_FAST": 2, "REQUESTED": 1}.get(reason, 0)


def request_stop(draft: Draft, task: Task, reason: ev.StopReason) -> None:
    """Stop the agent of the task's attempt, if it may have one; one that has finished needs no stop."""
    attempt = task.current
    if attempt is not None and attempt.may_have_agent and attempt.awaited is None:
        _request_stop(draft, task.task_id, attempt.attempt_id, reason)


def withdraw_queued(draft: Draft, task: Task, reason: ev.WithdrawReason) -> None:
    """Take the task's attempt out of the queue, if that is where it is."""
    attempt = task.current
    if attempt is not None and attempt.phase is Phase.QUEUED:
        draft.emit(ev.AttemptWithdrawn(task_id=task.task_id, attempt_id=attempt.attempt_id, reason=reason))


def reopen(draft: Draft) -> None:
    """An orchestration that had ended goes on."""
    if draft.status.is_terminal:
        draft.emit(ev.OrchestrationReopened())


def revive(draft: Draft) -> None:
    """What was given up only because of a failure is to be done after all, once that failure is out of the way."""
    given_up = {task.task_id for task in draft.state.tasks.values() if task.cancel_cause in ("FAIL_FAST", "DEPENDENCY")}
    if any(_keeps_others_back(draft.state, task) for task in draft.state.tasks.values()):
        given_up -= {task_id for task_id in given_up if draft.state.tasks[task_id].cancel_cause == "FAIL_FAST"}
    lost = {t.task_id for t in draft.state.tasks.values() if t.status in LOST} - given_up
    for task in list(draft.state.tasks.values()):
        if task.task_id in given_up and not _depends_on(draft.state, task, lost):
            agent = task.follow_up
            again = agent if agent and not task.has_deleted(agent.agent_id) else None
            draft.emit(ev.TaskReset(task_id=task.task_id, reason="REVIVED", continues=again))


def _keeps_others_back(state: Orchestration, task: Task) -> bool:
    """Others were given up for its failure, or would be now."""
    gives_up = state.spec.failure_policy == "fail_fast" or _is_of_account(task.failure)
    return task.status is TaskStatus.FAILED and gives_up


def _depends_on(state: Orchestration, task: Task, others: set[str]) -> bool:
    """Directly, or by way of tasks that are given up themselves."""
    seen: set[str] = set()
    todo = list(task.spec.depends_on)
    while todo:
        task_id = todo.pop()
        if task_id in others:
            return True
        if task_id not in seen and state.tasks[task_id].status in LOST:
            todo += state.tasks[task_id].spec.depends_on
        seen.add(task_id)
    return False


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


def _conclude(draft: Draft) -> None:
    state = draft.state
    statistics = statistics_of(state, draft.now)
    done = statistics.completed_tasks + statistics.skipped_tasks
    culprit = _culprit(state)
    if done == statistics.total_tasks:
        _complete(draft, statistics, OrchestrationStatus.COMPLETED)
    elif culprit is not None and (_keeps_others_back(state, culprit) or statistics.completed_tasks == 0):
        failure = _reason(culprit)
        draft.emit(ev.OrchestrationFailed(failure=failure, summary=_summary(statistics), statistics=statistics))
    else:
        _complete(draft, statistics, OrchestrationStatus.PARTIAL_COMPLETED)


def _culprit(state: Orchestration) -> Task | None:
    """The failed task that tells best why the orchestration failed: a refusal of the account is behind all else."""
    failed = [task for task in state.tasks.values() if task.status is TaskStatus.FAILED]
    return next((task for task in failed if _is_of_account(task.failure)), failed[0] if failed else None)


def _complete(
    draft: Draft,
    statistics: ev.Statistics,
    status: Literal[OrchestrationStatus.COMPLETED, OrchestrationStatus.PARTIAL_COMPLETED],
) -> None:
    draft.emit(ev.OrchestrationCompleted(status=status, summary=_summary(statistics), statistics=statistics))


def conclude_cancelled(draft: Draft) -> None:
    """No agent is left: the cancel is carried out, and the delete where one was asked for."""
    statistics = statistics_of(draft.state, draft.now)
    draft.emit(ev.OrchestrationCancelled(summary=f"Cancelled: {_counts(statistics)}", statistics=statistics))
    if draft.state.delete_requested:
        draft.emit(ev.OrchestrationDeleted())


def _summary(statistics: ev.Statistics) -> str:
    total = statistics.total_tasks
    if statistics.completed_tasks == total:
        return f"All {total} tasks completed successfully" if total > 1 else "The task completed successfully"
    return _counts(statistics)


def _counts(statistics: ev.Statistics) -> str:
    skipped = f", {statistics.skipped_tasks} skipped" if statistics.skipped_tasks else ""
    return f"{statistics.completed_tasks}/{statistics.total_tasks} tasks completed{skipped}"


def _reason(task: Task) -> ev.Failure:
    cause = task.failure or ev.Failure(code="INTERNAL_ERROR", message="unknown cause")
    return ev.Failure(code=cause.code, message=f"task {task.spec.title!r} failed: {cause.message}")

"""What users ask of single tasks: add, change, retry, restart, skip, and go on with an agent."""

from typing import Any, Final

from pydantic import ValidationError

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.advance import reopen, revive, settle, withdraw_queued
from shared.domain.draft import Draft, illegal
from shared.domain.errors import Refusal
from shared.domain.events import OrchestrationStatus, TaskSpec, TaskStatus
from shared.domain.lifecycle import changed_fields
from shared.domain.readiness import LOST
from shared.domain.state import Attempt, Orchestration, Task

MAX_TASKS: Final = 50
_CHANGEABLE: Final = frozenset(TaskSpec.model_fields) - {"task_id"}
_WHILE_AT_WORK: Final = frozenset(["metadata", "max_retries"])
_WHEN_DONE: Final = frozenset(["metadata"])
_OF_THE_QUEUE: Final = frozenset(["priority", "depends_on", "order_index"])


def add(draft: Draft, command: cmd.AddTask) -> None:
    """Live: an orchestration that had ended goes on."""
    spec = command.task
    _refuse_while_cancelling(draft)
    if spec.task_id in draft.state.tasks:
        raise illegal("a task with this id exists already")
    if len(draft.state.tasks) >= MAX_TASKS:
        raise Refusal("INVALID_TASK", f"the orchestration has {MAX_TASKS} tasks, the most that it can have")
    if command.at_end:
        last = max((task.spec.order_index for task in draft.state.tasks.values()), default=-1)
        spec = spec.model_copy(update={"order_index": last + 1})
    _check_dependencies(draft.state, spec)
    reopen(draft)
    draft.emit(ev.TaskAdded(task=spec, warnings=command.warnings))
    settle(draft)


def update(draft: Draft, command: cmd.UpdateTask) -> None:
    task = draft.task(command.task_id)
    spec = _changed_spec(task.spec, command.changes)
    changed = changed_fields(task.spec, spec)
    if not changed:
        return
    _refuse_while_cancelling(draft)
    _refuse_late_changes(task, changed)
    if "depends_on" in changed:
        _check_dependencies(draft.state, spec)
    draft.emit(ev.TaskUpdated(task_id=task.task_id, spec=spec, changed=changed, warnings=command.warnings))
    if _OF_THE_QUEUE.intersection(changed):
        withdraw_queued(draft, draft.task(task.task_id), "REQUEUE")
    settle(draft)


def retry(draft: Draft, task_id: str) -> None:
    task = draft.task(task_id)
    _refuse_while_cancelling(draft)
    match task.status:
        case TaskStatus.FAILED:
            if task.follow_up is not None and task.has_deleted(task.follow_up.agent_id):
                raise illegal("the agent that was told to go on has been deleted: restart the task to begin anew")
            _run_again(draft, task, "RETRY", task.follow_up)
        case TaskStatus.COMPLETED:
            raise illegal("the task is COMPLETED: restart it to do it once more", "ALREADY_COMPLETED")
        case TaskStatus.PROCESSING:
            raise illegal("the task is PROCESSING: an attempt is under way", "ALREADY_ACTIVE")
        case TaskStatus.PENDING:
            raise illegal("the task is PENDING and starts by itself; only a FAILED one can be retried")
        case _:
            raise illegal(f"the task is {task.status}: restart it; only a FAILED one can be retried")


def restart(draft: Draft, task_id: str) -> None:
    task = draft.task(task_id)
    _refuse_while_cancelling(draft)
    match task.status:
        case TaskStatus.PROCESSING:
            raise illegal("the task is PROCESSING: stop its agent first", "ALREADY_ACTIVE")
        case TaskStatus.PENDING:
            raise illegal("the task is PENDING and starts by itself; only a finished one can be restarted")
        case _:
            _run_again(draft, task, "RESTART")


def skip(draft: Draft, task_id: str) -> None:
    task = draft.task(task_id)
    if task.status is TaskStatus.SKIPPED:
        return
    _refuse_while_cancelling(draft)
    if draft.status.is_terminal:
        message = f"the orchestration is {draft.status}: retry or restart a task or add one to go on"
        raise illegal(message, "ALREADY_COMPLETED")
    match task.status:
        case TaskStatus.PENDING | TaskStatus.FAILED:
            draft.emit(ev.TaskSkipped(task_id=task_id))
            revive(draft)
            settle(draft)
        case TaskStatus.COMPLETED:
            raise illegal("the task is COMPLETED", "ALREADY_COMPLETED")
        case TaskStatus.PROCESSING:
            raise illegal("the task is PROCESSING: stop its agent first, then skip it")
        case _:
            raise illegal(f"the task is {task.status} and cannot be skipped")


def follow_up(draft: Draft, command: cmd.FollowUp) -> None:
    """The agent of an ended attempt goes on with another prompt, as the next attempt of its task."""
    task, attempt = draft.attempt(command.attempt_id)
    _refuse_while_cancelling(draft)
    if task.current is not None and task.current.may_have_agent:
        raise illegal("an agent of this task is at work: stop it, or wait until it has finished", "ALREADY_ACTIVE")
    if not task.status.is_terminal:
        raise illegal(f"the task is {task.status} and starts by itself; skip it first to go on by hand")
    _run_again(draft, task, "FOLLOW_UP", _continuation(task, attempt, command.prompt))


def _continuation(task: Task, attempt: Attempt, prompt: str) -> ev.Continuation:
    if not attempt.has_had_agent or attempt.agent_id is None or attempt.api_version is None:
        raise Refusal("AGENT_NOT_FOUND", "the attempt had no agent")
    if task.has_deleted(attempt.agent_id):
        raise Refusal("AGENT_NOT_FOUND", "the agent has been deleted")
    run_id = task.latest_run(attempt.agent_id)
    return ev.Continuation(agent_id=attempt.agent_id, api_version=attempt.api_version, run_id=run_id, prompt=prompt)


def _run_again(draft: Draft, task: Task, reason: ev.ResetReason, continues: ev.Continuation | None = None) -> None:
    """What others were given up for is under way again, so those are to be done as well."""
    if lost := [draft.state.tasks[other] for other in task.spec.depends_on if draft.state.tasks[other].status in LOST]:
        raise illegal(f"it depends on {lost[0].spec.title!r}, which is {lost[0].status}: retry or restart that first")
    reopen(draft)
    draft.emit(ev.TaskReset(task_id=task.task_id, reason=reason, continues=continues))
    for other in list(draft.state.tasks.values()):
        if task.task_id in other.spec.depends_on:
            withdraw_queued(draft, other, "REQUEUE")
    revive(draft)
    settle(draft)


def _refuse_while_cancelling(draft: Draft) -> None:
    if draft.status is OrchestrationStatus.CANCELLING:
        raise illegal("the orchestration is being cancelled: wait until it is CANCELLED")


def _changed_spec(spec: TaskSpec, changes: dict[str, Any]) -> TaskSpec:
    unknown = sorted(set(changes) - _CHANGEABLE)
    if unknown:
        raise Refusal("INVALID_REQUEST", f"{', '.join(unknown)}: cannot be changed")
    kept = {name: value for name, value in spec.model_dump().items() if name not in changes}
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return TaskSpec.model_validate({**kept, **given})
    except ValidationError as exc:
        places = ", ".join(".".join(str(part) for part in error["loc"]) for error in exc.errors())
        raise Refusal("INVALID_TASK", f"the changes are not valid: {places}") from exc


def _refuse_late_changes(task: Task, changed: tuple[str, ...]) -> None:
    if task.status is TaskStatus.PROCESSING and (late := [name for name in changed if name not in _WHILE_AT_WORK]):
        raise illegal(f"{', '.join(late)}: cannot be changed while an agent is at work on the task", "ALREADY_ACTIVE")
    if task.status is TaskStatus.COMPLETED and (late := [name for name in changed if name not in _WHEN_DONE]):
        raise illegal(f"{', '.join(late)}: cannot be changed, for the task is COMPLETED", "ALREADY_COMPLETED")


def _check_dependencies(state: Orchestration, spec: TaskSpec) -> None:
    """Every task that it depends on exists and can still complete, and none depends on it in turn."""
    for task_id in spec.depends_on:
        other = state.tasks.get(task_id)
        if other is None:
            raise Refusal("INVALID_TASK", f"dependsOn: there is no task {task_id!r}")
        if task_id == spec.task_id:
            raise Refusal("INVALID_TASK", "dependsOn: a task cannot depend on itself")
        if other.status in LOST:
            message = f"dependsOn: {other.spec.title!r} is {other.status}; retry or restart that first"
            raise Refusal("INVALID_TASK", message)
        if _leads_to(state, task_id, spec.task_id):
            raise Refusal("INVALID_TASK", f"dependsOn: {other.spec.title!r} depends on this task in turn")


def _leads_to(state: Orchestration, task_id: str, wanted: str) -> bool:
    seen: set[str] = set()
    todo = [task_id]
    while todo:
        current = todo.pop()
        if current == wanted:
            return True
        if current not in seen:
            seen.add(current)
            todo += state.tasks[current].spec.depends_on
    return False

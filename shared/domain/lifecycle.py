"""The life of an orchestration as its users steer it: create, activate, change, pause, resume, cancel, delete."""

from typing import Any, Final

from pydantic import ValidationError

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.advance import cancel_all, conclude_cancelled, request_stop, settle, withdraw_queued
from shared.domain.commands import Deciding
from shared.domain.draft import Draft, illegal
from shared.domain.endings import end_finished
from shared.domain.errors import Refusal
from shared.domain.events import OrchestrationEvent, OrchestrationSpec, OrchestrationStatus
from shared.domain.evolve import evolve
from shared.domain.state import Orchestration

_NOT_YET: Final = frozenset(["repository", "ref", "execution_mode", "start_at", "schedule"])
"""What an agent may have been launched with: fixed once the orchestration is active."""
_ANY_TIME: Final = frozenset(["name", "description", "tags", "metadata", "webhook_url"])


def create(
    state: Orchestration | None, command: cmd.CreateOrchestration, deciding: Deciding
) -> list[OrchestrationEvent]:
    if state is not None:
        raise illegal("an orchestration with this id exists already")
    created = ev.OrchestrationCreated(
        orchestration_id=command.orchestration_id,
        team=command.team,
        created_by=command.created_by,
        spec=command.spec,
        tasks=command.tasks,
        warnings=command.warnings,
        schedule_id=command.schedule_id,
    )
    draft = Draft(evolve(None, created, deciding.now), deciding)
    draft.events.append(created)
    if command.activate:
        activate(draft)
    return draft.events


def activate(draft: Draft) -> None:
    match draft.status:
        case OrchestrationStatus.ACTIVE:
            return
        case OrchestrationStatus.PENDING if draft.state.spec.schedule is not None:
            raise illegal("the orchestration has a schedule and is run by it: remove the schedule to activate it")
        case OrchestrationStatus.PENDING:
            draft.emit(ev.OrchestrationActivated())
            settle(draft)
        case OrchestrationStatus.PAUSED:
            raise illegal("the orchestration is PAUSED: resume it")
        case status:
            raise _over_or_ending(status, "activated")


def tick(draft: Draft) -> None:
    if draft.state.deleted:
        return
    start_at = draft.state.spec.start_at
    if draft.status is OrchestrationStatus.PENDING and start_at and start_at <= draft.now:
        draft.emit(ev.OrchestrationActivated())
    settle(draft)


def pause(draft: Draft, mode: ev.PauseMode) -> None:
    """`stop` also stops what a pause with `drain` let go on; `drain` takes no stop back."""
    match draft.status:
        case OrchestrationStatus.PAUSED if mode == draft.state.pause_mode or mode == "drain":
            return
        case OrchestrationStatus.ACTIVE | OrchestrationStatus.PAUSED:
            draft.emit(ev.OrchestrationPaused(mode=mode))
            for task in list(draft.state.tasks.values()):
                withdraw_queued(draft, task, "PAUSE")
                if mode == "stop":
                    request_stop(draft, task, "PAUSE")
        case OrchestrationStatus.PENDING:
            raise illegal("the orchestration is PENDING: there is nothing to pause before it is activated")
        case status:
            raise _over_or_ending(status, "paused")


def resume(draft: Draft) -> None:
    match draft.status:
        case OrchestrationStatus.ACTIVE:
            return
        case OrchestrationStatus.PAUSED:
            draft.emit(ev.OrchestrationResumed())
            settle(draft)
        case OrchestrationStatus.PENDING:
            raise illegal("the orchestration is PENDING: activate it")
        case status:
            raise _over_or_ending(status, "resumed")


def cancel(draft: Draft) -> None:
    match draft.status:
        case OrchestrationStatus.CANCELLING | OrchestrationStatus.CANCELLED:
            return
        case OrchestrationStatus.PENDING | OrchestrationStatus.ACTIVE | OrchestrationStatus.PAUSED:
            _cancel(draft, delete=False)
        case status:
            raise _over_or_ending(status, "cancelled")


def delete(draft: Draft) -> None:
    match draft.status:
        case OrchestrationStatus.ACTIVE | OrchestrationStatus.PAUSED:
            _cancel(draft, delete=True)
        case OrchestrationStatus.CANCELLING:
            if not draft.state.delete_requested:
                draft.emit(ev.OrchestrationCancelRequested(delete=True))
        case _:
            draft.emit(ev.OrchestrationDeleted())


def _cancel(draft: Draft, *, delete: bool) -> None:
    """By way of CANCELLING while an agent may be at work; nobody knows before it is seen to have stopped."""
    has_agents = any(attempt.may_have_agent for _, attempt in draft.state.active_attempts())
    if has_agents or delete:
        draft.emit(ev.OrchestrationCancelRequested(delete=delete))
    cancel_all(draft)
    end_finished(draft)
    if not has_agents:
        conclude_cancelled(draft)


def update(draft: Draft, command: cmd.UpdateOrchestration) -> None:
    spec = changed_spec(draft.state.spec, command.changes)
    changed = changed_fields(draft.state.spec, spec)
    if not changed:
        return
    _refuse_late_changes(draft, changed)
    is_new = not {"max_parallel", "execution_mode"}.isdisjoint(changed)
    if is_new and spec.max_parallel is not None and spec.execution_mode == "sequential":
        raise Refusal("INVALID_REQUEST", "maxParallel: is only for executionMode parallel")
    if spec.schedule is not None and spec.start_at is not None:
        raise Refusal("INVALID_REQUEST", "startAt: cannot be combined with schedule")
    draft.emit(ev.OrchestrationUpdated(spec=spec, changed=changed, warnings=command.warnings))
    settle(draft)


def _refuse_late_changes(draft: Draft, changed: tuple[str, ...]) -> None:
    late = [name for name in changed if name in _NOT_YET]
    if late and draft.status is not OrchestrationStatus.PENDING:
        raise illegal(f"{', '.join(late)}: can only be changed while the orchestration is PENDING")
    others = [name for name in changed if name not in _ANY_TIME]
    if others and draft.status is OrchestrationStatus.CANCELLING:
        raise illegal(f"{', '.join(others)}: cannot be changed while the orchestration is being cancelled")


def changed_spec(spec: OrchestrationSpec, changes: dict[str, Any]) -> OrchestrationSpec:
    """The spec with `changes`; a field that is set to None goes back to its default."""
    unknown = sorted(set(changes) - set(OrchestrationSpec.model_fields))
    if unknown:
        raise Refusal("INVALID_REQUEST", f"{', '.join(unknown)}: cannot be changed")
    kept = {name: value for name, value in spec.model_dump().items() if name not in changes}
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return OrchestrationSpec.model_validate({**kept, **given})
    except ValidationError as exc:
        raise Refusal("INVALID_REQUEST", f"the changes are not valid: {_places(exc)}") from exc


def changed_fields(old: ev.Frozen, new: ev.Frozen) -> tuple[str, ...]:
    return tuple(name for name in type(old).model_fields if getattr(old, name) != getattr(new, name))


def _places(exc: ValidationError) -> str:
    return ", ".join(".".join(str(part) for part in error["loc"]) for error in exc.errors())


def _over_or_ending(status: OrchestrationStatus, done: str) -> Refusal:
    if status.is_terminal:
        way_out = "retry or restart a task, or add one, to go on"
        return illegal(f"the orchestration is {status} and cannot be {done}: {way_out}", "ALREADY_COMPLETED")
    return illegal(f"the orchestration is {status} and cannot be {done}")

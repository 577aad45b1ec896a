"""An orchestration with a schedule never runs itself: each time that it comes due, another one is created from it."""

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.draft import Draft
from shared.domain.events import OrchestrationStatus, TaskSpec
from shared.domain.ids import derive_id
from shared.domain.state import Orchestration


def is_scheduled(state: Orchestration) -> bool:
    """Its schedule goes on coming due."""
    return state.spec.schedule is not None and state.status is OrchestrationStatus.PENDING and not state.deleted


def fire(draft: Draft, command: cmd.FireSchedule) -> None:
    """Once for each time, whoever and however many look at the clock."""
    state = draft.state
    if not is_scheduled(state) or state.runs is None or not state.runs.after < command.due_at <= draft.now:
        return
    run_id = derive_id("run", state.id, command.due_at.isoformat())
    draft.emit(ev.ScheduleFired(run_id=run_id, due_at=command.due_at, skipped=command.skipped))


def record_run(draft: Draft, command: cmd.RecordScheduledRun) -> None:
    runs = draft.state.runs
    if runs is not None and any(run_id == command.run_id for run_id, _ in runs.open):
        draft.emit(ev.ScheduledRunCreated(run_id=command.run_id))


def run_of(state: Orchestration, run_id: str) -> cmd.CreateOrchestration:
    """What creates, and at once activates, the orchestration of a firing: the same tasks under ids of their own."""
    ids = {task_id: derive_id("task", run_id, task_id) for task_id in state.tasks}
    return cmd.CreateOrchestration(
        orchestration_id=run_id,
        team=state.team,
        created_by=state.created_by,
        spec=state.spec.model_copy(update={"schedule": None, "start_at": None}),
        tasks=tuple(_task_of(task.spec, ids) for task in state.tasks.values()),
        warnings=state.warnings,
        activate=True,
        schedule_id=state.id,
    )


def _task_of(spec: TaskSpec, ids: dict[str, str]) -> TaskSpec:
    depends_on = tuple(ids[task_id] for task_id in spec.depends_on)
    return spec.model_copy(update={"task_id": ids[spec.task_id], "depends_on": depends_on})

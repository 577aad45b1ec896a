"""Deciding: what may be asked of an orchestration and what follows. Nothing outside of it refuses."""

from typing import assert_never

from shared.domain import attempts, lifecycle, observing, schedule, task_commands
from shared.domain import commands as cmd
from shared.domain.commands import Deciding
from shared.domain.draft import Draft
from shared.domain.errors import Refusal
from shared.domain.events import OrchestrationEvent
from shared.domain.state import Orchestration


def decide(state: Orchestration | None, command: cmd.AnyCommand, deciding: Deciding) -> list[OrchestrationEvent]:
    """What `command` leads to in `state`: the events of one commit, none when it changes nothing.

    Raises:
        Refusal: the state does not allow it.
    """
    if isinstance(command, cmd.CreateOrchestration):
        return lifecycle.create(state, command, deciding)
    if state is None or (state.deleted and isinstance(command, cmd.UserCommand)):
        raise Refusal("ORCHESTRATION_NOT_FOUND", "there is no orchestration with this id")
    draft = Draft(state, deciding)
    if isinstance(command, cmd.UserCommand):
        _asked(draft, command)
    else:
        _learned(draft, command)
    return draft.events


def _asked(draft: Draft, command: cmd.UserCommand) -> None:
    match command:
        case cmd.CreateOrchestration():
            return  # decided before there is a state
        case cmd.ActivateOrchestration():
            lifecycle.activate(draft)
        case cmd.UpdateOrchestration():
            lifecycle.update(draft, command)
        case cmd.PauseOrchestration():
            lifecycle.pause(draft, command.mode)
        case cmd.ResumeOrchestration():
            lifecycle.resume(draft)
        case cmd.CancelOrchestration():
            lifecycle.cancel(draft)
        case cmd.DeleteOrchestration():
            lifecycle.delete(draft)
        case cmd.AddTask():
            task_commands.add(draft, command)
        case cmd.UpdateTask():
            task_commands.update(draft, command)
        case cmd.RetryTask():
            task_commands.retry(draft, command.task_id)
        case cmd.RestartTask():
            task_commands.restart(draft, command.task_id)
        case cmd.SkipTask():
            task_commands.skip(draft, command.task_id)
        case cmd.StopAttempt():
            attempts.stop(draft, command)
        case cmd.FollowUp():
            task_commands.follow_up(draft, command)
        case cmd.DeleteAgent():
            attempts.delete_agent(draft, command)
        case _:
            assert_never(command)


def _learned(draft: Draft, command: cmd.ServiceCommand) -> None:
    match command:
        case cmd.Tick():
            lifecycle.tick(draft)
        case cmd.FireSchedule():
            schedule.fire(draft, command)
        case cmd.RecordScheduledRun():
            schedule.record_run(draft, command)
        case cmd.NoteWaiting():
            attempts.note_waiting(draft, command)
        case cmd.StartAttempt():
            attempts.start(draft, command)
        case cmd.RecordAgent():
            attempts.record_agent(draft, command)
        case cmd.RejectAttempt():
            attempts.reject(draft, command)
        case cmd.DropModel():
            attempts.drop_model(draft, command)
        case cmd.ObserveAgent():
            observing.observe(draft, command)
        case cmd.ReportMissing():
            observing.report_missing(draft, command)
        case cmd.ExpireAttempt():
            attempts.expire(draft, command)
        case cmd.DiscardAgent():
            attempts.discard_agent(draft, command)
        case cmd.RecordAgentArchived():
            attempts.record_agent_archived(draft, command)
        case cmd.RecordAgentDeleted():
            attempts.record_agent_deleted(draft, command)
        case _:
            assert_never(command)

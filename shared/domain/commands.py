"""What can be asked of an orchestration: by users, and by the services that carry it out.

`now` and chance reach the decision beside the command, see `Deciding`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field

from shared.domain.events import (
    AgentStatus,
    ApiVersion,
    Failure,
    Frozen,
    LaunchWait,
    OrchestrationSpec,
    PauseMode,
    Source,
    TaskSpec,
    Usage,
)
from shared.domain.patience import Patience
from shared.domain.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Deciding:
    """What a decision may use besides state and command: the time, one draw from [0, 1), and policies."""

    now: datetime
    jitter: float = 0.0
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    patience: Patience = field(default_factory=Patience)


class Command(Frozen):
    """Base of every command; `type` names it on the wire."""

    type: ClassVar[str]


class CreateOrchestration(Command):
    type: ClassVar[str] = "orchestration.create"
    orchestration_id: str
    team: str
    created_by: str
    spec: OrchestrationSpec
    tasks: tuple[TaskSpec, ...]
    warnings: tuple[str, ...] = ()
    activate: bool = False
    schedule_id: str | None = None


class ActivateOrchestration(Command):
    type: ClassVar[str] = "orchestration.activate"


class UpdateOrchestration(Command):
    """`changes` holds fields of `OrchestrationSpec` by name, as JSON values; None clears one."""

    type: ClassVar[str] = "orchestration.update"
    changes: dict[str, Any]
    warnings: tuple[str, ...] = ()


class PauseOrchestration(Command):
    """Launch nothing any more; `stop` stops the running agents, `drain` lets them finish."""

    type: ClassVar[str] = "orchestration.pause"
    mode: PauseMode = "stop"


class ResumeOrchestration(Command):
    type: ClassVar[str] = "orchestration.resume"


class CancelOrchestration(Command):
    """Stop every agent and cancel what is not finished."""

    type: ClassVar[str] = "orchestration.cancel"


class DeleteOrchestration(Command):
    """Cancel what is under way, then show it to nobody any more."""

    type: ClassVar[str] = "orchestration.delete"


class AddTask(Command):
    """`task.order_index` counts only where `at_end` is False."""

    type: ClassVar[str] = "task.add"
    task: TaskSpec
    at_end: bool = True
    warnings: tuple[str, ...] = ()


class UpdateTask(Command):
    """`changes` holds fields of `TaskSpec` by name, as JSON values; None clears one."""

    type: ClassVar[str] = "task.update"
    task_id: str
    changes: dict[str, Any]
    warnings: tuple[str, ...] = ()


class RetryTask(Command):
    """Try a failed task again, with all its retries."""

    type: ClassVar[str] = "task.retry"
    task_id: str


class RestartTask(Command):
    """Do a finished task once more, whatever came of it."""

    type: ClassVar[str] = "task.restart"
    task_id: str


class SkipTask(Command):
    """Go on as if the task were done."""

    type: ClassVar[str] = "task.skip"
    task_id: str


class StopAttempt(Command):
    """Stop the agent of the attempt for good: the task fails."""

    type: ClassVar[str] = "attempt.stop"
    attempt_id: str


class FollowUp(Command):
    """Let the agent of an ended attempt go on with another prompt, as the next attempt of its task."""

    type: ClassVar[str] = "attempt.follow_up"
    attempt_id: str
    prompt: str = Field(min_length=1)


class DeleteAgent(Command):
    """Delete the agent of an ended attempt at the provider."""

    type: ClassVar[str] = "agent.delete"
    attempt_id: str


class DiscardAgent(Command):
    """Have the agent of the attempt deleted, if its task has no use for it."""

    type: ClassVar[str] = "agent.discard"
    attempt_id: str


class RecordAgentArchived(Command):
    """The provider has archived the agent of the attempt."""

    type: ClassVar[str] = "agent.record_archived"
    attempt_id: str


class RecordAgentDeleted(Command):
    """The provider no longer has the agent of the attempt."""

    type: ClassVar[str] = "agent.record_deleted"
    attempt_id: str


class NoteWaiting(Command):
    """The launcher cannot launch the attempt yet."""

    type: ClassVar[str] = "attempt.note_waiting"
    attempt_id: str
    reason: LaunchWait
    until: datetime | None = None


class Tick(Command):
    """Time has passed: start what is due. Sent when a timer fires."""

    type: ClassVar[str] = "orchestration.tick"


class FireSchedule(Command):
    """The schedule has come due at `due_at`, for the last of `skipped` + 1 times since it was looked at."""

    type: ClassVar[str] = "schedule.fire"
    due_at: datetime
    skipped: int = 0


class RecordScheduledRun(Command):
    """The orchestration of a firing exists."""

    type: ClassVar[str] = "schedule.record_run"
    run_id: str


class StartAttempt(Command):
    """The launcher holds a slot and is about to create the agent under `agent_id`."""

    type: ClassVar[str] = "attempt.start"
    attempt_id: str
    agent_id: str
    api_version: ApiVersion
    branch_name: str


class RecordAgent(Command):
    """The provider has created the agent of a started attempt."""

    type: ClassVar[str] = "attempt.record_agent"
    attempt_id: str
    agent_id: str
    status: AgentStatus
    provider_status: str
    run_id: str | None = None
    url: str | None = None


class RejectAttempt(Command):
    """The provider refused to create the agent, or it is settled that there is none."""

    type: ClassVar[str] = "attempt.reject"
    attempt_id: str
    failure: Failure


class DropModel(Command):
    """The provider refused to create the agent for the model in the request, and for `reason`."""

    type: ClassVar[str] = "attempt.drop_model"
    attempt_id: str
    model: str
    reason: str


class ObserveAgent(Command):
    """What the provider says of an agent now. `cost` in dollars, `duration_ms` of its run.

    `usage_pending`: the provider reports usage, but not yet that of this run; `cost` is estimated.
    """

    type: ClassVar[str] = "agent.observe"
    attempt_id: str
    agent_id: str
    status: AgentStatus
    provider_status: str
    source: Source
    run_id: str | None = None
    url: str | None = None
    branch: str | None = None
    pr_url: str | None = None
    summary: str | None = None
    duration_ms: int | None = None
    cost: float | None = None
    usage: Usage | None = None
    usage_pending: bool = False


class ReportMissing(Command):
    """The provider says that there is no such agent. `cost` is an estimate, in dollars, of its work so far."""

    type: ClassVar[str] = "agent.report_missing"
    attempt_id: str
    agent_id: str
    provider_code: str
    source: Source
    cost: float = 0.0


class ExpireAttempt(Command):
    """The attempt's deadline has been looked at."""

    type: ClassVar[str] = "attempt.expire"
    attempt_id: str


UserCommand = (
    CreateOrchestration
    | ActivateOrchestration
    | UpdateOrchestration
    | PauseOrchestration
    | ResumeOrchestration
    | CancelOrchestration
    | DeleteOrchestration
    | AddTask
    | UpdateTask
    | RetryTask
    | RestartTask
    | SkipTask
    | StopAttempt
    | FollowUp
    | DeleteAgent
)
"""What users may ask for."""

ServiceCommand = (
    Tick
    | FireSchedule
    | RecordScheduledRun
    | NoteWaiting
    | StartAttempt
    | RecordAgent
    | RejectAttempt
    | DropModel
    | ObserveAgent
    | ReportMissing
    | ExpireAttempt
    | DiscardAgent
    | RecordAgentArchived
    | RecordAgentDeleted
)
"""What the services tell of their work."""

AnyCommand = UserCommand | ServiceCommand

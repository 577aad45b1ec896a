"""Events of the orchestration aggregate: facts in the past tense, self-contained, a public contract of the log.

A reader ignores fields that it does not know; a new field has a default; a new meaning is a new version of the type.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class OrchestrationStatus(StrEnum):
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    PARTIAL_COMPLETED = "PARTIAL_COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        return self in (
            OrchestrationStatus.COMPLETED,
            OrchestrationStatus.PARTIAL_COMPLETED,
            OrchestrationStatus.FAILED,
            OrchestrationStatus.CANCELLED,
        )


class TaskStatus(StrEnum):
    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"

    @property
    def is_terminal(self) -> bool:
        return self not in (TaskStatus.PENDING, TaskStatus.PROCESSING)


class AgentStatus(StrEnum):
    """State of an agent. `UNKNOWN` is a word of the provider that is not known here: not an end, not a failure."""

    CREATING = "CREATING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_terminal(self) -> bool:
        return self in (AgentStatus.FINISHED, AgentStatus.FAILED, AgentStatus.STOPPED, AgentStatus.EXPIRED)


Level = Literal["low", "medium", "high"]
Complexity = Literal["simple", "moderate", "complex"]
Source = Literal["create", "webhook", "poll", "stream"]
StopReason = Literal["TIMEOUT", "FAIL_FAST", "PAUSE", "CANCEL", "REQUESTED"]
CancelCause = Literal["CANCEL", "FAIL_FAST", "DEPENDENCY"]
ResetReason = Literal["RETRY", "RESTART", "FOLLOW_UP", "REVIVED"]
WithdrawReason = Literal["PAUSE", "REQUEUE", "AGENT_GONE", "BUDGET"]
LaunchWait = Literal["slot", "rate_limit", "budget", "quota", "pause"]
PauseMode = Literal["stop", "drain"]
ApiVersion = Literal["v0", "v1"]
Outcome = Literal["DELIVERED", "NO_CHANGE"]
ResultPart = Literal["branch", "pull_request", "summary", "usage"]


class Frozen(BaseModel):
    # Errors are logged, and what users wrote is not to be.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class TaskSpec(Frozen):
    """What was asked for in one task. `depends_on` holds task ids; `model` None leaves the choice to the provider."""

    task_id: str
    title: str
    description: str
    priority: Level = "medium"
    complexity: Complexity = "moderate"
    max_retries: int = 3
    model: str | None = None
    depends_on: tuple[str, ...] = ()
    order_index: int = 0
    timeout_minutes: int = 120
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class Schedule(Frozen):
    """A cron line of six fields and the name of its time zone."""

    cron: str
    timezone: str = "UTC"


class OrchestrationSpec(Frozen):
    """What was asked for in one orchestration, apart from its tasks. `max_cost` in dollars."""

    repository: str
    ref: str = "main"
    name: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    model: str | None = None
    strict_model: bool = False
    priority: Literal["speed", "balanced", "quality"] = "balanced"
    auto_create_pr: bool = True
    webhook_url: str | None = None
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    max_parallel: int | None = None
    failure_policy: Literal["fail_fast", "continue"] = "fail_fast"
    base: Literal["ref", "previous"] = "ref"
    deliverable: Literal["any", "branch", "pr"] = "any"
    max_cost: float | None = None
    start_at: datetime | None = None
    schedule: Schedule | None = None


class Failure(Frozen):
    """Why an attempt, a task or an orchestration failed.

    `code` is one of `errors.HTTP_STATUS`, or of those that only attempts have: AGENT_FAILED, AGENT_EXPIRED,
    AGENT_LOST, AGENT_STOPPED, DELIVERABLE_MISSING, TIMEOUT, NETWORK_ERROR.
    """

    code: str
    message: str
    retryable: bool = False


class TaskResult(Frozen):
    """What an agent left behind."""

    outcome: Outcome
    branch: str | None = None
    pr_url: str | None = None
    summary: str | None = None


class Continuation(Frozen):
    """An agent to go on with. `run_id` is its latest run, `prompt` what to tell it, None to go on where it was."""

    agent_id: str
    api_version: ApiVersion
    run_id: str | None = None
    prompt: str | None = None


class Usage(Frozen):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class Findings(Frozen):
    """What a finished agent shows of its work, as far as it was seen. `cost` in dollars, estimated without `usage`."""

    branch: str | None = None
    pr_url: str | None = None
    summary: str | None = None
    duration_ms: int | None = None
    cost: float | None = None
    usage: Usage | None = None


class Statistics(Frozen):
    """Counts over the tasks; `duration_ms` since activation without the time it was paused, `total_cost` in dollars."""

    total_tasks: int
    pending_tasks: int
    processing_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    skipped_tasks: int
    duration_ms: int
    total_cost: float


class Event(Frozen):
    """Base of every event; `type` and `schema_version` name its form on the wire."""

    type: ClassVar[str]
    schema_version: ClassVar[int] = 1


class OrchestrationCreated(Event):
    type: ClassVar[str] = "orchestration.created"
    orchestration_id: str
    team: str
    created_by: str
    spec: OrchestrationSpec
    tasks: tuple[TaskSpec, ...]
    warnings: tuple[str, ...] = ()
    schedule_id: str | None = None
    """The orchestration whose schedule this is a run of."""


class ScheduleFired(Event):
    """The schedule came due at `due_at`; an orchestration is to be created for it, under `run_id`.

    `skipped` counts the times before it at which nothing ran here; they are not made up for.
    """

    type: ClassVar[str] = "schedule.fired"
    run_id: str
    due_at: datetime
    skipped: int = 0


class ScheduledRunCreated(Event):
    type: ClassVar[str] = "schedule.run_created"
    run_id: str


class OrchestrationActivated(Event):
    type: ClassVar[str] = "orchestration.activated"


class TaskQueued(Event):
    """A new attempt of the task waits to be launched. `base_ref` is where its agent starts from.

    With `continues` no agent is created: that one goes on.
    """

    type: ClassVar[str] = "task.queued"
    task_id: str
    attempt_id: str
    number: int
    priority: Level
    base_ref: str
    continues: Continuation | None = None


class AttemptStarted(Event):
    """The agent's id is chosen and its create may be under way: from here on an agent may exist."""

    type: ClassVar[str] = "attempt.started"
    task_id: str
    attempt_id: str
    agent_id: str
    api_version: ApiVersion
    branch_name: str
    deadline_at: datetime
    model: str | None = None


class AttemptModelDropped(Event):
    """The provider does not take `model`, which nobody insisted on: the agent is created without one.

    `warning` says so to people.
    """

    type: ClassVar[str] = "attempt.model_dropped"
    task_id: str
    attempt_id: str
    model: str
    warning: str


class AgentCreated(Event):
    """The provider is known to have created the agent; `agent_id` is the provider's own."""

    type: ClassVar[str] = "agent.created"
    task_id: str
    attempt_id: str
    agent_id: str
    status: AgentStatus
    provider_status: str
    run_id: str | None = None
    url: str | None = None


class AgentStatusChanged(Event):
    """`run_id` where that was not known before: an agent that was found while its machine booted had none yet."""

    type: ClassVar[str] = "agent.status_changed"
    task_id: str
    attempt_id: str
    agent_id: str
    status: AgentStatus
    provider_status: str
    source: Source
    run_id: str | None = None


class AgentMissed(Event):
    """The provider said that there is no such agent, the `times`-th time since `since`. One read proves nothing: the
    agent is lost if it goes on like that, and any change of its status says that it is there."""

    type: ClassVar[str] = "agent.missed"
    task_id: str
    attempt_id: str
    agent_id: str
    since: datetime
    times: int


class AttemptResultAwaited(Event):
    """The agent has finished, and `missing` is what may still come of it: the task is not judged before `until`.

    `found` is what there is so far, so that nothing of it is lost should the agent not be seen again.
    """

    type: ClassVar[str] = "attempt.result_awaited"
    task_id: str
    attempt_id: str
    missing: tuple[ResultPart, ...]
    until: datetime
    found: Findings


class AttemptStopRequested(Event):
    """The agent is to be stopped as soon as it is known; the attempt ends when it is seen to have stopped."""

    type: ClassVar[str] = "attempt.stop_requested"
    task_id: str
    attempt_id: str
    reason: StopReason


class AttemptFailed(Event):
    """`result` is what the agent left behind all the same."""

    type: ClassVar[str] = "attempt.failed"
    task_id: str
    attempt_id: str
    failure: Failure
    result: TaskResult | None = None
    duration_ms: int = 0
    cost: float = 0.0
    usage: Usage | None = None


class TaskRetryScheduled(Event):
    """The task goes back to PENDING and is queued again at `due_at`; `retry_count` includes this retry.

    `continues` names the agent that is told the same again, where what failed is a follow-up of the user.
    """

    type: ClassVar[str] = "task.retry_scheduled"
    task_id: str
    retry_count: int
    due_at: datetime
    continues: Continuation | None = None


class TaskRetryDue(Event):
    """The time of the task's retry has come, and it cannot be queued yet: from now on it waits like any other."""

    type: ClassVar[str] = "task.retry_due"
    task_id: str


class TaskCompleted(Event):
    type: ClassVar[str] = "task.completed"
    task_id: str
    attempt_id: str
    result: TaskResult
    duration_ms: int
    cost: float
    usage: Usage | None = None


class TaskFailed(Event):
    type: ClassVar[str] = "task.failed"
    task_id: str
    failure: Failure


class TaskCancelled(Event):
    type: ClassVar[str] = "task.cancelled"
    task_id: str
    reason: str
    cause: CancelCause | None = None


class OrchestrationUpdated(Event):
    """`spec` holds every field as it is from now on, `changed` the names of those that are new."""

    type: ClassVar[str] = "orchestration.updated"
    spec: OrchestrationSpec
    changed: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class OrchestrationPaused(Event):
    """No attempt is launched any more. `mode` tells whether running agents are stopped or may finish."""

    type: ClassVar[str] = "orchestration.paused"
    mode: PauseMode


class OrchestrationResumed(Event):
    type: ClassVar[str] = "orchestration.resumed"


class OrchestrationCancelRequested(Event):
    """It is cancelled as soon as every agent of it is known to have stopped, and then deleted where asked for."""

    type: ClassVar[str] = "orchestration.cancel_requested"
    delete: bool = False


class OrchestrationCancelled(Event):
    type: ClassVar[str] = "orchestration.cancelled"
    summary: str
    statistics: Statistics


class OrchestrationReopened(Event):
    """It had ended and is under way again."""

    type: ClassVar[str] = "orchestration.reopened"


class OrchestrationDeleted(Event):
    """It is shown to nobody any more; only the log keeps it."""

    type: ClassVar[str] = "orchestration.deleted"


class TaskAdded(Event):
    type: ClassVar[str] = "task.added"
    task: TaskSpec
    warnings: tuple[str, ...] = ()


class TaskUpdated(Event):
    """`spec` holds every field as it is from now on, `changed` the names of those that are new."""

    type: ClassVar[str] = "task.updated"
    task_id: str
    spec: TaskSpec
    changed: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class TaskReset(Event):
    """The finished task is PENDING again, with all its retries; `continues` names the agent that it goes on with."""

    type: ClassVar[str] = "task.reset"
    task_id: str
    reason: ResetReason
    continues: Continuation | None = None


class TaskSkipped(Event):
    type: ClassVar[str] = "task.skipped"
    task_id: str


class AttemptWaiting(Event):
    """Why the attempt is not launched yet, and when that will be looked at again where it is known."""

    type: ClassVar[str] = "attempt.waiting"
    task_id: str
    attempt_id: str
    reason: LaunchWait
    until: datetime | None = None


class AttemptWithdrawn(Event):
    """The attempt will not be launched; it had no agent and counts as no try."""

    type: ClassVar[str] = "attempt.withdrawn"
    task_id: str
    attempt_id: str
    reason: WithdrawReason


class AttemptStopped(Event):
    """The attempt ended because we had it stopped. That is no failure and costs no retry: the task is PENDING.

    `result` is what its agent had left behind by then; `continues` names the agent where it can go on later.
    """

    type: ClassVar[str] = "attempt.stopped"
    task_id: str
    attempt_id: str
    reason: StopReason
    result: TaskResult | None = None
    continues: Continuation | None = None
    duration_ms: int = 0
    cost: float = 0.0
    usage: Usage | None = None


class AgentDeleteRequested(Event):
    type: ClassVar[str] = "agent.delete_requested"
    task_id: str
    attempt_id: str
    agent_id: str


class AgentDeleted(Event):
    """The agent does not exist at the provider any more."""

    type: ClassVar[str] = "agent.deleted"
    task_id: str
    attempt_id: str
    agent_id: str


class AgentArchived(Event):
    """The provider has put the agent away, whose task had ended; it goes on only once it is brought back."""

    type: ClassVar[str] = "agent.archived"
    task_id: str
    attempt_id: str
    agent_id: str


class OrchestrationCompleted(Event):
    """Every task is finished and at least one completed: COMPLETED, or PARTIAL_COMPLETED where some failed."""

    type: ClassVar[str] = "orchestration.completed"
    status: Literal[OrchestrationStatus.COMPLETED, OrchestrationStatus.PARTIAL_COMPLETED]
    summary: str
    statistics: Statistics


class OrchestrationFailed(Event):
    type: ClassVar[str] = "orchestration.failed"
    failure: Failure
    summary: str
    statistics: Statistics


OrchestrationEvent = (
    OrchestrationCreated
    | ScheduleFired
    | ScheduledRunCreated
    | OrchestrationActivated
    | OrchestrationUpdated
    | OrchestrationPaused
    | OrchestrationResumed
    | OrchestrationCancelRequested
    | OrchestrationCancelled
    | OrchestrationReopened
    | OrchestrationDeleted
    | TaskAdded
    | TaskUpdated
    | TaskReset
    | TaskSkipped
    | TaskQueued
    | AttemptWaiting
    | AttemptWithdrawn
    | AttemptStopped
    | AgentDeleteRequested
    | AgentDeleted
    | AgentArchived
    | AttemptStarted
    | AttemptModelDropped
    | AgentCreated
    | AgentStatusChanged
    | AgentMissed
    | AttemptResultAwaited
    | AttemptStopRequested
    | AttemptFailed
    | TaskRetryScheduled
    | TaskRetryDue
    | TaskCompleted
    | TaskFailed
    | TaskCancelled
    | OrchestrationCompleted
    | OrchestrationFailed
)

"""What the API answers: JSON by orjson, and the shapes of the answers for the OpenAPI document."""

from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field, JsonValue
from starlette.responses import JSONResponse

from shared.domain.events import (
    AgentStatus,
    ApiVersion,
    Complexity,
    Level,
    OrchestrationStatus,
    Outcome,
    PauseMode,
    ResultPart,
    StopReason,
    TaskStatus,
)
from shared.domain.readiness import WaitingFor
from shared.domain.state import Ending, Phase


class Json(JSONResponse):
    """A body written by orjson."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class AgentShape(BaseModel):
    id: str
    run_id: str | None
    status: AgentStatus | None
    provider_status: str | None = Field(description="the provider's own word")
    url: str | None
    missing_since: str | None = Field(default=None, description="since when the provider does not find it")
    api_version: ApiVersion | None
    model: str | None


class AttemptShape(BaseModel):
    """One try at a task, with at most one agent."""

    id: str
    number: int
    phase: Phase = Field(description="from CREATED on it has an agent, from STARTED on it may")
    base_ref: str
    ending: Ending | None = Field(default=None, description="null before the end")
    stop_reason: StopReason | None = Field(default=None, description="why its agent was to be stopped, if it was")
    continues_agent: bool = Field(default=False, description="it goes on with the agent of an earlier attempt")
    agent: AgentShape | None
    error_code: str | None
    error_message: str | None
    result_branch: str | None = None
    result_pr_url: str | None = None
    result_summary: str | None = None
    result_missing: list[ResultPart] = Field(
        default_factory=list,
        description="what is still looked for after its agent has finished",
    )
    result_awaited_until: str | None = Field(default=None, description="until when it is looked for")
    duration: int | None = Field(description="milliseconds")
    cost: float = Field(description="dollars")
    queued_at: str
    started_at: str | None
    deadline_at: str | None
    ended_at: str | None


class TaskShape(BaseModel):
    """A task and how far it is."""

    id: str
    orchestration_id: str
    title: str
    description: str
    status: TaskStatus
    priority: Level
    complexity: Complexity
    order_index: int
    depends_on: list[str]
    model: str | None
    timeout_minutes: int
    metadata: dict[str, JsonValue]
    cloud_agent_id: str | None = Field(description="of its newest attempt, like the next two")
    cloud_agent_status: AgentStatus | None
    cloud_agent_url: str | None
    outcome: Outcome | None = Field(description="NO_CHANGE: the agent finished without a branch or pull request")
    result_summary: str | None
    result_branch: str | None
    result_pr_url: str | None
    error_code: str | None
    error_message: str | None
    retry_count: int
    max_retries: int
    duration: int | None = Field(description="milliseconds")
    cost: float = Field(description="dollars")
    waiting_for: WaitingFor | None = Field(
        description="why it does not run yet: it is not its `turn`, a `dependency` is not done, no `slot` for an agent "
        "is free, the provider's `rate_limit` or `quota`, the `budget`, the time of its `retry` has not come, or the "
        "orchestration or the queue is in a `pause`"
    )
    waiting_until: str | None = Field(description="when that is looked at again, where it is known")
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    failed_at: str | None
    attempts: list[AttemptShape]


class RunsShape(BaseModel):
    """What a schedule has led to: the orchestrations that it made, and the newest of them."""

    count: int
    last_id: str | None
    last_at: str | None


class OrchestrationShape(BaseModel):
    """An orchestration without its tasks."""

    id: str
    name: str | None
    description: str | None
    status: OrchestrationStatus
    repository: str
    ref: str
    model: str | None
    strict_model: bool
    priority: Literal["speed", "balanced", "quality"]
    auto_create_pr: bool
    webhook_url: str | None
    execution_mode: Literal["sequential", "parallel"]
    max_parallel: int | None
    failure_policy: Literal["fail_fast", "continue"]
    base: Literal["ref", "previous"]
    deliverable: Literal["any", "branch", "pr"]
    max_cost: float | None
    start_at: str | None
    schedule: dict[str, str] | None
    schedule_id: str | None = Field(default=None, description="the orchestration whose schedule this is a run of")
    runs: RunsShape | None = Field(default=None, description="of its schedule; null where it has none")
    tags: list[str]
    metadata: dict[str, JsonValue]
    created_by: str
    summary: str | None
    error_code: str | None
    error_message: str | None
    warnings: list[str]
    created_at: str
    updated_at: str
    activated_at: str | None
    pause_mode: PauseMode | None = Field(default=None, description="while it is PAUSED")
    paused_at: str | None = None
    paused_duration: int = Field(
        default=0, description="milliseconds in which it was paused or over, before it went on"
    )
    completed_at: str | None
    version: int


class CreatedShape(OrchestrationShape):
    """A new orchestration with its tasks."""

    tasks: list[TaskShape]


class StatisticsShape(BaseModel):
    """Counts over the tasks; durations in milliseconds, progress in percent, cost in dollars."""

    totalTasks: int
    pendingTasks: int
    processingTasks: int
    completedTasks: int
    failedTasks: int
    cancelledTasks: int
    skippedTasks: int
    progress: int
    duration: int
    estimatedTimeRemaining: int | None
    totalCost: float


class ErrorBody(BaseModel):
    code: str
    message: str
    statusCode: int
    metadata: dict[str, JsonValue] = Field(description="`requestId`, and details such as `fields`")


class BulkItemShape(BaseModel):
    """What became of one repository of a bulk request. `outcome` is there where the decision is not known."""

    repository: str | None = Field(description="as the request names it")
    status: int = Field(description="201 created, 400 refused, 202 and 503 not decided yet")
    id: str | None = Field(default=None, description="of the orchestration, also where it is still to come")
    orchestration: OrchestrationShape | None = None
    outcome: Literal["unknown", "not sent"] | None = None
    error: ErrorBody | None = None


class BulkShape(BaseModel):
    """One item for each repository, in the order given."""

    items: list[BulkItemShape]
    created: int
    failed: int = Field(description="refused; the others are not concerned")
    undecided: int = Field(description="not known yet: send the request again with its Idempotency-Key")


class DetailShape(BaseModel):
    """An orchestration with everything about it."""

    orchestration: OrchestrationShape
    tasks: list[TaskShape]
    statistics: StatisticsShape


class OrchestrationsPage(BaseModel):
    items: list[OrchestrationShape]
    nextCursor: str | None = Field(default=None, description="absent on the last page")


class TasksPage(BaseModel):
    items: list[TaskShape]


class EventShape(BaseModel):
    """One event of an orchestration's history. `sequence` is the place of its commit in the log."""

    sequence: int
    version: int
    id: str
    type: str
    occurred_at: str
    actor: str
    command_id: str
    correlation_id: str
    data: dict[str, JsonValue]


class EventsPage(BaseModel):
    items: list[EventShape]
    nextCursor: str | None = Field(default=None, description="absent on the last page")


class LogLineShape(BaseModel):
    """One line for people. `event` is the type of the event that it tells of."""

    sequence: int
    time: str
    level: Literal["info", "warning", "error"]
    message: str
    event: str
    task_id: str | None
    task_title: str | None = Field(description="as it was then")
    attempt_id: str | None


class LogPage(BaseModel):
    items: list[LogLineShape]
    nextCursor: str | None = Field(default=None, description="absent on the last page")


class ActionShape(BaseModel):
    """The outcome of an action; `status` is null while a new orchestration is not yet decided."""

    id: str
    status: OrchestrationStatus | None
    message: str


class TaskActionShape(BaseModel):
    """The outcome of an action on a task; `status` is null while it is not yet decided."""

    id: str
    status: TaskStatus | None
    message: str


class DeletedShape(BaseModel):
    """It is gone."""

    id: str
    status: Literal["DELETED"]
    message: str


class ReceivedShape(BaseModel):
    received: Literal[True]


class HealthCheckShape(BaseModel):
    status: Literal["pass", "fail"]
    responseTime: float = Field(description="milliseconds")
    message: str


class HealthChecksShape(BaseModel):
    database: HealthCheckShape
    queue: HealthCheckShape
    cursorApi: HealthCheckShape
    worker: HealthCheckShape


class HealthShape(BaseModel):
    """How well everything is that the API depends on."""

    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: str
    uptime: float = Field(description="seconds")
    checks: HealthChecksShape


class LivenessShape(BaseModel):
    status: Literal["live"]


class ReadinessCheckShape(BaseModel):
    status: Literal["pass", "fail"]
    message: str


class ReadinessShape(BaseModel):
    status: Literal["ready", "not ready", "stopping"]
    checks: dict[str, ReadinessCheckShape]


class ErrorShape(BaseModel):
    """Every answer from 400 on."""

    error: ErrorBody

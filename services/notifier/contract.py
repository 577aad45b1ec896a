"""The public events: CloudEvents 1.0 in JSON on `orchestrations.<team>.<name>`, a contract apart from the log's.

A reader ignores fields that it does not know. Fields are only ever added; a new meaning is a new version of the type.
Nothing here may hold a prompt, metadata of users or the address of a receiver.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from shared.domain.events import (
    AgentStatus,
    Complexity,
    Level,
    OrchestrationStatus,
    Outcome,
    PauseMode,
    ResetReason,
    Statistics,
    TaskStatus,
)

MEDIA_TYPE = "application/cloudevents+json"


class PublicData(BaseModel):
    """Base of the data of every public event; `name` is the last part of its subject and the middle of its type."""

    model_config = ConfigDict(frozen=True)

    name: ClassVar[str]
    version: ClassVar[int] = 1
    orchestration_id: str

    @property
    def subject_id(self) -> str:
        """What the event is about: a task's id, else the orchestration's."""
        task_id: str | None = getattr(self, "task_id", None)
        return task_id or self.orchestration_id


class PublicTask(BaseModel):
    model_config = ConfigDict(frozen=True)

    task_id: str
    title: str
    priority: Level
    complexity: Complexity
    order_index: int
    depends_on: tuple[str, ...]


class OrchestrationCreated(PublicData):
    name: ClassVar[str] = "orchestration.created"
    status: Literal[OrchestrationStatus.PENDING] = OrchestrationStatus.PENDING
    title: str | None
    repository: str
    ref: str
    model: str | None
    tags: tuple[str, ...]
    execution_mode: Literal["sequential", "parallel"]
    tasks: tuple[PublicTask, ...]


class ScheduleFired(PublicData):
    """The schedule came due; the orchestration `run_id` is created for it."""

    name: ClassVar[str] = "schedule.fired"
    run_id: str
    due_at: datetime
    skipped: int


class OrchestrationActivated(PublicData):
    name: ClassVar[str] = "orchestration.activated"
    status: Literal[OrchestrationStatus.ACTIVE] = OrchestrationStatus.ACTIVE


class OrchestrationUpdated(PublicData):
    """`changed` names the fields that were changed."""

    name: ClassVar[str] = "orchestration.updated"
    changed: tuple[str, ...]


class OrchestrationPaused(PublicData):
    """`mode` tells whether running agents are stopped or may finish."""

    name: ClassVar[str] = "orchestration.paused"
    status: Literal[OrchestrationStatus.PAUSED] = OrchestrationStatus.PAUSED
    mode: PauseMode


class OrchestrationResumed(PublicData):
    name: ClassVar[str] = "orchestration.resumed"
    status: Literal[OrchestrationStatus.ACTIVE] = OrchestrationStatus.ACTIVE


class OrchestrationCancelRequested(PublicData):
    """Its agents are being stopped."""

    name: ClassVar[str] = "orchestration.cancel_requested"
    status: Literal[OrchestrationStatus.CANCELLING] = OrchestrationStatus.CANCELLING


class OrchestrationCancelled(PublicData):
    name: ClassVar[str] = "orchestration.cancelled"
    status: Literal[OrchestrationStatus.CANCELLED] = OrchestrationStatus.CANCELLED
    summary: str
    statistics: Statistics


class OrchestrationReopened(PublicData):
    """It had ended and is under way again."""

    name: ClassVar[str] = "orchestration.reopened"
    status: Literal[OrchestrationStatus.ACTIVE] = OrchestrationStatus.ACTIVE


class OrchestrationDeleted(PublicData):
    name: ClassVar[str] = "orchestration.deleted"


class OrchestrationCompleted(PublicData):
    """`status` tells whether every task completed or only some."""

    name: ClassVar[str] = "orchestration.completed"
    status: Literal[OrchestrationStatus.COMPLETED, OrchestrationStatus.PARTIAL_COMPLETED]
    summary: str
    statistics: Statistics


class OrchestrationFailed(PublicData):
    name: ClassVar[str] = "orchestration.failed"
    status: Literal[OrchestrationStatus.FAILED] = OrchestrationStatus.FAILED
    error_code: str
    error_message: str
    summary: str
    statistics: Statistics


class TaskAdded(PublicData):
    name: ClassVar[str] = "task.added"
    task_id: str
    status: Literal[TaskStatus.PENDING] = TaskStatus.PENDING
    title: str
    priority: Level
    complexity: Complexity
    order_index: int
    depends_on: tuple[str, ...]


class TaskUpdated(PublicData):
    """`changed` names the fields that were changed."""

    name: ClassVar[str] = "task.updated"
    task_id: str
    changed: tuple[str, ...]


class TaskReset(PublicData):
    """The finished task is to be done once more."""

    name: ClassVar[str] = "task.reset"
    task_id: str
    status: Literal[TaskStatus.PENDING] = TaskStatus.PENDING
    reason: ResetReason


class TaskSkipped(PublicData):
    name: ClassVar[str] = "task.skipped"
    task_id: str
    status: Literal[TaskStatus.SKIPPED] = TaskStatus.SKIPPED


class TaskQueued(PublicData):
    """An attempt of the task waits to be launched; `attempt` counts from 1."""

    name: ClassVar[str] = "task.queued"
    task_id: str
    attempt_id: str
    attempt: int


class TaskRetryScheduled(PublicData):
    name: ClassVar[str] = "task.retry_scheduled"
    task_id: str
    status: Literal[TaskStatus.PENDING] = TaskStatus.PENDING
    retry_count: int
    due_at: datetime


class TaskCompleted(PublicData):
    """`cost` in dollars."""

    name: ClassVar[str] = "task.completed"
    task_id: str
    attempt_id: str
    status: Literal[TaskStatus.COMPLETED] = TaskStatus.COMPLETED
    outcome: Outcome
    branch: str | None
    pr_url: str | None
    summary: str | None
    duration_ms: int
    cost: float


class TaskFailed(PublicData):
    name: ClassVar[str] = "task.failed"
    task_id: str
    status: Literal[TaskStatus.FAILED] = TaskStatus.FAILED
    error_code: str
    error_message: str


class TaskCancelled(PublicData):
    name: ClassVar[str] = "task.cancelled"
    task_id: str
    status: Literal[TaskStatus.CANCELLED] = TaskStatus.CANCELLED
    reason: str


class AgentCreated(PublicData):
    name: ClassVar[str] = "agent.created"
    task_id: str
    attempt_id: str
    agent_id: str
    status: AgentStatus
    url: str | None


class AgentStatusChanged(PublicData):
    name: ClassVar[str] = "agent.status_changed"
    task_id: str
    attempt_id: str
    agent_id: str
    status: AgentStatus


class AgentDeleted(PublicData):
    name: ClassVar[str] = "agent.deleted"
    task_id: str
    attempt_id: str
    agent_id: str


PUBLIC_EVENTS: Sequence[type[PublicData]] = (
    OrchestrationCreated,
    ScheduleFired,
    OrchestrationActivated,
    OrchestrationUpdated,
    OrchestrationPaused,
    OrchestrationResumed,
    OrchestrationCancelRequested,
    OrchestrationCancelled,
    OrchestrationCompleted,
    OrchestrationFailed,
    OrchestrationReopened,
    OrchestrationDeleted,
    TaskAdded,
    TaskUpdated,
    TaskReset,
    TaskSkipped,
    TaskQueued,
    TaskRetryScheduled,
    TaskCompleted,
    TaskFailed,
    TaskCancelled,
    AgentCreated,
    AgentStatusChanged,
    AgentDeleted,
)

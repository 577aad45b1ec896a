"""What can be asked of an orchestration: by users, and by the services that carry it out.

`now` and chance reach the decision beside the command, see `Deciding`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal

from shared.domain.events import (
    AgentStatus,
    Failure,
    Frozen,
    OrchestrationSpec,
    Source,
    TaskSpec,
    Usage,
)
from shared.domain.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Deciding:
    """What a decision may use besides state and command: the time, one draw from [0, 1), and the retry policy."""

    now: datetime
    jitter: float = 0.0
    policy: RetryPolicy = field(default_factory=RetryPolicy)


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


class ActivateOrchestration(Command):
    type: ClassVar[str] = "orchestration.activate"


class Tick(Command):
    """Time has passed: start what is due. Sent when a timer fires."""

    type: ClassVar[str] = "orchestration.tick"


class StartAttempt(Command):
    """The launcher holds a slot and is about to create the agent under `agent_id`."""

    type: ClassVar[str] = "attempt.start"
    attempt_id: str
    agent_id: str
    api_version: Literal["v0", "v1"]
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


class ObserveAgent(Command):
    """What the provider says of an agent now. `cost` in dollars, `duration_ms` of its run."""

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


class ExpireAttempt(Command):
    """The attempt's deadline has been looked at."""

    type: ClassVar[str] = "attempt.expire"
    attempt_id: str


AnyCommand = (
    CreateOrchestration
    | ActivateOrchestration
    | Tick
    | StartAttempt
    | RecordAgent
    | RejectAttempt
    | ObserveAgent
    | ExpireAttempt
)

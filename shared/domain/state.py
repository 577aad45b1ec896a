"""The state of an orchestration: what its events add up to. Values only; `orchestration.py` tells their life."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from shared.domain.events import (
    AgentStatus,
    ApiVersion,
    CancelCause,
    Continuation,
    Failure,
    Findings,
    LaunchWait,
    Level,
    OrchestrationSpec,
    OrchestrationStatus,
    PauseMode,
    ResultPart,
    Statistics,
    StopReason,
    TaskResult,
    TaskSpec,
    TaskStatus,
    Usage,
)


class Phase(StrEnum):
    """How far an attempt is. From STARTED on an agent may exist, from CREATED on it does."""

    QUEUED = "QUEUED"
    STARTED = "STARTED"
    CREATED = "CREATED"
    ENDED = "ENDED"


Ending = Literal["COMPLETED", "FAILED", "STOPPED", "WITHDRAWN"]


@dataclass(frozen=True, slots=True)
class LaunchDelay:
    """Why an attempt is not launched yet, since when, and when that will be looked at again where it is known."""

    reason: LaunchWait
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AwaitedResult:
    """The agent has finished, at `since`; what is missing is looked for until `until`, `found` is what there is."""

    since: datetime
    until: datetime
    missing: tuple[ResultPart, ...]
    found: Findings


@dataclass(frozen=True, slots=True)
class Missed:
    """Since when the provider says that there is no such agent, and how many looks count, the last one at `at`."""

    since: datetime
    times: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a task, with at most one agent. `duration_ms` and `cost` are known once it has ended.

    `continues` is set where it goes on with the agent of an earlier attempt.
    """

    attempt_id: str
    number: int
    priority: Level
    base_ref: str
    queued_at: datetime
    phase: Phase = Phase.QUEUED
    continues: Continuation | None = None
    delay: LaunchDelay | None = None
    agent_id: str | None = None
    api_version: ApiVersion | None = None
    branch_name: str | None = None
    model: str | None = None
    run_id: str | None = None
    url: str | None = None
    status: AgentStatus | None = None
    provider_status: str | None = None
    started_at: datetime | None = None
    deadline_at: datetime | None = None
    awaited: AwaitedResult | None = None
    """Set while its agent has finished and the attempt has not ended."""
    missed: Missed | None = None
    ended_at: datetime | None = None
    ending: Ending | None = None
    stop_reason: StopReason | None = None
    failure: Failure | None = None
    result: TaskResult | None = None
    duration_ms: int = 0
    cost: float = 0.0
    usage: Usage | None = None
    agent_deletion: Literal["REQUESTED", "DONE"] | None = None
    agent_archived: bool = False
    """Its agent was archived after this attempt; a later one brings the agent back."""

    @property
    def is_active(self) -> bool:
        return self.phase is not Phase.ENDED

    @property
    def is_agent_over(self) -> bool:
        """Its agent is known to have ended, though the attempt may still wait for parts of the result."""
        return not self.is_active or self.awaited is not None

    @property
    def may_have_agent(self) -> bool:
        """From the moment it is started until its end: whoever wants it gone must find out first."""
        return self.phase in (Phase.STARTED, Phase.CREATED)

    @property
    def has_had_agent(self) -> bool:
        """The provider is known to have had its agent."""
        return self.agent_id is not None and self.provider_status is not None


@dataclass(frozen=True, slots=True)
class Task:
    spec: TaskSpec
    created_at: datetime
    updated_at: datetime
    status: TaskStatus = TaskStatus.PENDING
    attempts: tuple[Attempt, ...] = ()
    retry_count: int = 0
    retry_at: datetime | None = None
    result: TaskResult | None = None
    failure: Failure | None = None
    cancel_cause: CancelCause | None = None
    continuation: Continuation | None = None
    """The agent that the next attempt goes on with."""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None

    @property
    def task_id(self) -> str:
        return self.spec.task_id

    @property
    def current(self) -> Attempt | None:
        """The attempt under way, None if there is none."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].is_active else None

    @property
    def follow_up(self) -> Continuation | None:
        """The agent with the words of the user that the newest attempt works on, also where it was stopped since and
        only goes on; None where it works on the task as it is described."""
        for attempt in reversed(self.attempts):
            agent = attempt.continues
            if agent is None:
                return None
            if agent.prompt is not None:
                return agent.model_copy(update={"run_id": self.latest_run(agent.agent_id) or agent.run_id})
        return None

    def latest_run(self, agent_id: str) -> str | None:
        """The newest run of the agent. Its newest attempt may have ended before it had one; the run before that must
        not pass for its own."""
        runs = (attempt.run_id for attempt in reversed(self.attempts) if attempt.agent_id == agent_id)
        return next((run for run in runs if run), None)

    def has_deleted(self, agent_id: str) -> bool:
        """The agent does not exist any more, or is about to be deleted."""
        return any(attempt.agent_deletion for attempt in self.attempts if attempt.agent_id == agent_id)

    @property
    def left_agents(self) -> list[Attempt]:
        """The newest attempt of each agent that the task has no use for: none before it has ended, for until then it
        may go on with any of them. Who asks for one to go on afterwards sets the task going again."""
        if not self.status.is_terminal:
            return []
        known = {attempt.agent_id for attempt in self.attempts if attempt.has_had_agent}
        newest = {attempt.agent_id: attempt for attempt in self.attempts if attempt.agent_id in known}
        return [attempt for agent_id, attempt in newest.items() if agent_id and not self.has_deleted(agent_id)]

    @property
    def cost(self) -> float:
        """Dollars over all attempts."""
        return sum((attempt.cost for attempt in self.attempts), 0.0)


@dataclass(frozen=True, slots=True)
class Runs:
    """What a schedule has led to. `open` are the runs, with their times, that are not known to be created yet."""

    after: datetime
    """The schedule comes due behind this."""
    count: int = 0
    last_id: str | None = None
    last_at: datetime | None = None
    open: tuple[tuple[str, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class Orchestration:
    """The aggregate. `tasks` is in the order in which they run; `version` is the number of events so far."""

    id: str
    team: str
    created_by: str
    spec: OrchestrationSpec
    tasks: Mapping[str, Task]
    created_at: datetime
    updated_at: datetime
    status: OrchestrationStatus = OrchestrationStatus.PENDING
    version: int = 0
    warnings: tuple[str, ...] = ()
    schedule_id: str | None = None
    """The orchestration whose schedule this is a run of."""
    runs: Runs | None = None
    """Of its own schedule, if it has one."""
    activated_at: datetime | None = None
    pause_mode: PauseMode | None = None
    idle_since: datetime | None = None
    """Since when it is paused, None when it is not."""
    idle_ms: int = 0
    """How long it was paused or over, in all, before it went on."""
    delete_requested: bool = False
    deleted: bool = False
    ended_at: datetime | None = None
    summary: str | None = None
    failure: Failure | None = None
    statistics: Statistics | None = None
    attempt_index: Mapping[str, str] = field(default_factory=dict)

    def find_attempt(self, attempt_id: str) -> tuple[Task, Attempt] | None:
        """The attempt and its task, None if the orchestration has no such attempt."""
        task_id = self.attempt_index.get(attempt_id)
        if task_id is None:
            return None
        task = self.tasks[task_id]
        return task, next(a for a in task.attempts if a.attempt_id == attempt_id)

    def active_attempts(self) -> Iterator[tuple[Task, Attempt]]:
        for task in self.tasks.values():
            if current := task.current:
                yield task, current

    @property
    def total_cost(self) -> float:
        return sum((task.cost for task in self.tasks.values()), 0.0)

    def active_ms(self, now: datetime) -> int:
        """Milliseconds since activation, until its end or `now`, without the time in which it was paused or over."""
        if self.activated_at is None:
            return 0
        end = self.ended_at or self.idle_since or now
        return max(0, milliseconds(end - self.activated_at) - self.idle_ms)


def milliseconds(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)


def statistics_of(state: Orchestration, now: datetime) -> Statistics:
    """Counts and sums over the tasks as of `now`."""
    statuses = [task.status for task in state.tasks.values()]
    return Statistics(
        total_tasks=len(statuses),
        pending_tasks=statuses.count(TaskStatus.PENDING),
        processing_tasks=statuses.count(TaskStatus.PROCESSING),
        completed_tasks=statuses.count(TaskStatus.COMPLETED),
        failed_tasks=statuses.count(TaskStatus.FAILED),
        cancelled_tasks=statuses.count(TaskStatus.CANCELLED),
        skipped_tasks=statuses.count(TaskStatus.SKIPPED),
        duration_ms=state.active_ms(now),
        total_cost=round(state.total_cost, 6),
    )

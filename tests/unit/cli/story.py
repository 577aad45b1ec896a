"""Lives of orchestrations from real events, with what the API would answer and tell live at every moment of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus
from shared.domain.evolve import evolve
from shared.domain.state import Orchestration
from shared.views import orchestration_view, statistics, task_view, task_views

ID = "0b6c8c1e-5d4f-4b53-9d0e-6a1f3a0c7d11"
START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
TITLES = ("Add a rate limiter", "Test the rate limiter", "Document rate limits")

View = dict[str, Any]
Step = tuple[ev.OrchestrationEvent, ...]


@dataclass(frozen=True)
class Moment:
    """After one commit: its sequence, the answer to a read, and the live messages that it gives."""

    sequence: int
    at: datetime
    view: View
    messages: tuple[View, ...]

    @property
    def status_message(self) -> View:
        return {"type": "status", "id": self.sequence, "data": self.view}


def tell(steps: Sequence[Step]) -> list[Moment]:
    """One commit per step, a second apart; sequences have gaps, as other orchestrations share the log."""
    moments: list[Moment] = []
    state: Orchestration | None = None
    for index, step in enumerate(steps):
        at = START + timedelta(seconds=index)
        before = state
        for event in step:
            state = evolve(state, event, at)
        assert state is not None
        sequence = 10 * (index + 1)
        moments.append(Moment(sequence, at, _view(state, at), tuple(_messages(before, state, sequence, at))))
    return moments


def _view(state: Orchestration, at: datetime) -> View:
    orchestration, tasks = orchestration_view(state), task_views(state)
    return {"orchestration": orchestration, "tasks": tasks, "statistics": statistics(orchestration, tasks, at)}


def _messages(before: Orchestration | None, after: Orchestration, sequence: int, at: datetime) -> Iterator[View]:
    view = _view(after, at)
    for task in after.tasks.values():
        # Not the task alone decides: why it waits may change with another one.
        shown = task_view(after, task)
        if before is None or task_view(before, before.tasks[task.task_id]) != shown:
            yield {"type": "task_updated", "id": sequence, "task": shown}
    data = {"orchestration": view["orchestration"], "statistics": view["statistics"]}
    yield {"type": "orchestration_updated", "id": sequence, "data": data}
    if after.status.is_terminal:
        whole = {**view["orchestration"], "statistics": view["statistics"]}
        yield {"type": "orchestration_completed", "id": sequence, "data": whole}


def all_completed() -> list[Moment]:
    """Created, activated, three tasks one after the other, the second with one retry, COMPLETED."""
    return tell(
        [
            (_created(),),
            (ev.OrchestrationActivated(), queued(1)),
            (started(1),),
            (agent_created(1),),
            (completed(1), queued(2)),
            (started(2), agent_created(2)),
            (failed_attempt(2), retry(2, seconds=5)),
            (queued(2, number=2),),
            (started(2, number=2), agent_created(2, number=2)),
            (completed(2, number=2), queued(3)),
            (started(3), agent_created(3)),
            (completed(3), _ended_well()),
        ]
    )


def failed() -> list[Moment]:
    """The first task fails for good, and with it the orchestration."""
    failure = ev.Failure(code="AGENT_ERROR", message="the agent gave up")
    return tell(
        [
            (_created(),),
            (ev.OrchestrationActivated(), queued(1)),
            (started(1), agent_created(1)),
            (
                failed_attempt(1),
                ev.TaskFailed(task_id="t1", failure=failure),
                ev.TaskCancelled(task_id="t2", reason="fail_fast"),
                ev.TaskCancelled(task_id="t3", reason="fail_fast"),
                ev.OrchestrationFailed(failure=failure, summary="0/3 tasks completed", statistics=_counts()),
            ),
        ]
    )


def deleted(after: Moment) -> Moment:
    """The moment in which it is gone."""
    message = {"type": "orchestration_deleted", "data": {"id": ID, "status": "DELETED"}}
    return replace(after, sequence=after.sequence + 10, messages=(message,))


def _created() -> ev.OrchestrationCreated:
    tasks = tuple(
        ev.TaskSpec(task_id=f"t{number}", title=title, description="What is to be done.", order_index=number)
        for number, title in enumerate(TITLES, 1)
    )
    spec = ev.OrchestrationSpec(repository="https://github.com/acme/storefront", name="Rate limits")
    return ev.OrchestrationCreated(orchestration_id=ID, team="team", created_by="ann", spec=spec, tasks=tasks)


def queued(task: int, *, number: int = 1) -> ev.TaskQueued:
    return ev.TaskQueued(
        task_id=f"t{task}", attempt_id=f"a{task}{number}", number=number, priority="medium", base_ref="main"
    )


def started(task: int, *, number: int = 1) -> ev.AttemptStarted:
    return ev.AttemptStarted(
        task_id=f"t{task}",
        attempt_id=f"a{task}{number}",
        agent_id=f"bc-{task}{number}000000-aaaa",
        api_version="v1",
        branch_name=f"cursor/task-{task}",
        deadline_at=START + timedelta(hours=2),
    )


def agent_created(task: int, *, number: int = 1) -> ev.AgentCreated:
    return ev.AgentCreated(
        task_id=f"t{task}",
        attempt_id=f"a{task}{number}",
        agent_id=f"bc-{task}{number}000000-aaaa",
        status=AgentStatus.RUNNING,
        provider_status="RUNNING",
        url=f"https://cursor.com/agents/bc-{task}{number}000000-aaaa",
    )


def completed(task: int, *, number: int = 1) -> ev.TaskCompleted:
    result = ev.TaskResult(
        outcome="DELIVERED",
        branch=f"cursor/task-{task}",
        pr_url=f"https://github.com/acme/storefront/pull/{100 + task}",
        summary=f"Task {task} is done: 3 files changed.",
    )
    return ev.TaskCompleted(
        task_id=f"t{task}", attempt_id=f"a{task}{number}", result=result, duration_ms=1000, cost=0.0123
    )


def failed_attempt(task: int, *, number: int = 1) -> ev.AttemptFailed:
    failure = ev.Failure(code="AGENT_ERROR", message="the agent gave up", retryable=True)
    return ev.AttemptFailed(task_id=f"t{task}", attempt_id=f"a{task}{number}", failure=failure)


def retry(task: int, *, seconds: int) -> ev.TaskRetryScheduled:
    return ev.TaskRetryScheduled(task_id=f"t{task}", retry_count=1, due_at=START + timedelta(seconds=6 + seconds))


def _ended_well() -> ev.OrchestrationCompleted:
    summary = "All 3 tasks completed successfully"
    return ev.OrchestrationCompleted(status=OrchestrationStatus.COMPLETED, summary=summary, statistics=_counts())


def _counts() -> ev.Statistics:
    return ev.Statistics(
        total_tasks=3,
        pending_tasks=0,
        processing_tasks=0,
        completed_tasks=0,
        failed_tasks=0,
        cancelled_tasks=0,
        skipped_tasks=0,
        duration_ms=0,
        total_cost=0.0,
    )

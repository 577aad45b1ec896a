"""Histories of orchestrations as the log holds them, with every type of event there is."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Final

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationEvent, OrchestrationStatus
from shared.envelope import Commit, RecordedEvent, Stored

TEAM: Final = "team-1"
START: Final = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)

Step = tuple[OrchestrationEvent, ...]


def commits(aggregate: str, steps: Sequence[Step], *, team: str = TEAM, start: datetime = START) -> list[Commit]:
    """One commit for each step, a minute apart."""
    found: list[Commit] = []
    version = 1
    for index, events in enumerate(steps):
        at = start + timedelta(minutes=index)
        recorded = tuple(
            RecordedEvent(f"{aggregate}-e{version + offset}", at, event) for offset, event in enumerate(events)
        )
        commit = Commit(
            commit_id=f"{team}-{aggregate}-c{index + 1}",
            command_id=f"{aggregate}-command-{index + 1}",
            correlation_id=f"{aggregate}-correlation",
            actor="ann",
            team=team,
            aggregate=aggregate,
            version=version,
            recorded_at=at,
            events=recorded,
        )
        found.append(commit)
        version += len(events)
    return found


def stored(*histories: Sequence[Commit], first: int = 1) -> list[Stored]:
    """The commits of all histories in one log, taking turns."""
    return [Stored(sequence, commit) for sequence, commit in enumerate(in_turn(*histories), start=first)]


def in_turn(*histories: Sequence[Commit]) -> Iterator[Commit]:
    for row in zip_longest(*histories):
        yield from (commit for commit in row if commit is not None)


def partly_completed(orchestration: str, *, team: str = TEAM, start: datetime = START) -> list[Commit]:
    """Three tasks, the second depends on the first; the third is stopped, retried and fails for good."""
    one, two, three = (f"{orchestration}-t{number}" for number in (1, 2, 3))
    deadline = start + timedelta(hours=2)
    steps: list[Step] = [
        (created(orchestration, [task(one), task(two, depends_on=(one,), order=1), task(three, order=2)], team=team),),
        (ev.OrchestrationActivated(), queued(one, 1), queued(three, 1)),
        (started(one, 1, deadline),),
        (agent_created(one, 1),),
        (status(one, 1, AgentStatus.RUNNING),),
        (ev.AgentMissed(task_id=one, attempt_id=f"{one}-a1", agent_id=f"bc-{one}-a1", since=start, times=1),),
        (started(three, 1, deadline),),
        (agent_created(three, 1, agent="provider-chose-another"),),
        (status(one, 1, AgentStatus.FINISHED), completed(one, 1), queued(two, 1)),
        (ev.AttemptStopRequested(task_id=three, attempt_id=f"{three}-a1", reason="TIMEOUT"),),
        (
            failed(three, 1, retryable=True),
            ev.TaskRetryScheduled(task_id=three, retry_count=1, due_at=start + timedelta(minutes=40)),
        ),
        (started(two, 1, deadline), ev.TaskRetryDue(task_id=three)),
        (queued(three, 2),),
        (started(three, 2, deadline),),
        (failed(three, 2), ev.TaskFailed(task_id=three, failure=_FAILURE)),
        (agent_created(two, 1),),
        (status(two, 1, AgentStatus.FINISHED), awaited(two, 1, start + timedelta(minutes=50))),
        (
            completed(two, 1),
            ev.OrchestrationCompleted(
                status=OrchestrationStatus.PARTIAL_COMPLETED, summary="2/3 tasks completed", statistics=_STATISTICS
            ),
        ),
    ]
    return commits(orchestration, steps, team=team, start=start)


def failed_fast(orchestration: str, *, team: str = TEAM, start: datetime = START) -> list[Commit]:
    """Two tasks; the first fails for good, so the second is cancelled and the orchestration fails."""
    one, two = (f"{orchestration}-t{number}" for number in (1, 2))
    steps: list[Step] = [
        (created(orchestration, [task(one), task(two, order=1)], team=team),),
        (ev.OrchestrationActivated(), queued(one, 1)),
        (started(one, 1, start + timedelta(hours=2)),),
        (
            failed(one, 1),
            ev.TaskFailed(task_id=one, failure=_FAILURE),
            ev.TaskCancelled(task_id=two, reason="FAIL_FAST"),
            ev.OrchestrationFailed(failure=_FAILURE, summary="0/2 tasks completed", statistics=_STATISTICS),
        ),
    ]
    return commits(orchestration, steps, team=team, start=start)


def steered(orchestration: str, *, team: str = TEAM, start: datetime = START) -> list[Commit]:
    """Two tasks and one that is added before them, with all that users ask for until it is cancelled."""
    one, two, added = (f"{orchestration}-t{number}" for number in (1, 2, 3))
    deadline = start + timedelta(hours=2)
    first = created(orchestration, [task(one, order=1), task(two, order=2)], team=team)
    renamed = first.spec.model_copy(update={"name": "Another programme", "tags": ("gamma",)})
    going_on = ev.Continuation(agent_id=f"bc-{one}-a1", api_version="v1", run_id="run-1")
    again = queued(one, 2).model_copy(update={"continues": going_on})
    steps: list[Step] = [
        (first, ev.ScheduleFired(run_id="run", due_at=start, skipped=1), ev.ScheduledRunCreated(run_id="run")),
        (ev.OrchestrationActivated(), queued(one, 1)),
        (
            started(one, 1, deadline),
            model_dropped(one, 1),
            agent_created(one, 1),
            status(one, 1, AgentStatus.RUNNING),
        ),
        (ev.TaskAdded(task=task(added)),),
        (ev.OrchestrationUpdated(spec=renamed, changed=("name", "tags")),),
        (ev.OrchestrationPaused(mode="stop"), stop_requested(one, 1, "PAUSE")),
        (stopped(one, 1, "PAUSE", going_on),),
        (ev.OrchestrationResumed(), again),
        (ev.AttemptWaiting(task_id=one, attempt_id=f"{one}-a2", reason="rate_limit", until=deadline),),
        (
            ev.AttemptWithdrawn(task_id=one, attempt_id=f"{one}-a2", reason="REQUEUE"),
            ev.TaskUpdated(task_id=one, spec=task(one, order=5), changed=("order_index",)),
            ev.TaskSkipped(task_id=one),
        ),
        (queued(two, 1), started(two, 1, deadline), agent_created(two, 1)),
        (failed(two, 1), ev.TaskFailed(task_id=two, failure=_FAILURE), *given_up(added, cause="FAIL_FAST"), ended()),
        (
            ev.OrchestrationReopened(),
            ev.TaskReset(task_id=two, reason="RETRY"),
            ev.TaskReset(task_id=added, reason="REVIVED"),
        ),
        (ev.OrchestrationCancelRequested(), *given_up(two, added), was_cancelled()),
        (agent_delete_requested(one, 1),),
        (agent_deleted(one, 1), ev.AgentArchived(task_id=two, attempt_id=f"{two}-a1", agent_id=f"bc-{two}-a1")),
    ]
    return commits(orchestration, steps, team=team, start=start)


def deleted(orchestration: str, *, team: str = TEAM, start: datetime = START) -> list[Commit]:
    """Two tasks, deleted while an agent is at work; the agent itself is deleted later."""
    one, two = (f"{orchestration}-t{number}" for number in (1, 2))
    steps: list[Step] = [
        (created(orchestration, [task(one), task(two, order=1)], team=team, name="To be forgotten"),),
        (ev.OrchestrationActivated(), queued(one, 1)),
        (started(one, 1, start + timedelta(hours=2)), agent_created(one, 1), status(one, 1, AgentStatus.RUNNING)),
        (ev.OrchestrationCancelRequested(delete=True), stop_requested(one, 1, "CANCEL"), *given_up(two)),
        (stopped(one, 1, "CANCEL"), *given_up(one), was_cancelled(), ev.OrchestrationDeleted()),
        (agent_delete_requested(one, 1), agent_deleted(one, 1)),
    ]
    return commits(orchestration, steps, team=team, start=start)


def every_event() -> list[Commit]:
    """A log with every type of event, of several orchestrations and two teams, taking turns."""
    return list(
        in_turn(
            partly_completed("orc-1"),
            failed_fast("orc-2", start=START + timedelta(seconds=7)),
            partly_completed("orc-3", team="team-2"),
            failed_fast("orc-4", team="team-2"),
            steered("orc-5"),
            deleted("orc-6", team="team-2"),
        )
    )


def created(
    orchestration: str, tasks: Sequence[ev.TaskSpec], *, team: str = TEAM, name: str = "A programme"
) -> ev.OrchestrationCreated:
    spec = ev.OrchestrationSpec(
        repository="https://github.com/owner/repo",
        name=name,
        tags=("alpha", "beta"),
        metadata={"ticket": 7},
        execution_mode="parallel",
        max_cost=5.0,
    )
    return ev.OrchestrationCreated(
        orchestration_id=orchestration,
        team=team,
        created_by="ann",
        spec=spec,
        tasks=tuple(tasks),
        warnings=("careful",),
    )


def task(task_id: str, *, depends_on: tuple[str, ...] = (), order: int = 0, description: str = "Do it") -> ev.TaskSpec:
    return ev.TaskSpec(
        task_id=task_id, title=task_id, description=description, depends_on=depends_on, order_index=order
    )


def queued(task_id: str, number: int) -> ev.TaskQueued:
    return ev.TaskQueued(
        task_id=task_id, attempt_id=f"{task_id}-a{number}", number=number, priority="medium", base_ref="main"
    )


def started(task_id: str, number: int, deadline: datetime) -> ev.AttemptStarted:
    return ev.AttemptStarted(
        task_id=task_id,
        attempt_id=f"{task_id}-a{number}",
        agent_id=f"bc-{task_id}-a{number}",
        api_version="v1",
        branch_name=f"cursor/{task_id}",
        deadline_at=deadline,
    )


def model_dropped(task_id: str, number: int) -> ev.AttemptModelDropped:
    return ev.AttemptModelDropped(
        task_id=task_id, attempt_id=f"{task_id}-a{number}", model="o9", warning="model 'o9' is left out"
    )


def agent_created(task_id: str, number: int, *, agent: str | None = None) -> ev.AgentCreated:
    return ev.AgentCreated(
        task_id=task_id,
        attempt_id=f"{task_id}-a{number}",
        agent_id=agent or f"bc-{task_id}-a{number}",
        status=AgentStatus.CREATING,
        provider_status="CREATING",
        run_id="run-1",
        url="https://cursor.com/agents/1",
    )


def status(task_id: str, number: int, to: AgentStatus) -> ev.AgentStatusChanged:
    return ev.AgentStatusChanged(
        task_id=task_id,
        attempt_id=f"{task_id}-a{number}",
        agent_id=f"bc-{task_id}-a{number}",
        status=to,
        provider_status=to.value,
        source="poll",
    )


def awaited(task_id: str, number: int, until: datetime) -> ev.AttemptResultAwaited:
    return ev.AttemptResultAwaited(
        task_id=task_id,
        attempt_id=f"{task_id}-a{number}",
        missing=("pull_request",),
        until=until,
        found=ev.Findings(branch=f"cursor/{task_id}", summary="Done"),
    )


def completed(task_id: str, number: int) -> ev.TaskCompleted:
    return ev.TaskCompleted(
        task_id=task_id,
        attempt_id=f"{task_id}-a{number}",
        result=ev.TaskResult(outcome="DELIVERED", branch=f"cursor/{task_id}", summary="Done"),
        duration_ms=60_000,
        cost=0.25,
        usage=ev.Usage(input_tokens=1, output_tokens=2, total_tokens=3),
    )


def failed(task_id: str, number: int, *, retryable: bool = False) -> ev.AttemptFailed:
    return ev.AttemptFailed(
        task_id=task_id,
        attempt_id=f"{task_id}-a{number}",
        failure=_FAILURE.model_copy(update={"retryable": retryable}),
        duration_ms=5_000,
        cost=0.1,
    )


def stop_requested(task_id: str, number: int, reason: ev.StopReason) -> ev.AttemptStopRequested:
    return ev.AttemptStopRequested(task_id=task_id, attempt_id=f"{task_id}-a{number}", reason=reason)


def stopped(
    task_id: str, number: int, reason: ev.StopReason, continues: ev.Continuation | None = None
) -> ev.AttemptStopped:
    return ev.AttemptStopped(
        task_id=task_id,
        attempt_id=f"{task_id}-a{number}",
        reason=reason,
        continues=continues,
        duration_ms=7_000,
        cost=0.05,
    )


def given_up(*task_ids: str, cause: ev.CancelCause = "CANCEL") -> Iterator[ev.TaskCancelled]:
    for task_id in task_ids:
        yield ev.TaskCancelled(task_id=task_id, reason="given up", cause=cause)


def ended() -> ev.OrchestrationFailed:
    return ev.OrchestrationFailed(failure=_FAILURE, summary="0/3 tasks completed", statistics=_STATISTICS)


def was_cancelled() -> ev.OrchestrationCancelled:
    return ev.OrchestrationCancelled(summary="Cancelled: 0/3 tasks completed", statistics=_STATISTICS)


def agent_delete_requested(task_id: str, number: int) -> ev.AgentDeleteRequested:
    return ev.AgentDeleteRequested(
        task_id=task_id, attempt_id=f"{task_id}-a{number}", agent_id=f"bc-{task_id}-a{number}"
    )


def agent_deleted(task_id: str, number: int) -> ev.AgentDeleted:
    return ev.AgentDeleted(task_id=task_id, attempt_id=f"{task_id}-a{number}", agent_id=f"bc-{task_id}-a{number}")


_FAILURE: Final = ev.Failure(code="TIMEOUT", message="The agent took too long")
_STATISTICS: Final = ev.Statistics(
    total_tasks=3,
    pending_tasks=0,
    processing_tasks=0,
    completed_tasks=2,
    failed_tasks=1,
    cancelled_tasks=0,
    skipped_tasks=0,
    duration_ms=1,
    total_cost=0.7,
)

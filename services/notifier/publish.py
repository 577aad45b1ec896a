"""Commits of the log become public events and, where somebody asked to be told, notifications to be delivered."""

import logging
from dataclasses import dataclass
from typing import Any, assert_never

import orjson

from services.notifier import contract
from services.notifier.history import state_as_of
from services.notifier.notification import Notification, delivery_id
from shared.domain import events as ev
from shared.envelope import Commit, RecordedEvent, decode
from shared.jetstream.consumer import Delivery, Poison
from shared.jetstream.publish import Publisher
from shared.jetstream.topology import DELIVERIES, PUBLIC, delivery_subject, public_subject
from shared.observability.logging import log_context
from shared.ports import EventLog

_log = logging.getLogger(__name__)


_NOTIFIED = (ev.OrchestrationCompleted, ev.OrchestrationFailed, ev.OrchestrationCancelled, ev.OrchestrationPaused)

_Agent = ev.AgentCreated | ev.AgentStatusChanged | ev.AgentDeleted
_Task = (
    ev.TaskAdded
    | ev.TaskUpdated
    | ev.TaskReset
    | ev.TaskSkipped
    | ev.TaskQueued
    | ev.TaskRetryScheduled
    | ev.TaskCompleted
    | ev.TaskFailed
    | ev.TaskCancelled
)
_Hidden = (
    ev.ScheduledRunCreated
    | ev.TaskRetryDue
    | ev.AttemptWaiting
    | ev.AttemptWithdrawn
    | ev.AttemptStarted
    | ev.AttemptModelDropped
    | ev.AgentMissed
    | ev.AttemptResultAwaited
    | ev.AttemptStopRequested
    | ev.AttemptStopped
    | ev.AttemptFailed
    | ev.AgentDeleteRequested
    | ev.AgentArchived
)
"""What only the inner working is about."""


@dataclass(frozen=True, slots=True)
class Announcer:
    log: EventLog
    publisher: Publisher

    async def on_commit(self, delivery: Delivery) -> None:
        """Publish what a commit of EVENTS holds; done only once all of it is stored, and harmless when done again.

        A commit of a newer release raises UnknownEventError and comes again, for the newer release to take.
        """
        try:
            commit = decode(delivery.data)
        except ValueError as exc:
            # The error's text may show what is in the commit, and the reason is logged.
            raise Poison(f"not a commit: {type(exc).__name__}") from exc
        with log_context(orchestration=commit.aggregate):
            for index, recorded in enumerate(commit.events):
                await self._publish(commit, index, recorded)
                await self._notify(commit, delivery.sequence, recorded)

    async def _publish(self, commit: Commit, index: int, recorded: RecordedEvent) -> None:
        data = public_data(commit.aggregate, recorded.event)
        if data is None:
            return
        await self.publisher.publish(
            public_subject(commit.team, data.name),
            orjson.dumps(cloud_event(commit, index, data)),
            stream=PUBLIC,
            msg_id=recorded.id,
            headers={"Content-Type": contract.MEDIA_TYPE},
        )

    async def _notify(self, commit: Commit, sequence: int, recorded: RecordedEvent) -> None:
        """The webhook of an orchestration that has ended or was paused."""
        if not isinstance(recorded.event, _NOTIFIED):
            return
        state = await state_as_of(self.log, commit.team, commit.aggregate, recorded.id)
        url = state.spec.webhook_url
        if url is None:
            return
        notification = Notification(
            delivery_id=delivery_id(recorded.id, url),
            team=commit.team,
            orchestration_id=commit.aggregate,
            event_type=recorded.event.type,
            event_id=recorded.id,
            sequence=sequence,
            occurred_at=recorded.occurred_at,
            url=url,
        )
        await self.publisher.publish(
            delivery_subject("webhook"),
            notification.encode(),
            stream=DELIVERIES,
            msg_id=notification.delivery_id,
        )
        _log.info("To be told by webhook: %s", notification.event_type, extra={"delivery": notification.delivery_id})


def cloud_event(commit: Commit, index: int, data: contract.PublicData) -> dict[str, Any]:
    """The event numbered `index` of the commit as a CloudEvent in structured mode.

    Repeating it gives the same `source` and `id`, by which receivers tell duplicates. `sequence` grows over the events
    of one source; it has gaps, and as text it sorts as the numbers do.
    """
    recorded = commit.events[index]
    return {
        "specversion": "1.0",
        "id": recorded.id,
        "source": f"/orchestrations/{commit.aggregate}",
        "type": f"orchestrator.{data.name}.v{data.version}",
        "subject": data.subject_id,
        "time": recorded.occurred_at,
        "datacontenttype": "application/json",
        "team": commit.team,
        "correlationid": commit.correlation_id,
        "sequence": f"{commit.version + index:010d}",
        "data": data.model_dump(mode="json"),
    }


def public_data(orchestration_id: str, event: ev.OrchestrationEvent) -> contract.PublicData | None:
    """What the world is told of an event; None for what only the inner working is about."""
    if isinstance(event, _Hidden):
        return None
    if isinstance(event, _Agent):
        return _of_agent(orchestration_id, event)
    if isinstance(event, _Task):
        return _of_task(orchestration_id, event)
    match event:
        case ev.OrchestrationCreated():
            return _created(event)
        case ev.ScheduleFired():
            return contract.ScheduleFired(
                orchestration_id=orchestration_id, run_id=event.run_id, due_at=event.due_at, skipped=event.skipped
            )
        case ev.OrchestrationActivated():
            return contract.OrchestrationActivated(orchestration_id=orchestration_id)
        case ev.OrchestrationUpdated(changed=changed):
            return contract.OrchestrationUpdated(orchestration_id=orchestration_id, changed=changed)
        case ev.OrchestrationPaused(mode=mode):
            return contract.OrchestrationPaused(orchestration_id=orchestration_id, mode=mode)
        case ev.OrchestrationResumed():
            return contract.OrchestrationResumed(orchestration_id=orchestration_id)
        case ev.OrchestrationCancelRequested():
            return contract.OrchestrationCancelRequested(orchestration_id=orchestration_id)
        case ev.OrchestrationCancelled():
            return contract.OrchestrationCancelled(
                orchestration_id=orchestration_id, summary=event.summary, statistics=event.statistics
            )
        case ev.OrchestrationReopened():
            return contract.OrchestrationReopened(orchestration_id=orchestration_id)
        case ev.OrchestrationDeleted():
            return contract.OrchestrationDeleted(orchestration_id=orchestration_id)
        case ev.OrchestrationCompleted():
            return contract.OrchestrationCompleted(
                orchestration_id=orchestration_id,
                status=event.status,
                summary=event.summary,
                statistics=event.statistics,
            )
        case ev.OrchestrationFailed():
            return contract.OrchestrationFailed(
                orchestration_id=orchestration_id,
                error_code=event.failure.code,
                error_message=event.failure.message,
                summary=event.summary,
                statistics=event.statistics,
            )
        case _:
            assert_never(event)


def _of_agent(orchestration_id: str, event: _Agent) -> contract.PublicData:
    of = {
        "orchestration_id": orchestration_id,
        "task_id": event.task_id,
        "attempt_id": event.attempt_id,
        "agent_id": event.agent_id,
    }
    match event:
        case ev.AgentCreated():
            return contract.AgentCreated(**of, status=event.status, url=event.url)
        case ev.AgentStatusChanged():
            return contract.AgentStatusChanged(**of, status=event.status)
        case ev.AgentDeleted():
            return contract.AgentDeleted(**of)
        case _:
            assert_never(event)


def _created(event: ev.OrchestrationCreated) -> contract.OrchestrationCreated:
    spec = event.spec
    return contract.OrchestrationCreated(
        orchestration_id=event.orchestration_id,
        title=spec.name,
        repository=spec.repository,
        ref=spec.ref,
        model=spec.model,
        tags=spec.tags,
        execution_mode=spec.execution_mode,
        tasks=tuple(
            contract.PublicTask(
                task_id=task.task_id,
                title=task.title,
                priority=task.priority,
                complexity=task.complexity,
                order_index=task.order_index,
                depends_on=task.depends_on,
            )
            for task in event.tasks
        ),
    )


def _of_task(orchestration_id: str, event: _Task) -> contract.PublicData:
    match event:
        case ev.TaskAdded(task=task):
            return contract.TaskAdded(
                orchestration_id=orchestration_id,
                task_id=task.task_id,
                title=task.title,
                priority=task.priority,
                complexity=task.complexity,
                order_index=task.order_index,
                depends_on=task.depends_on,
            )
        case ev.TaskUpdated(task_id=task_id, changed=changed):
            return contract.TaskUpdated(orchestration_id=orchestration_id, task_id=task_id, changed=changed)
        case ev.TaskReset(task_id=task_id, reason=reason):
            return contract.TaskReset(orchestration_id=orchestration_id, task_id=task_id, reason=reason)
        case ev.TaskSkipped(task_id=task_id):
            return contract.TaskSkipped(orchestration_id=orchestration_id, task_id=task_id)
        case ev.TaskQueued():
            return contract.TaskQueued(
                orchestration_id=orchestration_id,
                task_id=event.task_id,
                attempt_id=event.attempt_id,
                attempt=event.number,
            )
        case ev.TaskRetryScheduled():
            return contract.TaskRetryScheduled(
                orchestration_id=orchestration_id,
                task_id=event.task_id,
                retry_count=event.retry_count,
                due_at=event.due_at,
            )
        case ev.TaskCompleted():
            return contract.TaskCompleted(
                orchestration_id=orchestration_id,
                task_id=event.task_id,
                attempt_id=event.attempt_id,
                outcome=event.result.outcome,
                branch=event.result.branch,
                pr_url=event.result.pr_url,
                summary=event.result.summary,
                duration_ms=event.duration_ms,
                cost=event.cost,
            )
        case ev.TaskFailed():
            return contract.TaskFailed(
                orchestration_id=orchestration_id,
                task_id=event.task_id,
                error_code=event.failure.code,
                error_message=event.failure.message,
            )
        case ev.TaskCancelled():
            return contract.TaskCancelled(orchestration_id=orchestration_id, task_id=event.task_id, reason=event.reason)
        case _:
            assert_never(event)

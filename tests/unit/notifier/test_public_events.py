"""What subscribers are told: a contract of its own, and nothing that is nobody's business."""

from typing import Any, get_args

import orjson
import pytest

from services.notifier.contract import MEDIA_TYPE, PUBLIC_EVENTS
from services.notifier.notification import Notification, delivery_id
from services.notifier.publish import Announcer
from shared.domain import events as ev
from shared.jetstream.consumer import Poison
from shared.jetstream.topology import DELIVERIES, PUBLIC
from shared.memory import MemoryEventLog, MemoryPublisher, Published
from tests.unit.notifier.stories import METADATA, PROMPT, TEAM, Story, as_delivery

URL = "https://hooks.example.com/SECRET-TOKEN"
HIDDEN = {
    "schedule.run_created",
    "task.retry_due",
    "attempt.waiting",
    "attempt.withdrawn",
    "attempt.started",
    "attempt.model_dropped",
    "agent.missed",
    "attempt.result_awaited",
    "attempt.stop_requested",
    "attempt.stopped",
    "attempt.failed",
    "agent.delete_requested",
    "agent.archived",
}


async def announced(story: Story) -> MemoryPublisher:
    publisher = MemoryPublisher()
    announcer = Announcer(story.log, publisher)
    for delivery in await story.deliveries():
        await announcer.on_commit(delivery)
    return publisher


def on(publisher: MemoryPublisher, stream: str) -> list[Published]:
    return [message for message in publisher.messages if message.stream == stream]


def public_events(publisher: MemoryPublisher) -> list[dict[str, Any]]:
    return [orjson.loads(message.data) for message in on(publisher, PUBLIC)]


async def test_the_life_of_an_orchestration_is_told_in_order() -> None:
    publisher = await announced(await Story(MemoryEventLog(), webhook_url=None).complete())
    told = public_events(publisher)
    assert [event["type"] for event in told] == [
        "orchestrator.orchestration.created.v1",
        "orchestrator.orchestration.activated.v1",
        "orchestrator.task.queued.v1",
        "orchestrator.agent.created.v1",
        "orchestrator.agent.status_changed.v1",
        "orchestrator.task.completed.v1",
        "orchestrator.orchestration.completed.v1",
    ]
    sequences = [event["sequence"] for event in told]
    assert sequences == sorted(sequences)
    assert len(set(sequences)) == len(sequences)


async def test_a_public_event_is_a_cloud_event() -> None:
    story = await Story(MemoryEventLog(), webhook_url=None).complete()
    publisher = await announced(story)
    [message] = publisher.on(f"orchestrations.{TEAM}.task.completed")
    recorded = next(r for s in await story.commits() for r in s.commit.events if r.event.type == "task.completed")
    assert isinstance(recorded.event, ev.TaskCompleted)
    assert message.msg_id == recorded.id
    assert message.headers == {"Content-Type": MEDIA_TYPE}
    assert orjson.loads(message.data) == {
        "specversion": "1.0",
        "id": recorded.id,
        "source": "/orchestrations/orch-1",
        "type": "orchestrator.task.completed.v1",
        "subject": "orch-1-task",
        "time": "2026-03-01T12:04:00+00:00",
        "datacontenttype": "application/json",
        "team": TEAM,
        "correlationid": "orch-1-correlation",
        "sequence": "0000000007",
        "data": {
            "orchestration_id": "orch-1",
            "task_id": "orch-1-task",
            "attempt_id": recorded.event.attempt_id,
            "status": "COMPLETED",
            "outcome": "DELIVERED",
            "branch": "cursor/work",
            "pr_url": "https://github.com/acme/shop/pull/7",
            "summary": "Bumped it – done ✓",
            "duration_ms": recorded.event.duration_ms,
            "cost": 0.25,
        },
    }


@pytest.mark.parametrize("end", ["complete", "fail", "change"])
async def test_no_prompt_no_metadata_and_no_address_of_a_receiver_leaves(end: str) -> None:
    publisher = await announced(await getattr(Story(MemoryEventLog(), webhook_url=URL), end)())
    sent = b"".join(message.data for message in on(publisher, PUBLIC)).decode()
    assert "Bump the version" in sent
    for secret in (PROMPT, "SECRET", METADATA, URL):
        assert secret not in sent


async def test_a_failed_orchestration_says_why() -> None:
    publisher = await announced(await Story(MemoryEventLog(), webhook_url=None).fail())
    [failed] = [e for e in public_events(publisher) if e["type"] == "orchestrator.orchestration.failed.v1"]
    assert failed["data"]["status"] == "FAILED"
    assert failed["data"]["error_code"] == "CURSOR_API_ERROR"
    assert failed["subject"] == "orch-1"


def test_every_event_is_either_public_or_hidden_on_purpose() -> None:
    assert {cls.type for cls in get_args(ev.OrchestrationEvent)} == {cls.name for cls in PUBLIC_EVENTS} | HIDDEN


@pytest.mark.parametrize(
    ("end", "event_type"),
    [
        ("complete", "orchestration.completed"),
        ("fail", "orchestration.failed"),
        ("cancel", "orchestration.cancelled"),
        ("pause", "orchestration.paused"),
    ],
)
async def test_the_end_is_to_be_told_once_to_whoever_asked(end: str, event_type: str) -> None:
    story = await getattr(Story(MemoryEventLog(), webhook_url=URL), end)()
    publisher = await announced(story)
    [message] = on(publisher, DELIVERIES)
    notification = Notification.decode(message.data)
    last = (await story.commits())[-1]
    event = next(recorded for recorded in last.commit.events if recorded.event.type == event_type)
    assert message.subject == "deliver.webhook"
    assert message.msg_id == notification.delivery_id == delivery_id(event.id, URL)
    assert notification == Notification(
        delivery_id=notification.delivery_id,
        team=TEAM,
        orchestration_id="orch-1",
        event_type=event_type,
        event_id=event.id,
        sequence=last.sequence,
        occurred_at=event.occurred_at,
        url=URL,
    )


async def test_every_command_is_told_under_its_name() -> None:
    told = public_events(await announced(await Story(MemoryEventLog(), webhook_url=None).change()))
    assert [event["data"] for event in told if event["type"] == "orchestrator.orchestration.updated.v1"] == [
        {"orchestration_id": "orch-1", "changed": ["name", "webhook_url"]}
    ]
    [added] = [event for event in told if event["type"] == "orchestrator.task.added.v1"]
    assert (added["subject"], added["data"]["title"]) == ("orch-1-more", "One more")
    assert {event["type"].split(".", 1)[1] for event in told} >= {
        "orchestration.paused.v1",
        "orchestration.resumed.v1",
        "orchestration.cancelled.v1",
        "orchestration.reopened.v1",
        "orchestration.deleted.v1",
        "task.updated.v1",
        "task.skipped.v1",
        "task.reset.v1",
    }


async def test_nobody_is_told_who_did_not_ask() -> None:
    publisher = await announced(await Story(MemoryEventLog(), webhook_url=None).complete())
    assert on(publisher, DELIVERIES) == []


async def test_a_commit_that_comes_twice_is_announced_under_the_same_ids() -> None:
    story = await Story(MemoryEventLog(), webhook_url=URL).complete()
    first, second = await announced(story), await announced(story)
    assert first.messages == second.messages


async def test_what_is_no_commit_is_poison() -> None:
    with pytest.raises(Poison):
        await Announcer(MemoryEventLog(), MemoryPublisher()).on_commit(as_delivery(b"nonsense"))

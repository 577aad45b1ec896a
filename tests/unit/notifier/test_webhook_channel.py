"""What a receiver gets."""

import orjson
import pytest
from pydantic import SecretStr

from services.notifier.channels.webhook import WebhookChannel, host_of
from services.notifier.guard import Guard
from services.notifier.notification import Notification
from services.notifier.outbound import Outbound
from shared.memory import MemoryEventLog
from tests.unit.notifier.stories import BEGIN, METADATA, PROMPT, Story

SECRET = "0123456789abcdef0123456789abcdef"
NOTIFICATION = Notification(
    delivery_id="d-1",
    team="team-a",
    orchestration_id="orch-1",
    event_type="orchestration.completed",
    event_id="e-1",
    sequence=4,
    occurred_at=BEGIN,
    url="https://hooks.example.com/x",
)


@pytest.fixture
def channel() -> WebhookChannel:
    return WebhookChannel(Outbound(Guard()), SecretStr(SECRET))


async def test_the_body_has_the_published_form(channel: WebhookChannel) -> None:
    state = await (await Story(MemoryEventLog(), webhook_url=NOTIFICATION.url).complete()).state()
    assert orjson.loads(channel.prepare(NOTIFICATION, state, BEGIN).body) == {
        "event": "orchestration.completed",
        "orchestrationId": "orch-1",
        "status": "COMPLETED",
        "repository": "https://github.com/acme/shop",
        "ref": "main",
        "statistics": {
            "total_tasks": 1,
            "completed_tasks": 1,
            "failed_tasks": 0,
            "cancelled_tasks": 0,
            "duration_ms": 120_000,
            "total_cost": 0.25,
        },
        "completedAt": "2026-03-01T12:04:00Z",
        "tasks": [
            {
                "id": "orch-1-task",
                "title": "Bump the version",
                "status": "COMPLETED",
                "cloudAgentId": "bc-1",
                "cloudAgentUrl": "https://cursor.com/agents/bc-1",
                "resultBranch": "cursor/work",
                "resultPrUrl": "https://github.com/acme/shop/pull/7",
                "resultSummary": "Bumped it – done ✓",
                "duration": 60_000,
                "retryCount": 0,
            }
        ],
    }


async def test_a_failure_is_told_without_prompt_metadata_or_keys(channel: WebhookChannel) -> None:
    state = await (await Story(MemoryEventLog(), webhook_url=NOTIFICATION.url).fail()).state()
    prepared = channel.prepare(NOTIFICATION.model_copy(update={"event_type": "orchestration.failed"}), state, BEGIN)
    sent = prepared.body.decode() + str(prepared.headers)
    assert orjson.loads(prepared.body)["status"] == "FAILED"
    for secret in (PROMPT, METADATA, SECRET):
        assert secret not in sent


async def test_only_the_time_and_its_signature_differ_between_tries(channel: WebhookChannel) -> None:
    state = await (await Story(MemoryEventLog(), webhook_url=NOTIFICATION.url).complete()).state()
    first = channel.prepare(NOTIFICATION, state, BEGIN)
    second = channel.prepare(NOTIFICATION, state, BEGIN.replace(second=7))
    differing = {name for name in first.headers if first.headers[name] != second.headers[name]}
    assert differing == {"webhook-timestamp", "webhook-signature"}
    assert first.headers["webhook-id"] == "d-1"
    assert first.body == second.body


def test_a_host_is_one_however_it_is_written() -> None:
    assert {host_of(f"https://{host}/x") for host in ("example.com", "EXAMPLE.com", "example.com.")} == {"example.com"}
    assert host_of("https://\n/") == ""

"""The older version's webhooks: what is sent, when, and how often."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from deploy.local.simulator.agents import Webhook
from deploy.local.simulator.stats import Stats
from deploy.local.simulator.webhooks import WebhookSender
from tests.simulator.hand_clock import Args, HandClock
from tests.simulator.receiving import Receiver, counted, receiving
from tests.simulator.serving import FOREVER, REPOSITORY, SECRET, agent_when, create_v0, simulator, stats
from tests.support.eventually import eventually


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


async def test_a_finished_agent_is_told_with_the_real_headers_and_a_valid_signature(
    receiver: Receiver,
) -> None:
    async with simulator() as client:
        created = await create_v0(
            client,
            webhook=receiver.target(),
            target={"autoCreatePr": True, "branchName": "orchestrator/task-1"},
        )
        headers, raw = (await receiver.until(1))[0]
        agent = await agent_when(client, created["id"], "FINISHED")

    signature = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
    assert headers["x-webhook-signature"] == f"sha256={signature}"
    assert headers["x-webhook-event"] == "statusChange"
    assert headers["x-webhook-id"]
    assert headers["user-agent"] == "Cursor-Agent-Webhook/1.0"
    assert headers["content-type"] == "application/json"
    body = json.loads(raw)
    assert body.pop("timestamp").endswith("Z")
    assert body == {
        "event": "statusChange",
        "id": created["id"],
        "status": "FINISHED",
        "source": {"repository": REPOSITORY, "ref": "main"},
        "target": {
            "url": agent["target"]["url"],
            "branchName": "orchestrator/task-1",
            "prUrl": agent["target"]["prUrl"],
        },
        "summary": agent["summary"],
    }


async def test_an_error_is_told_and_other_ends_are_not(receiver: Receiver) -> None:
    async with simulator() as client:
        stopped = await create_v0(client, FOREVER, webhook=receiver.target())
        await client.post(f"/v0/agents/{stopped['id']}/stop")
        expired = await create_v0(client, "[[sim:expire]]", webhook=receiver.target())
        await agent_when(client, expired["id"], "EXPIRED")
        failed = await create_v0(client, "[[sim:fail]]", webhook=receiver.target())
        body = json.loads((await receiver.until(1))[0][1])
        assert (body["id"], body["status"]) == (failed["id"], "ERROR")
        assert "summary" not in body
        assert (await stats(client))["webhooks"]["sent"] == 1


async def test_a_delivery_is_repeated_unchanged_until_it_is_taken(receiver: Receiver) -> None:
    receiver.answers = [500, 302, 429]
    async with simulator() as client:
        await create_v0(client, webhook=receiver.target())
        received = await receiver.until(4)
        assert len({headers["x-webhook-id"] for headers, _ in received}) == 1
        assert len({raw for _, raw in received}) == 1
        await counted(client, sent=1, attempts=4, delivered=1, failed=0)


async def test_a_delivery_is_given_up_after_six_tries(receiver: Receiver) -> None:
    receiver.answers = [503] * 10
    async with simulator(webhook_backoff_seconds=0.001) as client:
        await create_v0(client, webhook=receiver.target())
        await counted(client, sent=1, attempts=6, delivered=0, failed=1)
        assert len(receiver.received) == 6


async def test_the_wait_before_each_further_try_is_twice_the_one_before() -> None:
    clock = _ImpatientClock()
    sender = WebhookSender(clock, Stats(), 0.5)
    nobody = Webhook("http://127.0.0.1:1/hook", SECRET)
    sender.send(nobody, b"{}", form="real", badly_signed=False, tried=lambda: None)
    await eventually(lambda: len(clock.waits) == 5)
    await sender.aclose()
    assert clock.waits == [0.5, 1, 2, 4, 8]


async def test_a_receiver_that_cannot_be_reached_counts_as_a_failed_try() -> None:
    async with simulator(webhook_backoff_seconds=0.001) as client:
        await create_v0(client, webhook={"url": "http://127.0.0.1:1/hook", "secret": SECRET})
        await counted(client, sent=1, attempts=6, delivered=0, failed=1)


async def test_without_a_secret_there_is_no_signature(receiver: Receiver) -> None:
    async with simulator() as client:
        await create_v0(client, webhook={"url": receiver.url})
        assert "x-webhook-signature" not in (await receiver.until(1))[0][0]


async def test_each_end_of_a_followed_up_agent_is_told_under_an_id_of_its_own(receiver: Receiver) -> None:
    async with simulator() as client:
        agent_id = (await create_v0(client, webhook=receiver.target()))["id"]
        await receiver.until(1)
        await client.post(f"/v0/agents/{agent_id}/followup", json={"prompt": {"text": "More"}})
        received = await receiver.until(2)
        assert len({headers["x-webhook-id"] for headers, _ in received}) == 2


async def test_many_ends_at_once_are_all_told(receiver: Receiver) -> None:
    async with _agents_that_end_together(receiver, 100) as client:
        await receiver.until(100)
        await counted(client, sent=100, attempts=100, delivered=100, failed=0)
        assert len({json.loads(raw)["id"] for _, raw in receiver.received}) == 100


class _ImpatientClock(HandClock):
    """Notes for how long it was to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def call_later(self, seconds: float, callback: Callable[[*Args], object], *args: *Args) -> Any:
        self.waits.append(seconds)
        asyncio.get_running_loop().call_soon(callback, *args)
        return super().call_later(seconds, lambda: None)


@asynccontextmanager
async def _agents_that_end_together(receiver: Receiver, number: int) -> AsyncIterator[httpx.AsyncClient]:
    async with simulator(duration_seconds=0.2) as client:
        for index in range(number):
            await create_v0(client, f"Task {index}", webhook=receiver.target())
        yield client

"""Webhooks that go astray, by switch and by marker."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulator.hand_clock import HandClock
from tests.simulator.receiving import Receiver, counted, receiving
from tests.simulator.serving import BY, SECRET, create_v0, in_process, json_of, on, stats, struck
from tests.support.eventually import eventually

# A run takes ten seconds of a clock that is moved by hand.
TEN: dict[str, Any] = {"duration_seconds": 10, "create_seconds": 0}


@pytest.fixture(scope="module")
def shared_receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(shared_receiver: Receiver) -> Receiver:
    shared_receiver.received.clear()
    return shared_receiver


@BY
async def test_a_webhook_can_be_lost(receiver: Receiver, by_marker: bool) -> None:
    marker, switches = on(by_marker, "webhook_lost", count=1)
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        await create_v0(client, f"Lost {marker}", webhook=receiver.target())
        await clock.move(10)
        told = await create_v0(client, "Told", webhook=receiver.target())
        await clock.move(10)
        assert _ids(await receiver.until(1)) == [told["id"]]
        await counted(client, sent=2, attempts=1, delivered=1, failed=0)
        assert await struck(client) == {"webhook_lost": 1}


@BY
async def test_a_webhook_can_come_twice_under_two_ids(receiver: Receiver, by_marker: bool) -> None:
    marker, switches = on(by_marker, "webhook_duplicated")
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        await create_v0(client, f"Twice {marker}", webhook=receiver.target())
        await clock.move(10)
        (first_headers, first), (second_headers, second) = await receiver.until(2)
        assert first == second
        assert first_headers["x-webhook-signature"] == second_headers["x-webhook-signature"]
        assert first_headers["x-webhook-id"] != second_headers["x-webhook-id"]
        assert await struck(client) == {"webhook_duplicated": 1}


@BY
async def test_a_webhook_can_be_late_and_tells_what_was_true_at_the_end(receiver: Receiver, by_marker: bool) -> None:
    marker, switches = on(by_marker, "webhook_late", 60)
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        agent_id = (await create_v0(client, f"Late {marker}", webhook=receiver.target()))["id"]
        await clock.move(69.9)
        assert json_of(await client.get(f"/v0/agents/{agent_id}"))["status"] == "FINISHED"
        assert (await stats(client))["webhooks"]["attempts"] == 0
        await clock.move(0.1)
        body = json.loads((await receiver.until(1))[0][1])
        assert (body["status"], body["timestamp"]) == ("FINISHED", "2026-11-01T12:00:10.000Z")
        assert await struck(client) == {"webhook_late": 1}


@BY
async def test_a_webhook_can_be_overtaken_by_the_next_one(receiver: Receiver, by_marker: bool) -> None:
    marker, switches = on(by_marker, "webhook_reordered", count=1)
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        first = await create_v0(client, f"First {marker}", webhook=receiver.target())
        await clock.move(5)
        second = await create_v0(client, "Second", webhook=receiver.target())
        await clock.move(10)
        assert _ids(await receiver.until(2)) == [second["id"], first["id"]]
        assert await struck(client) == {"webhook_reordered": 1}


async def test_a_webhook_that_nothing_overtakes_comes_after_a_while(receiver: Receiver) -> None:
    clock = HandClock()
    async with in_process(clock, **TEN) as client:
        only = await create_v0(client, "Only [[sim:webhook_reordered]]", webhook=receiver.target())
        await clock.move(19.9)
        assert (await stats(client))["webhooks"]["attempts"] == 0
        await clock.move(0.1)
        assert _ids(await receiver.until(1)) == [only["id"]]


async def test_a_reset_drops_the_webhooks_that_are_held_back(receiver: Receiver) -> None:
    clock = HandClock()
    async with in_process(clock, **TEN) as client:
        for name in ("webhook_late", "webhook_reordered"):
            await create_v0(client, f"Never [[sim:{name}]]", webhook=receiver.target())
        await clock.move(11)
        await client.post("/_sim/reset")
        told = await create_v0(client, "Told", webhook=receiver.target())
        await clock.move(100)
        assert _ids(await receiver.until(1)) == [told["id"]]


async def test_a_reset_drops_the_webhooks_that_are_to_be_tried_again(receiver: Receiver) -> None:
    receiver.answers = [500]
    clock = HandClock()
    async with in_process(clock, **TEN) as client:
        refused = await create_v0(client, "Refused", webhook=receiver.target())
        await clock.move(10)
        await receiver.until(1)
        await client.post("/_sim/reset")
        told = await create_v0(client, "Told", webhook=receiver.target())
        await clock.move(100)
        assert _ids(await receiver.until(2)) == [refused["id"], told["id"]]


@BY
async def test_a_webhook_can_come_before_the_reply_to_the_create(receiver: Receiver, by_marker: bool) -> None:
    marker, switches = on(by_marker, "webhook_early")
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        create = asyncio.create_task(create_v0(client, f"Early {marker}", webhook=receiver.target()))
        create.add_done_callback(lambda _: receiver.received.append(({}, b"the reply")))
        await eventually(lambda: _moved(clock, create))
        (_, told), (_, reply) = await receiver.until(2)
        assert json.loads(told)["id"] == (await create)["id"]
        assert reply == b"the reply"
        assert await struck(client) == {"webhook_early": 1}


@pytest.mark.parametrize("gone_by", ["reset", "delete"])
async def test_a_create_that_waits_for_its_webhook_is_answered_when_its_agent_is_gone(
    receiver: Receiver, gone_by: str
) -> None:
    clock = HandClock()
    async with in_process(clock) as client:
        text = "[[sim:webhook_early]] [[sim:webhook_late=600]]"
        create = asyncio.create_task(create_v0(client, text, webhook=receiver.target()))
        await clock.move(1)
        [agent] = json_of(await client.get("/v0/agents"))["agents"]
        assert (agent["status"], create.done()) == ("FINISHED", False)
        if gone_by == "reset":
            await client.post("/_sim/reset")
        else:
            await client.delete(f"/v0/agents/{agent['id']}")
        assert (await asyncio.wait_for(create, 30))["id"] == agent["id"]


@pytest.mark.parametrize("why", ["webhook_lost", "expire", "unknown_end"])
async def test_a_reply_does_not_wait_for_a_webhook_that_never_comes(receiver: Receiver, why: str) -> None:
    clock = HandClock()
    async with in_process(clock, **TEN) as client:
        text = f"[[sim:webhook_early]] [[sim:{why}]]"
        create = asyncio.create_task(create_v0(client, text, webhook=receiver.target()))
        await eventually(lambda: _moved(clock, create))
        assert not receiver.received


@BY
async def test_a_webhook_can_be_badly_signed(receiver: Receiver, by_marker: bool) -> None:
    marker, switches = on(by_marker, "webhook_badly_signed")
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        await create_v0(client, f"Forged {marker}", webhook=receiver.target())
        await clock.move(10)
        headers, raw = (await receiver.until(1))[0]
        assert headers["x-webhook-signature"].startswith("sha256=")
        assert headers["x-webhook-signature"] != _signature(raw)
        assert await struck(client) == {"webhook_badly_signed": 1}


@BY
async def test_webhooks_can_have_the_older_form_and_tell_of_every_change(receiver: Receiver, by_marker: bool) -> None:
    marker, switches = on(by_marker, "webhook_old_form")
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        ids = []
        for number, (extra, event, status) in enumerate(
            [("", "agent.finished", "FINISHED"), ("[[sim:fail]]", "agent.failed", "ERROR")]
        ):
            receiver.received.clear()
            created = await create_v0(client, f"Old {number} {marker} {extra}", webhook=receiver.target())
            ids.append(created["id"])
            for seconds, told in ((0, 1), (1, 2), (9, 3)):
                await clock.move(seconds)
                await receiver.until(told)
            assert [json.loads(raw) for _, raw in receiver.received] == [
                {"event": "agent.created", "agentId": created["id"], "status": "CREATING"},
                {"event": "agent.status_changed", "agentId": created["id"], "status": "RUNNING"},
                {"event": event, "agentId": created["id"], "status": status},
            ]
            for headers, raw in receiver.received:
                assert headers["x-cursor-signature"] == _signature(raw)
                assert not [name for name in headers if name.startswith("x-webhook")]
        assert (await struck(client))["webhook_old_form"] == 2


async def _moved(clock: HandClock, create: "asyncio.Task[Any]") -> bool:
    await clock.move(0)
    return create.done()


def _ids(received: list[tuple[dict[str, str], bytes]]) -> list[str]:
    return [json.loads(raw)["id"] for _, raw in received]


def _signature(raw: bytes) -> str:
    return "sha256=" + hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()

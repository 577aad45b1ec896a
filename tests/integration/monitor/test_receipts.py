"""Receipts as the api stores them reach the task, on a real broker with the simulated provider."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from deploy.local.nats import NatsServer
from shared.domain.events import AgentStatusChanged, OrchestrationStatus, TaskStatus
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.topology import DEAD, RECEIPTS, receipt_subject
from shared.messages import Receipt
from tests.integration.dispatcher.system import NO_POLLS, TEAM, System, system, task
from tests.support.eventually import eventually


async def started(s: System, orchestration: str) -> dict[str, Any]:
    """The agent of the only task, once the log knows it, as the provider shows it."""

    async def known() -> str:
        attempt = (await s.state(orchestration)).tasks["a"].attempts[-1]
        assert attempt.run_id is not None or attempt.url is not None
        return attempt.agent_id or ""

    answer: httpx.Response = await s.provider.get(f"/v0/agents/{await eventually(known)}")
    agent: dict[str, Any] = answer.json()
    return agent


async def receive(s: System, orchestration: str, agent: dict[str, Any], **change: Any) -> None:
    attempt = (await s.state(orchestration)).tasks["a"].attempts[-1]
    receipt = Receipt(
        team=TEAM,
        orchestration_id=orchestration,
        attempt_id=attempt.attempt_id,
        received_at=datetime.now(UTC).isoformat(),
        headers={"x-webhook-event": "statusChange"},
        body=orjson.dumps({"event": "statusChange", **agent, **change}).decode(),
    )
    await JetStreamPublisher(s.nc).publish(receipt_subject("cursor"), receipt.encode(), stream=RECEIPTS)


@pytest.fixture
async def without_polls(nats: NatsServer) -> AsyncIterator[System]:
    """v0, where only a receipt can tell of an end in time."""
    async with system(nats, "v0", monitor=NO_POLLS, duration_seconds=0.5) as s:
        yield s


async def test_a_receipt_ends_the_task_without_a_poll_however_often_it_comes(without_polls: System) -> None:
    s = without_polls
    orchestration = await s.submit(task("a"))
    agent = await started(s, orchestration)
    for _ in range(10):
        await receive(s, orchestration, agent, status="FINISHED")
    state = await s.ended(orchestration)
    assert state.status is OrchestrationStatus.COMPLETED
    ends = [e for e in await s.events(orchestration) if isinstance(e, AgentStatusChanged) and e.status.is_terminal]
    assert [end.source for end in ends] == ["webhook"]


async def test_a_receipt_that_lies_ends_nothing(nats: NatsServer) -> None:
    async with system(nats, "v0", monitor=NO_POLLS) as s:
        orchestration = await s.submit(task("a", marker="[[sim:slow=600]]"))
        agent = await started(s, orchestration)
        await receive(s, orchestration, agent, status="FINISHED")

        async def looked_at() -> bool:
            return bool((await s.stats())["calls"].get("GET /v0/agents/{id}", 0) >= 3)

        await eventually(looked_at)
        assert (await s.state(orchestration)).tasks["a"].status is TaskStatus.PROCESSING
        assert await s.messages(DEAD) == 0


async def test_a_receipt_that_is_none_is_parked_and_the_next_is_handled(without_polls: System) -> None:
    s = without_polls
    orchestration = await s.submit(task("a"))
    agent = await started(s, orchestration)
    publisher = JetStreamPublisher(s.nc)
    await publisher.publish(receipt_subject("cursor"), b"what is this", stream=RECEIPTS)
    await receive(s, orchestration, agent, status=7)
    await receive(s, orchestration, agent, status="FINISHED")
    assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED

    async def parked() -> bool:
        return await s.messages(DEAD) >= 2

    await eventually(parked)

"""Webhooks of the simulated provider, from the api that takes them to the end of the task."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy.local.nats import NatsServer
from shared.domain.events import AgentCreated, OrchestrationStatus
from shared.jetstream.topology import DEAD, RECEIPTS
from shared.messages import Receipt
from tests.integration.api.system import running_api
from tests.integration.dispatcher.system import NO_POLLS, SECRET, System, system, task
from tests.integration.monitor.test_streams import told_by
from tests.support.eventually import eventually


@asynccontextmanager
async def with_webhooks(
    nats: NatsServer, database_url: str, *, monitor: dict[str, Any] = NO_POLLS, **secrets: str
) -> AsyncIterator[System]:
    """v0 with everything that a webhook passes. Unless it is to be polled, only a webhook can tell of an end."""
    settings: dict[str, Any] = {"webhook_secret": SECRET, **secrets, "run_projector": False}
    async with running_api(nats.url, database_url, dispatching=False, **settings) as api:
        dispatcher = {"app_url": api.url, "max_concurrent_agents": 100}
        async with system(nats, "v0", dispatcher=dispatcher, monitor=monitor) as s:
            yield s


@pytest.mark.parametrize("agents", [10, pytest.param(100, marks=pytest.mark.long)])
async def test_agents_that_end_before_their_creates_are_answered_all_end_their_tasks(
    nats: NatsServer, database_url: str, agents: int
) -> None:
    async with with_webhooks(nats, database_url) as s:
        tasks = [task(f"t{number}", number, marker="[[sim:webhook_early]]") for number in range(agents)]
        parallel = {"execution_mode": "parallel", "max_parallel": 10}
        orchestrations = [await s.submit(*tasks[first : first + 10], **parallel) for first in range(0, agents, 10)]
        for orchestration in orchestrations:
            assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED
            assert await told_by(s, orchestration) == ["webhook"] * 10
            created = [e.agent_id for e in await s.events(orchestration) if isinstance(e, AgentCreated)]
            assert len(created) == len(set(created)) == 10
        assert (await s.stats())["creates"] == agents
        assert await s.messages(DEAD) == 0


async def test_an_end_is_seen_by_its_webhook_however_that_comes(nats: NatsServer, database_url: str) -> None:
    async with with_webhooks(nats, database_url) as s:
        faults = ("webhook_duplicated", "webhook_old_form", "webhook_late=1")
        orchestrations = [await s.submit(task(fault[:-2], marker=f"[[sim:{fault}]]")) for fault in faults]
        for orchestration in orchestrations:
            assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED
            assert await told_by(s, orchestration) == ["webhook"]
        assert await s.messages(DEAD) == 0
        stored = [await receipt(s, sequence) for sequence in range(1, await s.messages(RECEIPTS) + 1)]
        assert len({(one.attempt_id, one.body) for one in stored}) == len(stored)


async def receipt(s: System, sequence: int) -> Receipt:
    return Receipt.decode((await s.nc.jsm().get_msg(RECEIPTS, sequence)).data or b"")


async def test_a_webhook_that_is_badly_signed_is_not_even_stored_and_the_poll_sees_the_end(
    nats: NatsServer, database_url: str
) -> None:
    async with with_webhooks(nats, database_url, monitor={"poll_interval_seconds": 0.3}) as s:
        orchestration = await s.submit(task("a", marker="[[sim:webhook_badly_signed]]"))
        assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED
        assert await told_by(s, orchestration) == ["poll"]
        assert await s.messages(RECEIPTS) == 0


async def test_agents_that_were_created_under_the_secret_before_report_while_that_is_known(
    nats: NatsServer, database_url: str
) -> None:
    new = "the-secret-that-came-after-the-other-one"
    async with with_webhooks(nats, database_url, webhook_secret=new, webhook_secret_previous=SECRET) as s:
        orchestration = await s.submit(task("a"))
        assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED
        assert await told_by(s, orchestration) == ["webhook"]


async def test_a_webhook_that_is_sent_again_after_the_end_changes_nothing_and_asks_nobody(
    nats: NatsServer, database_url: str
) -> None:
    """As it would be stored again once the broker has forgotten the first."""
    async with with_webhooks(nats, database_url) as s:
        orchestration = await s.submit(task("a"))
        await s.ended(orchestration)
        before, calls = await s.events(orchestration), (await s.stats())["calls"]
        stored = await s.nc.jsm().get_last_msg(RECEIPTS, "receipt.cursor")
        for _ in range(20):
            await s.nc.jetstream().publish("receipt.cursor", stored.data or b"")
        await handled(s)
        assert await s.events(orchestration) == before
        assert (await s.stats())["calls"] == calls


async def handled(s: System) -> None:
    """Every receipt has been looked at."""

    async def nothing_waits() -> None:
        info = await s.nc.jsm().consumer_info(RECEIPTS, "monitor-receipts")
        assert (info.num_pending, info.num_ack_pending) == (0, 0)

    await eventually(nothing_waits, timeout=60)

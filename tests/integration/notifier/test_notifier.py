"""The notifier against a real broker and a real receiver."""

import asyncio
import gzip
import hashlib
import hmac
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from nats.aio.client import Client
from standardwebhooks import Webhook

from deploy.local.nats import NatsServer
from deploy.local.ports import free_port
from deploy.local.postgres import PostgresServer
from deploy.local.programs import answers
from services.notifier.app import build
from services.notifier.publish import Announcer
from services.notifier.settings import NotifierSettings
from services.notifier.signing import team_key, team_secret
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import connect
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.topology import DEAD, DELIVERIES, NOTIFIER_DELIVERIES, PUBLIC, TopologySettings
from shared.observability.health import Readiness
from shared.postgres.migrate import migrate
from shared.process import Runtime
from tests.integration.notifier.receiver import Received, Receiver, hang, receiver, status
from tests.support.eventually import eventually
from tests.support.servers import fresh_database
from tests.unit.notifier.stories import TEAM, Story

SECRET = "0123456789abcdef0123456789abcdef"
QUICK = (timedelta(milliseconds=50), timedelta(milliseconds=100))


@pytest.fixture
async def nc(nats: NatsServer) -> AsyncIterator[Client]:
    connection = await connect(nats.url, "test", within=10)
    await bootstrap(connection, TopologySettings())
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def prepared(postgres: PostgresServer) -> Iterator[str]:
    """A database with the tables; a delivery has an id of its own, so the tests can share it."""
    with fresh_database(postgres) as dsn:
        migrate(dsn)
        yield dsn


@pytest.fixture(autouse=True)
def _database(prepared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", prepared)


def settings_for(nats: NatsServer, **changes: Any) -> NotifierSettings:
    given = {"nats_url": nats.url, "webhook_secret": SECRET, "database_url": os.environ["DATABASE_URL"]}
    return NotifierSettings.model_validate({**given, "stop_seconds": 0.5, **changes})


@asynccontextmanager
async def notifier(
    nats: NatsServer, nc: Client, *, schedule: Sequence[timedelta] = QUICK, send_seconds: float = 60.0
) -> AsyncIterator[None]:
    settings = settings_for(nats, allow_private_webhooks=True)
    runtime = Runtime(nc=nc, readiness=Readiness(), stop=asyncio.Event())
    async with build(settings, runtime, schedule=schedule, send_seconds=send_seconds):
        yield


async def ended(nc: Client, url: str) -> Story:
    """An orchestration that ends now and asked to be told at `url`."""
    begin = datetime.now(UTC) - timedelta(minutes=4)
    return await Story(JetStreamEventLog(nc), webhook_url=url, begin=begin, random_ids=True).complete()


async def count(nc: Client, stream: str) -> int:
    return (await nc.jetstream().stream_info(stream)).state.messages


async def nothing_is_left_to_deliver(nc: Client) -> None:
    async def left() -> bool:
        return await count(nc, DELIVERIES) == 0

    await eventually(left)


async def dead(nc: Client) -> dict[str, str]:
    """The headers of the one message that was given up; the broker's own notes about it are beside it."""
    message = await nc.jetstream().get_last_msg(DEAD, "dead.>")
    return message.headers or {}


def verify(request: Received) -> dict[str, Any]:
    """Raises unless both signatures are right; gives the body."""
    Webhook(team_secret(SECRET, TEAM)).verify(request.body, request.headers)
    expected = hmac.new(team_key(SECRET, TEAM), request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Orchestration-Signature"] == f"sha256={expected}"
    body: dict[str, Any] = orjson.loads(request.body)
    return body


async def tried(told: Receiver, times: int) -> list[Received]:
    await eventually(lambda: len(told.requests) >= times, timeout=90)  # a process may have to start first
    return told.requests


async def test_the_end_of_an_orchestration_is_told_once_and_signed(nats: NatsServer, nc: Client) -> None:
    async with receiver(status(200)) as told, notifier(nats, nc):
        story = await ended(nc, told.url())
        [request] = await tried(told, 1)
        await nothing_is_left_to_deliver(nc)
    body = verify(request)
    assert (body["event"], body["orchestrationId"], body["status"]) == (
        "orchestration.completed",
        story.id,
        "COMPLETED",
    )
    assert {name.lower() for name in request.headers} == {
        "host",
        "user-agent",
        "accept",
        "content-type",
        "content-length",
        "connection",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-orchestration-signature",
    }
    assert len(told.requests) == 1
    assert await count(nc, DEAD) == 0


async def test_subscribers_get_cloud_events(nats: NatsServer, nc: Client) -> None:
    async with receiver(status(200)) as told, notifier(nats, nc):
        story = await ended(nc, told.url())
        subscription = await nc.jetstream().subscribe(f"orchestrations.{TEAM}.>", stream=PUBLIC, ordered_consumer=True)
        events = [orjson.loads((await subscription.next_msg(timeout=60)).data) for _ in range(7)]
    assert {event["source"] for event in events} == {f"/orchestrations/{story.id}"}
    assert "orchestrator.orchestration.completed.v1" in {event["type"] for event in events}
    recorded = {r.id for stored in await story.commits() for r in stored.commit.events}
    assert {event["id"] for event in events} < recorded


async def test_a_try_that_failed_is_repeated_with_the_same_id_and_body(nats: NatsServer, nc: Client) -> None:
    async with receiver(status(500), status(503), status(204)) as told, notifier(nats, nc):
        await ended(nc, told.url())
        requests = await tried(told, 3)
        await nothing_is_left_to_deliver(nc)
    assert len(requests) == 3
    for request in requests:
        verify(request)
    assert len({(request.headers["webhook-id"], request.body) for request in requests}) == 1


async def test_it_is_given_up_after_the_last_try_and_can_be_seen(nats: NatsServer, nc: Client) -> None:
    async with receiver(status(500)) as told, notifier(nats, nc):
        await ended(nc, told.url())
        await tried(told, 3)
        await nothing_is_left_to_deliver(nc)
        headers = await dead(nc)
    assert headers["Dead-Reason"] == "WEBHOOK_DELIVERY_FAILED: rejected at try 3: answered 500"
    assert len(told.requests) == 3


async def test_a_redirect_is_a_failure_and_not_followed(nats: NatsServer, nc: Client) -> None:
    async with receiver(status(200)) as elsewhere:
        redirect = status(302, Location=elsewhere.url())
        async with receiver(redirect, status(200)) as told, notifier(nats, nc):
            await ended(nc, told.url())
            await tried(told, 2)
            await nothing_is_left_to_deliver(nc)
    assert elsewhere.requests == []


async def test_whoever_is_gone_is_not_told_again(nats: NatsServer, nc: Client) -> None:
    async with receiver(status(410)) as told, notifier(nats, nc):
        await ended(nc, told.url())
        await tried(told, 1)
        await nothing_is_left_to_deliver(nc)
        headers = await dead(nc)
    assert headers["Dead-Reason"].startswith("WEBHOOK_DELIVERY_FAILED: gone at try 1")
    assert len(told.requests) == 1


async def test_a_receiver_that_hangs_is_let_go_of_and_tried_again(nats: NatsServer, nc: Client) -> None:
    async with receiver(hang, status(200)) as told, notifier(nats, nc, send_seconds=0.3):
        await ended(nc, told.url())
        await tried(told, 2)
        await nothing_is_left_to_deliver(nc)


async def test_of_a_huge_answer_only_the_beginning_is_read_and_as_it_is(nats: NatsServer, nc: Client) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        size = 2000 * len(bomb)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(2000):
            writer.write(bomb)
            await writer.drain()
            sent += len(bomb)

    async with receiver(flood) as told, notifier(nats, nc):
        await ended(nc, told.url())
        await tried(told, 1)
        await nothing_is_left_to_deliver(nc)
    assert sent < 20_000_000  # what the buffers of both systems took
    assert len(told.requests) == 1


async def test_a_body_that_never_ends_does_not_turn_a_success_into_a_failure(nats: NatsServer, nc: Client) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n.")
        await writer.drain()
        await hang(writer)

    # Within this the head has to come, also on a machine that stands still for a while.
    async with receiver(drip) as told, notifier(nats, nc, send_seconds=3):
        await ended(nc, told.url())
        await tried(told, 1)
        await nothing_is_left_to_deliver(nc)
    assert len(told.requests) == 1
    assert await count(nc, DEAD) == 0


async def test_the_receiver_is_given_the_time_that_it_asks_for(nats: NatsServer, nc: Client) -> None:
    async with receiver(status(429, Retry_After="1"), status(200)) as told, notifier(nats, nc):
        await ended(nc, told.url())
        first, second = await tried(told, 2)
    assert 0.9 <= second.at - first.at < 20


async def test_a_commit_that_comes_twice_leads_to_one_delivery(nats: NatsServer, nc: Client) -> None:
    story = await ended(nc, "https://hooks.example.com/x")
    announcer = Announcer(story.log, JetStreamPublisher(nc))
    for delivery in [*await story.deliveries(), *await story.deliveries()]:
        await announcer.on_commit(delivery)
    assert await count(nc, DELIVERIES) == 1
    assert await count(nc, PUBLIC) == 7


async def test_a_blocked_address_gets_nothing_and_is_given_up_at_once(nats: NatsServer, nc: Client) -> None:
    settings = settings_for(nats)
    runtime = Runtime(nc=nc, readiness=Readiness(), stop=asyncio.Event())
    async with receiver(status(200)) as told, build(settings, runtime):
        await ended(nc, told.url())
        await eventually(lambda: count(nc, DEAD))
        headers = await dead(nc)
    assert headers["Dead-Reason"].startswith("WEBHOOK_DELIVERY_FAILED: blocked at try 1")
    assert told.requests == []


async def test_a_host_that_hangs_does_not_delay_the_others(nats: NatsServer, nc: Client) -> None:
    async with receiver(hang) as slow, receiver(status(200)) as quick:
        for _ in range(30):
            await ended(nc, slow.url("127.0.0.1"))
        for _ in range(10):
            await ended(nc, quick.url("localhost"))
        async with notifier(nats, nc, send_seconds=600):
            await eventually(lambda: slow.requests)
            await tried(quick, 10)
            assert len(slow.requests) <= 10, "not one of the slow ones has been given up yet"


async def test_a_notifier_killed_after_it_has_sent_sends_again_under_the_same_id(nats: NatsServer, nc: Client) -> None:
    config = NOTIFIER_DELIVERIES.config(TopologySettings())
    config.ack_wait = 1.0  # nobody wants to wait for half a minute here
    await nc.jetstream().add_consumer(DELIVERIES, config)
    victim: asyncio.subprocess.Process | None = None

    async def kill(_: asyncio.StreamWriter) -> None:
        assert victim is not None
        victim.kill()
        await victim.wait()

    async with receiver(kill, status(200)) as told:
        victim = await child(nats, "tests.integration.notifier.child")
        await ended(nc, told.url())
        await tried(told, 1)
        await victim.wait()
        assert await count(nc, DELIVERIES) == 1
        async with notifier(nats, nc):
            await tried(told, 2)
            await nothing_is_left_to_deliver(nc)
    assert len({(request.headers["webhook-id"], request.body) for request in told.requests}) == 1


async def test_the_service_starts_says_that_it_is_ready_and_stops_when_asked(nats: NatsServer, nc: Client) -> None:
    port = free_port()
    async with receiver(status(200)) as told:
        service = await child(nats, "services.notifier", HEALTH_PORT=str(port), NATS_MONITOR_URL=nats.monitor_url)
        try:
            await eventually(lambda: asyncio.to_thread(answers(f"http://127.0.0.1:{port}/health/ready")), timeout=90)
            await ended(nc, told.url())
            verify((await tried(told, 1))[0])
            service.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(service.wait(), 60) == 0
        finally:
            if service.returncode is None:
                service.kill()


async def test_the_service_refuses_a_short_secret_without_showing_it(nats: NatsServer) -> None:
    service = await child(nats, "services.notifier", WEBHOOK_SECRET="too-short")
    _, said = await service.communicate()
    assert service.returncode == 2
    assert b"WEBHOOK_SECRET" in said
    assert b"too-short" not in said


async def child(nats: NatsServer, module: str, **environment: str) -> asyncio.subprocess.Process:
    given = {"NATS_URL": nats.url, "WEBHOOK_SECRET": SECRET, "ALLOW_PRIVATE_WEBHOOKS": "true", **environment}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env={**os.environ, **given}, stderr=asyncio.subprocess.PIPE
    )

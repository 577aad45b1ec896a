"""How messages are consumed on a real broker: acked, put back, parked, and what a stop leaves behind."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.js.api import StreamConfig

from deploy.local.nats import NatsServer
from shared.jetstream import pull
from shared.jetstream.consumer import Delivery, Handler, Later, Poison, subscribe, watch_consumers
from shared.jetstream.errors import TopologyDriftError
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.pull import make_broker
from shared.jetstream.topology import (
    COMMANDS,
    DEAD,
    DISPATCHER_COMMANDS,
    ConsumerSpec,
    TopologySettings,
    command_subject,
    dead_subject,
)
from tests.contracts.proxy import LossyProxy, lossy_proxy
from tests.support.eventually import eventually

SUBJECT = command_subject("team", "orc")


@dataclass
class Seen:
    """What handlers and the observer were told."""

    deliveries: list[Delivery] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def waited(self, consumer: str, seconds: float) -> None: ...

    def processed(self, consumer: str, seconds: float) -> None:
        assert consumer == DISPATCHER_COMMANDS.name
        self.seconds.append(seconds)

    def failed(self, consumer: str, kind: str) -> None:
        assert consumer == DISPATCHER_COMMANDS.name
        self.failures.append(kind)

    def waiting(self, consumer: str, messages: int) -> None:
        assert consumer == DISPATCHER_COMMANDS.name
        self.sizes.append(messages)

    def counted(self, then: Handler) -> Handler:
        async def handle(delivery: Delivery) -> None:
            self.deliveries.append(delivery)
            await then(delivery)

        return handle

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.data for delivery in self.deliveries]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@asynccontextmanager
async def consuming(
    server: NatsServer | LossyProxy,
    handler: Handler,
    seen: Seen,
    *,
    workers: int = 4,
    grace: float = 5,
    spec: ConsumerSpec = DISPATCHER_COMMANDS,
    **options: Any,
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A service that consumes commands; gives the function that stops it."""
    broker = make_broker(server.url, "test-consumer", grace=grace)
    subscribe(broker, spec, seen.counted(handler), workers=workers, observer=seen, **options)
    await broker.start()
    stopped = False

    async def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            await broker.stop()

    try:
        yield stop
    finally:
        await stop()


async def publish(nc: Client, *bodies: bytes) -> None:
    """Each once, also where the broker's answer is late and the publisher asks again."""
    for body in bodies:
        msg_id = uuid.uuid4().hex
        await JetStreamPublisher(nc).publish(SUBJECT, body, stream=COMMANDS, msg_id=msg_id, headers={"Trace": "abc"})


async def waiting(nc: Client) -> int:
    """How many commands are not acked for good."""
    return (await nc.jsm().stream_info(COMMANDS)).state.messages


async def left(nc: Client, count: int) -> None:
    """The broker takes acks in its own time."""

    async def check() -> None:
        assert await waiting(nc) == count

    await eventually(check)


async def gone(nc: Client) -> None:
    await left(nc, 0)


async def nothing(delivery: Delivery) -> None: ...


async def test_a_handler_that_returns_acks_its_message(nats: NatsServer, nc: Client, seen: Seen) -> None:
    await publish(nc, b'{"not": "decoded"}', b"\xff\x00 not JSON", b"")
    async with consuming(nats, nothing, seen):
        await gone(nc)
    assert sorted(seen.bodies) == sorted([b'{"not": "decoded"}', b"\xff\x00 not JSON", b""])
    first = min(seen.deliveries, key=lambda delivery: delivery.sequence)
    assert (first.subject, first.deliveries, first.sequence) == (SUBJECT, 1, 1)
    assert first.headers["Trace"] == "abc"
    assert abs(first.published_at.timestamp() - time.time()) < 30
    assert len(seen.seconds) == 3
    assert seen.failures == []


async def test_a_lone_message_reaches_its_handler_before_the_pull_ends(
    nats: NatsServer, nc: Client, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_PULL_SECONDS", 600.0)

    async def a_pull_waits() -> bool:
        return bool((await nc.jsm().consumer_info(COMMANDS, DISPATCHER_COMMANDS.name)).num_waiting)

    async with consuming(nats, nothing, seen, workers=8):
        await eventually(a_pull_waits)
        for count in range(1, 4):
            await publish(nc, b"x")
            await eventually(lambda count=count: len(seen.deliveries) == count)  # type: ignore[misc]


async def test_a_message_reaches_its_handler_at_once_however_late_the_ends_of_pulls_come(
    nats: NatsServer, nc: Client, seen: Seen
) -> None:
    slowest: list[float] = []
    async with lossy_proxy(nats.url, lambda body: False, delay=0.01) as slow, consuming(slow, nothing, seen):
        for _ in range(3):
            await asyncio.sleep(2.1)  # a pull, of two seconds, ends without a message
            waits: list[float] = []
            for _ in range(3):
                count, began = len(seen.deliveries) + 1, time.monotonic()
                await publish(nc, b"x")
                await eventually(lambda count=count: len(seen.deliveries) == count, interval=0.002)  # type: ignore[misc]
                waits.append(time.monotonic() - began)
            slowest.append(max(waits))
    assert min(slowest) < 1.5  # what waits for the end of a pull does so every time, and a machine stands still once


async def test_later_puts_it_back_for_that_long_and_is_no_failure(
    nats: NatsServer, nc: Client, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    at: list[float] = []

    async def wait_twice(delivery: Delivery) -> None:
        at.append(time.monotonic())
        if delivery.deliveries < 3:
            raise Later(0.3, "no slot is free")

    caplog.set_level(logging.INFO)
    await publish(nc, b"x")
    async with consuming(nats, wait_twice, seen, dead_after=2):
        await gone(nc)
    assert [delivery.deliveries for delivery in seen.deliveries] == [1, 2, 3]
    assert all(0.25 < later - earlier < 20 for earlier, later in pairwise(at))  # the broker itself waits for 30 s
    assert seen.failures == []
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert "no slot is free" in caplog.text


@pytest.fixture
def put_back(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The delays with which messages were put back, in order."""
    asked: list[float | None] = []
    real = Msg.nak

    async def nak(message: Msg, delay: float | None = None) -> None:
        asked.append(delay)
        await real(message, delay=delay)

    monkeypatch.setattr(Msg, "nak", nak)
    return asked


async def test_a_message_whose_answer_could_not_be_sent_is_kept(
    nats: NatsServer, nc: Client, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(message: Msg, delay: float | None = None) -> None:
        raise ConnectionClosedError

    async def later(delivery: Delivery) -> None:
        raise Later(0.05, "early")

    monkeypatch.setattr(Msg, "nak", cut)
    await publish(nc, b"x")
    async with consuming(nats, later, seen) as stop:
        await eventually(lambda: len(seen.seconds) == 1)
        await stop()
    assert await waiting(nc) == 1


async def test_an_error_is_tried_again_with_growing_delays(
    nats: NatsServer, nc: Client, seen: Seen, caplog: pytest.LogCaptureFixture, put_back: list[float | None]
) -> None:
    at: list[float] = []

    async def fail_three_times(delivery: Delivery) -> None:
        at.append(time.monotonic())
        if delivery.deliveries < 4:
            raise RuntimeError("the database is away")

    delays = (0.1, 0.4, 0.8)
    await publish(nc, b"x")
    async with consuming(nats, fail_three_times, seen, delays=delays):
        await gone(nc)
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert put_back == [pytest.approx(delay, rel=0.21) for delay in delays]
    assert all(delay * 0.8 <= gap for gap, delay in zip(gaps, delays, strict=True))
    assert seen.failures == ["retry"] * 3
    assert "Traceback" in caplog.text
    assert "the database is away" in caplog.text


async def dead_letters(nc: Client) -> list[Any]:
    """What was parked, oldest first."""
    subject = dead_subject(COMMANDS, DISPATCHER_COMMANDS.name)
    manager = nc.jsm()
    count = (await manager.stream_info(DEAD)).state.last_seq
    found = [await manager.get_msg(DEAD, seq) for seq in range(1, count + 1)]
    return [message for message in found if message.subject == subject]


async def test_poison_is_parked_with_its_reason_and_then_dropped(nats: NatsServer, nc: Client, seen: Seen) -> None:
    async def refuse(delivery: Delivery) -> None:
        raise Poison("not a command:\r\n  bad JSON")

    await publish(nc, b"{broken")
    async with consuming(nats, refuse, seen):
        await gone(nc)
    [letter] = await dead_letters(nc)
    assert letter.data == b"{broken"
    assert letter.headers["Trace"] == "abc"
    assert letter.headers["Dead-Kind"] == "poison"
    assert letter.headers["Dead-Reason"] == "not a command:    bad JSON"
    assert letter.headers["Dead-Subject"] == SUBJECT
    assert letter.headers["Dead-Sequence"] == "1"
    assert seen.failures == ["poison"]
    assert len(seen.deliveries) == 1


async def test_a_message_that_keeps_failing_is_parked_after_its_last_delivery(
    nats: NatsServer, nc: Client, seen: Seen
) -> None:
    async def fail(delivery: Delivery) -> None:
        raise RuntimeError("always")

    await publish(nc, b"x")
    async with consuming(nats, fail, seen, delays=(0.05,), dead_after=3):
        await gone(nc)
    [letter] = await dead_letters(nc)
    assert letter.headers["Dead-Kind"] == "exhausted"
    assert letter.headers["Dead-Reason"] == "RuntimeError: always"
    assert letter.headers["Dead-Deliveries"] == "3"
    assert seen.failures == ["retry", "retry", "exhausted"]


async def test_a_message_that_cannot_be_parked_is_kept(nats: NatsServer, nc: Client, seen: Seen) -> None:
    async def refuse(delivery: Delivery) -> None:
        raise Poison("bad")

    await nc.jsm().delete_stream(DEAD)
    await publish(nc, b"x")
    publisher = JetStreamPublisher(nc, budget=0.5)
    async with consuming(nats, refuse, seen, publisher=publisher):
        await eventually(lambda: len(seen.seconds) == 1)
        assert await waiting(nc) == 1


async def test_a_handler_that_takes_too_long_has_failed(nats: NatsServer, nc: Client, seen: Seen) -> None:
    async def hang_once(delivery: Delivery) -> None:
        if delivery.deliveries == 1:
            await asyncio.sleep(60)

    await publish(nc, b"x")
    async with consuming(nats, hang_once, seen, delays=(0.05,), handler_seconds=0.2):
        await gone(nc)
    assert seen.failures == ["retry"]


async def waits_for_acks(nc: Client, seconds: float) -> None:
    """For so long the broker waits for an ack from now on, before it delivers again."""
    await nc.jsm().add_consumer(COMMANDS, DISPATCHER_COMMANDS.config(TopologySettings(ack_wait=seconds)))


async def test_heartbeats_keep_a_long_handler_and_those_who_wait_for_it(
    nats: NatsServer, nc: Client, seen: Seen
) -> None:
    """Of five seconds two thirds may pass without a heartbeat, as on a machine that stands still."""

    async def take_long_once(delivery: Delivery) -> None:
        if delivery.data == b"1":
            await asyncio.sleep(6)

    await waits_for_acks(nc, 5)
    await publish(nc, b"1", b"2")
    async with consuming(nats, take_long_once, seen, workers=1):
        await gone(nc)
    assert seen.bodies == [b"1", b"2"]


async def test_no_more_is_taken_than_there_is_room_for(nats: NatsServer, nc: Client, seen: Seen) -> None:
    """What one replica cannot work on stays with the broker, for another one."""
    go_on = asyncio.Event()
    running = most = 0

    async def wait(delivery: Delivery) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1

    async def five_are_taken() -> None:
        info = await nc.jsm().consumer_info(COMMANDS, DISPATCHER_COMMANDS.name)
        assert info.num_ack_pending == 5

    await publish(nc, *(str(number).encode() for number in range(40)))
    async with consuming(nats, wait, seen, workers=4):
        await eventually(lambda: running == 4)
        await eventually(five_are_taken)
        await asyncio.sleep(0.5)  # the claim is that nothing more is taken in this time
        await five_are_taken()
        assert running == 4
        go_on.set()
        await gone(nc)
    assert most == 4
    assert len(seen.bodies) == 40


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[Msg]:
    """What the broker has sent, whether or not it was taken."""
    came: list[Msg] = []
    real = pull._Puller._on_message

    async def on_message(puller: pull._Puller, message: Msg) -> None:
        if message.data:
            came.append(message)
        await real(puller, message)

    monkeypatch.setattr(pull._Puller, "_on_message", on_message)
    return came


async def test_a_stop_lets_finish_what_runs_and_gives_back_what_waits(
    nats: NatsServer, nc: Client, seen: Seen, put_back: list[float | None], arrived: list[Msg]
) -> None:
    go_on = asyncio.Event()

    async def wait(delivery: Delivery) -> None:
        await go_on.wait()

    await waits_for_acks(nc, 600)  # so that only what is given back comes again here
    await publish(nc, *(str(number).encode() for number in range(10)))
    async with consuming(nats, wait, seen, workers=4, grace=60) as stop:
        await eventually(lambda: len(seen.deliveries) == 4)
        await eventually(lambda: len(arrived) == 5)
        stopping = asyncio.ensure_future(stop())
        await eventually(lambda: put_back)
        go_on.set()
        await stopping
    assert len(seen.seconds) == 4
    await left(nc, 6)
    second = Seen()
    async with consuming(nats, nothing, second):
        await eventually(lambda: len(second.bodies) == 6)
    assert sorted(seen.bodies + second.bodies) == [str(number).encode() for number in range(10)]


async def test_a_stop_gives_back_what_does_not_end_in_time(nats: NatsServer, nc: Client, seen: Seen) -> None:
    async def hang(delivery: Delivery) -> None:
        await asyncio.Event().wait()

    await waits_for_acks(nc, 600)
    await publish(nc, b"1", b"2")
    async with consuming(nats, hang, seen, grace=0.3) as stop:
        await eventually(lambda: len(seen.deliveries) == 2)
        async with asyncio.timeout(30):
            await stop()
    second = Seen()
    async with consuming(nats, nothing, second):
        await eventually(lambda: sorted(second.bodies) == [b"1", b"2"])


async def test_consuming_goes_on_after_the_broker_was_killed(nats: NatsServer, nc: Client, seen: Seen) -> None:
    async with consuming(nats, nothing, seen):
        await publish(nc, b"before")
        await gone(nc)
        nats.kill()
        await asyncio.to_thread(nats.start)
        await publish(nc, b"after")
        await eventually(lambda: b"after" in seen.bodies)
        await gone(nc)


async def test_a_stop_ends_without_error_when_the_broker_is_away(nats: NatsServer, nc: Client, seen: Seen) -> None:
    async def hang(delivery: Delivery) -> None:
        await asyncio.Event().wait()

    await publish(nc, b"1", b"2", b"3")
    async with consuming(nats, hang, seen, workers=1, grace=0.3) as stop:
        await eventually(lambda: seen.deliveries)
        nats.kill()
        async with asyncio.timeout(60):
            await stop()


async def test_subscribing_changes_nothing_on_the_broker(nats: NatsServer, nc: Client, seen: Seen) -> None:
    async def configuration() -> tuple[StreamConfig, Any]:
        manager = nc.jsm()
        consumer = await manager.consumer_info(COMMANDS, DISPATCHER_COMMANDS.name)
        return (await manager.stream_info(COMMANDS)).config, (consumer.config, consumer.created)

    before = await configuration()
    async with consuming(nats, nothing, seen):
        await publish(nc, b"x")
        await gone(nc)
    assert await configuration() == before


async def test_a_consumer_is_looked_after_and_noticed_when_it_was_deleted(nc: Client, seen: Seen) -> None:
    await publish(nc, b"1", b"2")
    watching = asyncio.create_task(watch_consumers(nc, [DISPATCHER_COMMANDS], observer=seen, every=0.1))
    await eventually(lambda: len(seen.sizes) >= 2)
    assert seen.sizes[-1] == 2
    assert not watching.done()
    await nc.jsm().delete_consumer(COMMANDS, DISPATCHER_COMMANDS.name)
    with pytest.raises(TopologyDriftError, match="dispatcher-commands"):
        await asyncio.wait_for(watching, 30)

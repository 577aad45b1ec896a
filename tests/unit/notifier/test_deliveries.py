"""One try at a notification: prepared, sent, and what follows from how it went."""

import logging
import random
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest
from prometheus_client import REGISTRY

from services.notifier.channels.webhook import Prepared, webhook_body
from services.notifier.deliveries import FAILED, Deliverer
from services.notifier.history import NotInHistoryError
from services.notifier.notification import Notification
from services.notifier.outcome import Kind, Outcome
from services.notifier.places import Places
from services.notifier.publish import Announcer
from services.notifier.records import MemoryRecords, Try, Verdict
from services.notifier.schedule import SCHEDULE
from shared.domain.state import Orchestration
from shared.jetstream.consumer import Later, Poison
from shared.jetstream.topology import DELIVERIES
from shared.memory import ManualClock, MemoryEventLog, MemoryPublisher
from tests.unit.notifier.stories import Story, as_delivery

URL = "https://hooks.example.com/SECRET-TOKEN"
OK = Outcome(Kind.DELIVERED, "answered 200")
NO = Outcome(Kind.REJECTED, "answered 500")


class Channel:
    """Answers as told, and keeps what was sent."""

    name = "webhook"

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.states: list[Orchestration] = []

    def prepare(self, notification: Notification, state: Orchestration, now: datetime) -> Prepared:
        self.states.append(state)
        return Prepared(notification.url, {}, b"")

    async def send(self, prepared: Prepared) -> Outcome:
        return self.outcomes.pop(0)


async def a_notification(log: MemoryEventLog) -> Notification:
    story = await Story(log, webhook_url=URL).complete()
    publisher = MemoryPublisher()
    for delivery in await story.deliveries():
        await Announcer(log, publisher).on_commit(delivery)
    [message] = [m for m in publisher.messages if m.stream == DELIVERIES]
    return Notification.decode(message.data)


@pytest.fixture
async def log() -> MemoryEventLog:
    return MemoryEventLog()


@pytest.fixture
async def notification(log: MemoryEventLog) -> Notification:
    return await a_notification(log)


def deliverer(
    log: MemoryEventLog, notification: Notification, *outcomes: Outcome
) -> tuple[Deliverer, Channel, ManualClock]:
    channel, clock = Channel(*outcomes), ManualClock(notification.occurred_at)
    return Deliverer(log, clock, channel, MemoryRecords(), Places(), random.Random(3)), channel, clock


def counted(kind: str) -> float:
    return REGISTRY.get_sample_value("webhook_deliveries_total", {"channel": "webhook", "status": kind}) or 0.0


async def test_what_was_taken_is_done(log: MemoryEventLog, notification: Notification) -> None:
    one, channel, _ = deliverer(log, notification, OK)
    before = counted("delivered")
    await one.on_notification(as_delivery(notification.encode()))
    assert counted("delivered") == before + 1
    assert channel.states[0].status == "COMPLETED"


async def test_a_failure_is_tried_again_over_the_whole_schedule_and_then_given_up(
    log: MemoryEventLog, notification: Notification, caplog: pytest.LogCaptureFixture
) -> None:
    one, channel, clock = deliverer(log, notification, *[NO] * 10)
    for number, planned in enumerate(SCHEDULE, 1):
        with pytest.raises(Later) as later:
            await one.on_notification(as_delivery(notification.encode(), deliveries=number))
        assert abs(later.value.delay_seconds / planned.total_seconds() - 1) <= 0.1
        clock.advance(timedelta(seconds=later.value.delay_seconds))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    with pytest.raises(Poison) as poison:
        await one.on_notification(as_delivery(notification.encode(), deliveries=10))
    assert poison.value.reason == f"{FAILED}: rejected at try 10: answered 500"
    [error] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert error.__dict__["code"] == FAILED
    assert "SECRET-TOKEN" not in caplog.text + str(error.__dict__)
    bodies = [webhook_body("orchestration.completed", state) for state in channel.states]
    assert all(body == bodies[0] for body in bodies)


@pytest.mark.parametrize("kind", [Kind.GONE, Kind.BLOCKED])
async def test_some_failures_are_final_at_once(log: MemoryEventLog, notification: Notification, kind: Kind) -> None:
    one, _, _ = deliverer(log, notification, Outcome(kind, "no"))
    with pytest.raises(Poison, match=f"{FAILED}: {kind.value}"):
        await one.on_notification(as_delivery(notification.encode()))


async def test_the_receiver_may_ask_for_more_time(log: MemoryEventLog, notification: Notification) -> None:
    one, _, _ = deliverer(log, notification, Outcome(Kind.REJECTED, "answered 429", timedelta(minutes=10)))
    with pytest.raises(Later) as later:
        await one.on_notification(as_delivery(notification.encode()))
    assert later.value.delay_seconds == 600


async def test_an_event_that_the_log_does_not_show_is_not_told(log: MemoryEventLog, notification: Notification) -> None:
    one, channel, _ = deliverer(log, notification, OK)
    unknown = notification.model_copy(update={"event_id": "another"})
    with pytest.raises(NotInHistoryError):
        await one.on_notification(as_delivery(unknown.encode()))
    assert channel.states == []


async def test_the_body_is_of_the_event_and_not_of_what_came_later(
    log: MemoryEventLog, notification: Notification
) -> None:
    created = (await log.read(notification.team, notification.orchestration_id))[0].commit.events[0]
    one, channel, _ = deliverer(log, notification, OK)
    await one.on_notification(as_delivery(notification.model_copy(update={"event_id": created.id}).encode()))
    assert channel.states[0].status == "PENDING"


async def test_a_busy_host_is_come_back_to_without_a_try(log: MemoryEventLog, notification: Notification) -> None:
    one, channel, _ = deliverer(log, notification, OK)
    busy = Deliverer(one.log, one.clock, channel, one.records, Places(per_host=1, waiting=0))
    async with busy.places.take("hooks.example.com"):
        with pytest.raises(Later):
            await busy.on_notification(as_delivery(notification.encode()))
    assert channel.states == []


async def test_what_is_no_notification_is_poison(log: MemoryEventLog, notification: Notification) -> None:
    one, _, _ = deliverer(log, notification)
    with pytest.raises(Poison) as poison:
        await one.on_notification(as_delivery(b'{"delivery_id": "d", "url": ["https://a.example/SECRET-TOKEN"]}'))
    assert "SECRET-TOKEN" not in poison.value.reason


async def test_every_try_is_written_down_before_it_is_sent(log: MemoryEventLog, notification: Notification) -> None:
    one, _, clock = deliverer(log, notification, NO, OK)
    assert isinstance(one.records, MemoryRecords)
    with pytest.raises(Later) as later:
        await one.on_notification(as_delivery(notification.encode()))
    clock.advance(timedelta(seconds=later.value.delay_seconds))
    await one.on_notification(as_delivery(notification.encode(), deliveries=2))
    (first, no), (second, yes) = one.records.tries[notification.delivery_id]
    assert (first.number, second.number) == (1, 2)
    assert no is not None
    assert (no.status, no.outcome.detail) == ("PENDING", "answered 500")
    assert no.next_at == first.started_at + timedelta(seconds=later.value.delay_seconds)
    assert yes is not None
    assert (yes.status, yes.next_at, yes.error) == ("DELIVERED", None, None)


async def test_what_was_given_up_says_so_with_its_code(log: MemoryEventLog, notification: Notification) -> None:
    one, _, _ = deliverer(log, notification, Outcome(Kind.GONE, "answered 410"))
    assert isinstance(one.records, MemoryRecords)
    with pytest.raises(Poison):
        await one.on_notification(as_delivery(notification.encode()))
    [(_, verdict)] = one.records.tries[notification.delivery_id]
    assert verdict is not None
    assert (verdict.status, verdict.error) == ("FAILED", f"{FAILED}: gone: answered 410")


class Away(MemoryRecords):
    """A database that is away, from the start or from the sending on."""

    def __init__(self, *, at: str) -> None:
        super().__init__()
        self.at = at

    async def begin(self, notification: Notification, channel: str, now: datetime) -> Try:
        if self.at == "begin":
            raise psycopg.OperationalError("away")
        return await super().begin(notification, channel, now)

    async def end(self, made: Try, verdict: Verdict) -> None:
        raise psycopg.OperationalError("away")


async def test_nothing_is_sent_that_cannot_be_written_down(log: MemoryEventLog, notification: Notification) -> None:
    one, channel, _ = deliverer(log, notification, OK)
    with pytest.raises(Later):
        await replace(one, records=Away(at="begin")).on_notification(as_delivery(notification.encode()))
    assert channel.outcomes == [OK]


async def test_what_was_sent_is_not_sent_again_for_the_record_s_sake(
    log: MemoryEventLog, notification: Notification
) -> None:
    one, channel, _ = deliverer(log, notification, OK)
    await replace(one, records=Away(at="end")).on_notification(as_delivery(notification.encode()))
    assert channel.outcomes == []


async def test_a_process_that_died_before_it_tried_has_used_up_no_try(
    log: MemoryEventLog, notification: Notification
) -> None:
    one, _, clock = deliverer(log, notification, NO)
    clock.advance(timedelta(minutes=10))
    with pytest.raises(Later) as later:
        await one.on_notification(as_delivery(notification.encode(), deliveries=3))
    assert later.value.delay_seconds < 10


async def test_what_is_asked_for_again_has_all_its_tries(log: MemoryEventLog, notification: Notification) -> None:
    one, _, clock = deliverer(log, notification, NO)
    clock.advance(timedelta(days=30))
    again = notification.model_copy(update={"redelivered_at": clock.now()})
    with pytest.raises(Later) as later:
        await one.on_notification(as_delivery(again.encode()))
    assert later.value.delay_seconds < 10

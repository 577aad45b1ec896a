"""Timers that the broker keeps."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from deploy.local.nats import NatsServer
from shared.jetstream.timers import JetStreamTimers
from shared.jetstream.topology import DISPATCHER_TIMERS, TIMERS


@pytest.fixture
async def due(nc: Client) -> AsyncIterator[JetStreamContext.PullSubscription]:
    subscription = await nc.jetstream().pull_subscribe_bind(consumer=DISPATCHER_TIMERS.name, stream=TIMERS)
    yield subscription
    await subscription.unsubscribe()


async def fired(due: JetStreamContext.PullSubscription, *, within: float = 30) -> tuple[str, bytes] | None:
    """The next timer that fires, which the broker then forgets; None if there is none."""
    try:
        [message] = await due.fetch(1, timeout=within)
    except TimeoutError:
        return None
    await message.ack_sync(timeout=30)
    return message.subject, message.data


async def timers_left(nc: Client) -> int:
    """Those that are to fire yet, and those that have and are not acked."""
    return (await nc.jsm().stream_info(TIMERS)).state.messages


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_a_timer_arrives_when_it_is_due_and_only_once(nc: Client, due: JetStreamContext.PullSubscription) -> None:
    began = time.monotonic()
    await JetStreamTimers(nc).set("retry", "orc-1", "task-1", due_at=in_seconds(0.8), payload=b"again")
    assert await fired(due) == ("timer.due.retry.orc-1.task-1", b"again")
    assert time.monotonic() - began > 0.7
    assert await fired(due, within=0.5) is None
    assert await timers_left(nc) == 0


async def test_a_time_in_another_zone_is_the_same_moment(nc: Client, due: JetStreamContext.PullSubscription) -> None:
    east = timezone(timedelta(hours=5))
    await JetStreamTimers(nc).set("east", due_at=in_seconds(0.3).astimezone(east), payload=b"x")
    assert await fired(due) == ("timer.due.east", b"x")


async def test_a_time_in_the_past_fires_at_once(nc: Client, due: JetStreamContext.PullSubscription) -> None:
    await JetStreamTimers(nc).set("start", due_at=in_seconds(-3600), payload=b"late")
    assert await fired(due) == ("timer.due.start", b"late")


async def test_setting_a_timer_again_moves_it(nc: Client, due: JetStreamContext.PullSubscription) -> None:
    timers = JetStreamTimers(nc)
    for payload, seconds in ((b"first", 1200), (b"later", 2400), (b"sooner", 0.3)):
        await timers.set("t", due_at=in_seconds(seconds), payload=payload)
        if seconds > 1:
            assert await timers_left(nc) == 1
    assert await fired(due) == ("timer.due.t", b"sooner")
    assert await timers_left(nc) == 0


async def test_a_timer_that_is_cancelled_is_there_no_more_and_the_others_are(
    nc: Client, due: JetStreamContext.PullSubscription
) -> None:
    timers = JetStreamTimers(nc)
    await timers.set("t", "a", due_at=in_seconds(1200), payload=b"a")
    await timers.set("t", "ab", due_at=in_seconds(2), payload=b"ab")
    await timers.cancel("t", "a")
    await timers.cancel("t", "never-set")
    assert await fired(due) == ("timer.due.t.ab", b"ab")
    assert await timers_left(nc) == 0


async def test_a_timer_due_while_the_broker_was_dead_fires_once_it_is_back(
    nats: NatsServer, nc: Client, due: JetStreamContext.PullSubscription
) -> None:
    await JetStreamTimers(nc).set("t", due_at=in_seconds(0.5), payload=b"x")
    nats.kill()
    await asyncio.sleep(0.8)
    await asyncio.to_thread(nats.start)
    found = None
    for _ in range(30):
        found = found or await fired(due, within=1)
    assert found == ("timer.due.t", b"x")


async def test_a_time_without_zone_and_a_name_with_dots_are_refused(nc: Client) -> None:
    timers = JetStreamTimers(nc)
    with pytest.raises(ValueError, match="time zone"):
        await timers.set("t", due_at=datetime(2030, 1, 1), payload=b"")
    with pytest.raises(ValueError, match="token"):
        await timers.set("a.b", due_at=in_seconds(1), payload=b"")
    with pytest.raises(ValueError, match="name"):
        await timers.set(due_at=in_seconds(1), payload=b"")

"""What the adapters in memory do beyond the contracts that they share with the real ones."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.jetstream.errors import PayloadTooLargeError
from shared.memory import ManualClock, MemoryEventLog, MemoryPublisher, MemoryTimers, SequentialIds
from shared.ports import Clock, EventLog, Ids, LogFullError
from tests.contracts.commits import TEAM, new_commit

NOW = datetime(2026, 11, 1, tzinfo=UTC)


async def test_a_log_with_a_limit_becomes_full() -> None:
    log: EventLog = MemoryEventLog(max_commits=1)
    await log.append(new_commit("a"), expected=0)
    with pytest.raises(LogFullError):
        await log.append(new_commit("b"), expected=0)
    assert await log.read(TEAM, "b") == []


async def test_what_was_published_can_be_looked_at() -> None:
    publisher = MemoryPublisher()
    first = await publisher.publish("cmd.a", b"1", stream="COMMANDS", msg_id="x", headers={"h": "v"})
    again = await publisher.publish("cmd.a", b"1", stream="COMMANDS", msg_id="x")
    other = await publisher.publish("queue.low.1", b"2", stream="QUEUE", msg_id="x")
    assert (first.duplicate, again.duplicate, again.sequence) == (False, True, first.sequence)
    assert (other.duplicate, other.sequence) == (False, 1)
    [message] = publisher.on("cmd.a")
    assert (message.data, message.headers) == (b"1", {"h": "v"})
    with pytest.raises(PayloadTooLargeError):
        await publisher.publish("cmd.a", b"x" * (512 * 1024 + 1), stream="COMMANDS")


async def test_timers_are_taken_when_they_are_due_soonest_first() -> None:
    timers = MemoryTimers()
    await timers.set("late", due_at=NOW + timedelta(seconds=2), payload=b"late")
    await timers.set("soon", due_at=NOW + timedelta(seconds=9), payload=b"old")
    await timers.set("soon", due_at=NOW + timedelta(seconds=1), payload=b"soon")
    await timers.set("off", due_at=NOW, payload=b"off")
    await timers.cancel("off")
    await timers.cancel("off")
    assert timers.take_due(NOW) == []
    assert timers.take_due(NOW + timedelta(seconds=2)) == [(("soon",), b"soon"), (("late",), b"late")]
    assert timers.take_due(NOW + timedelta(days=1)) == []


def test_the_clock_stands_still_until_it_is_moved() -> None:
    manual = ManualClock(NOW)
    clock: Clock = manual
    assert clock.now() == NOW
    manual.advance(timedelta(minutes=1))
    assert clock.now() == NOW + timedelta(minutes=1)


def test_ids_can_be_foretold() -> None:
    ids: Ids = SequentialIds("task")
    assert [ids.new(), ids.new()] == ["task-1", "task-2"]

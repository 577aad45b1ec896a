"""What the log of events does when the broker is full, away, or holds what nobody can read."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from nats.aio.client import Client

from deploy.local.nats import NatsServer
from shared.envelope import Stored, encode
from shared.jetstream import tail
from shared.jetstream.connection import close, connect
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError, UnreadableCommitError
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.topology import COMMANDS, EVENTS, command_subject, event_subject
from shared.ports import LogFullError, LogUnavailableError
from tests.contracts.commits import TEAM, new_commit
from tests.contracts.proxy import lossy_proxy
from tests.support.eventually import eventually

SMALL = 64 * 1024


async def shrink(nc: Client) -> None:
    config = (await nc.jsm().stream_info(EVENTS)).config
    await nc.jsm().update_stream(replace(config, max_bytes=SMALL))


async def test_a_full_log_says_so_and_loses_nothing(nc: Client) -> None:
    await shrink(nc)
    log, stored = JetStreamEventLog(nc), list[Stored]()

    async def fill() -> None:
        for version in range(1, 1000):
            commit = new_commit("orc", version=version, reason="x" * 1000)
            expected = stored[-1].sequence if stored else 0
            stored.append(Stored(await log.append(commit, expected=expected), commit))

    with pytest.raises(LogFullError):
        await fill()
    assert len(stored) > 30
    assert await log.read(TEAM, "orc") == stored
    # A commit that is stored is known as such even when nothing more can be.
    before = stored[-2].sequence
    assert await log.append(stored[-1].commit, expected=before) == stored[-1].sequence


async def test_without_a_broker_the_budget_ends_the_wait(nats: NatsServer, nc: Client) -> None:
    log = JetStreamEventLog(nc, budget=1)
    nats.kill()
    async with asyncio.timeout(25):  # the usual budget is 30 s for each
        with pytest.raises(LogUnavailableError):
            await log.append(new_commit("orc"), expected=0)
        with pytest.raises(LogUnavailableError):
            await log.read(TEAM, "orc")
        with pytest.raises(LogUnavailableError):
            await log.last_sequence()


async def test_a_frozen_broker_costs_time_but_no_doubles(nats: NatsServer, nc: Client) -> None:
    log = JetStreamEventLog(nc)
    commit = new_commit("orc")
    nats.pause()
    appending = asyncio.create_task(log.append(commit, expected=0))
    await asyncio.sleep(2.5)  # more than one try
    assert not appending.done()
    nats.resume()
    assert await appending == 1
    assert await log.read(TEAM, "orc") == [Stored(1, commit)]


async def test_a_closed_connection_is_an_answer_at_once(nats: NatsServer) -> None:
    nc = await connect(nats.url, "test", within=10)
    log = JetStreamEventLog(nc)
    await nc.close()
    async with asyncio.timeout(20):  # the budget is 30 s
        with pytest.raises(LogUnavailableError):
            await log.append(new_commit("orc"), expected=0)
        with pytest.raises(LogUnavailableError):
            await log.read(TEAM, "orc")


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        b"{}",
        encode(new_commit("orc")).replace(b"orchestration.activated", b"orchestration.of_tomorrow"),
    ],
)
async def test_what_cannot_be_read_stops_the_reader_with_its_place(nc: Client, body: bytes) -> None:
    log = JetStreamEventLog(nc)
    good = new_commit("orc")
    await log.append(good, expected=0)
    await JetStreamPublisher(nc).publish(event_subject(TEAM, "orc"), body, stream=EVENTS, msg_id="bad")
    later = new_commit("other")
    await log.append(later, expected=0)
    with pytest.raises(UnreadableCommitError) as found:
        await log.read(TEAM, "orc")
    assert (found.value.sequence, found.value.subject) == (2, f"evt.{TEAM}.orc")
    seen: list[Stored] = []

    async def follow() -> None:
        async for batch in log.follow(after=0):
            seen.extend(batch)

    with pytest.raises(UnreadableCommitError) as found:
        await follow()
    assert (found.value.sequence, seen) == (2, [Stored(1, good)])
    async with asyncio.timeout(30), aclosing(log.follow(after=found.value.sequence)) as rest:  # type: ignore[type-var]
        async for batch in rest:
            assert batch == [Stored(3, later)]
            break


async def test_follow_leaves_no_consumer_behind(nc: Client) -> None:
    log = JetStreamEventLog(nc)
    await log.append(new_commit("orc"), expected=0)
    before = len(await nc.jsm().consumers_info(EVENTS))
    async with aclosing(log.follow(after=0)) as batches:  # type: ignore[type-var]
        async for _ in batches:
            break

    async def as_many_as_before() -> bool:
        return len(await nc.jsm().consumers_info(EVENTS)) == before

    await eventually(as_many_as_before)  # the broker carries requests out in its own time


@pytest.mark.parametrize("cut", [False, True])
async def test_follow_gives_a_commit_that_was_lost_on_the_way(
    nats: NatsServer, nc: Client, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without acks the broker never sends a commit twice, whether or not it arrived."""
    monkeypatch.setattr(tail, "_SILENCE", 600.0)  # it is not noticed by missing heartbeats
    lost = False

    def lose_second(body: bytes) -> bool:
        nonlocal lost
        first_time = b'"second"' in body and not lost
        lost = lost or first_time
        return first_time

    log, commits = JetStreamEventLog(nc), [new_commit(name) for name in ("first", "second", "third")]
    async with lossy_proxy(nats.url, lose_second, cut=cut) as proxy:
        behind = await connect(proxy.url, "test", within=10)
        following = asyncio.create_task(collect(JetStreamEventLog(behind), 3))
        for commit in commits:
            await log.append(commit, expected=0)
        found = await asyncio.wait_for(following, 30)
        await close(behind)
    assert lost
    assert [stored.commit for stored in found] == commits


async def collect(log: JetStreamEventLog, count: int) -> list[Stored]:
    found: list[Stored] = []
    async with aclosing(log.follow(after=0)) as batches:  # type: ignore[type-var]
        async for batch in batches:
            found += batch
            if len(found) >= count:
                break
    return found


async def test_follow_goes_on_when_its_consumer_was_deleted(nc: Client) -> None:
    log = JetStreamEventLog(nc)
    durable = {info.name for info in await nc.jsm().consumers_info(EVENTS)}
    seen: list[int] = []

    async def follow() -> None:
        async for batch in log.follow(after=0):
            seen.extend(stored.sequence for stored in batch)
            if len(seen) == 3:
                return

    following = asyncio.create_task(follow())
    await log.append(new_commit("a"), expected=0)
    await eventually(lambda: seen)
    [mine] = {info.name for info in await nc.jsm().consumers_info(EVENTS)} - durable
    await nc.jsm().delete_consumer(EVENTS, mine)
    await log.append(new_commit("b"), expected=0)
    await log.append(new_commit("c"), expected=0)
    await asyncio.wait_for(following, 60)
    assert seen == [1, 2, 3]


async def test_an_id_that_is_known_is_stored_once(nc: Client) -> None:
    publisher = JetStreamPublisher(nc)
    subject = command_subject(TEAM, "orc")
    first = await publisher.publish(subject, b"x", stream=COMMANDS, msg_id="one")
    again = await publisher.publish(subject, b"x", stream=COMMANDS, msg_id="one")
    assert (again.duplicate, again.sequence) == (True, first.sequence)
    assert (await nc.jsm().stream_info(COMMANDS)).state.messages == 1


async def test_a_message_for_another_stream_is_refused(nc: Client) -> None:
    with pytest.raises(PublishRefusedError):
        await JetStreamPublisher(nc).publish(command_subject(TEAM, "orc"), b"x", stream=EVENTS)


async def test_a_message_that_no_stream_takes_is_given_up_after_the_budget(nc: Client) -> None:
    with pytest.raises(PublishUnavailableError):
        await JetStreamPublisher(nc, budget=0.5).publish("nobody.listens", b"x", stream=EVENTS)

"""What every log of events must do: on one node, on a cluster of three, and in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import pytest
from nats.aio.client import Client

from deploy.local.nats import NatsCluster, NatsServer
from shared.envelope import Stored
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import connect
from shared.jetstream.errors import DuplicateIdError, PayloadTooLargeError
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.topology import EVENTS, TopologySettings
from shared.memory import MemoryEventLog
from shared.ports import ConflictError, EventLog
from tests.contracts.commits import TEAM, new_aggregate, new_commit
from tests.contracts.proxy import is_first_ack, lossy_proxy
from tests.support.eventually import eventually
from tests.support.servers import nats_cluster, nats_server

Kind = Literal["memory", "node", "cluster"]


# Seconds; of what takes long on a machine that is busy, or has to elect a leader first.
_PATIENCE = 120.0


@dataclass
class Broker:
    """Where a log lives: the addresses of its servers, and the servers themselves."""

    urls: list[str]
    servers: list[NatsServer]
    leader_now: Callable[[], NatsServer]
    has_log: bool = False

    async def leader(self) -> NatsServer:
        """Who leads the log, once somebody does."""

        def led() -> NatsServer:
            try:
                return self.leader_now()
            except LookupError as nobody:
                raise AssertionError(str(nobody)) from nobody

        return await eventually(led, timeout=_PATIENCE)


@pytest.fixture(scope="module")
def node() -> Iterator[Broker]:
    with nats_server() as server:
        yield Broker([server.url], [server], lambda: server)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Broker]:
    with nats_cluster() as nodes:
        yield Broker(nodes.urls, nodes.nodes, lambda: _leader(nodes))


def _leader(nodes: NatsCluster) -> NatsServer:
    return nodes.leader_of(EVENTS)


@asynccontextmanager
async def connected(urls: list[str]) -> AsyncIterator[Client]:
    nc = await connect(urls, "test", within=20)
    try:
        yield nc
    finally:
        await nc.close()


async def ensure_log(nc: Client, broker: Broker) -> None:
    if broker.has_log:
        return
    await bootstrap(nc, TopologySettings(replicas=len(broker.urls)))
    broker.has_log = True


@asynccontextmanager
async def log_on(broker: Broker) -> AsyncIterator[JetStreamEventLog]:
    async with connected(broker.urls) as nc:
        await ensure_log(nc, broker)
        yield JetStreamEventLog(nc, budget=_PATIENCE)


BROKERS = [pytest.param("node"), pytest.param("cluster", marks=pytest.mark.cluster)]
EVERY_LOG = ["memory", *BROKERS]


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    found: Broker = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=EVERY_LOG)
async def log(request: pytest.FixtureRequest) -> AsyncIterator[EventLog]:
    if request.param == "memory":
        yield MemoryEventLog()
        return
    async with log_on(request.getfixturevalue(request.param)) as found:
        yield found


async def fill(log: EventLog, aggregate: str, count: int) -> list[Stored]:
    """Append `count` commits and return them as they were stored."""
    stored: list[Stored] = []
    for version in range(1, count + 1):
        commit = new_commit(aggregate, version=version)
        expected = stored[-1].sequence if stored else 0
        stored.append(Stored(await log.append(commit, expected=expected), commit))
    return stored


async def holds(
    log: EventLog, aggregate: str, stored: list[Stored], *, after: int = 0, limit: int | None = None, team: str = TEAM
) -> None:
    """The log gives `stored` when asked for the aggregate: at once, but for a cluster, of which whoever answers may lag
    behind and give the beginning of it."""

    async def gives_all() -> bool:
        if limit is None:
            found = await log.read(team, aggregate, after=after)
        else:
            found = await log.page(team, aggregate, after=after, limit=limit)
        if found != stored[: len(found)]:
            pytest.fail(f"{found} is not the beginning of {stored}")
        return len(found) == len(stored)

    if isinstance(log, JetStreamEventLog) and len(log._nc.servers) > 1:
        await eventually(gives_all, timeout=_PATIENCE)
    else:
        assert await gives_all()


async def collect(log: EventLog, *, after: int, upto: int) -> list[Stored]:
    """Follow the log until it shows the sequence `upto`."""
    found: list[Stored] = []
    async with asyncio.timeout(_PATIENCE), aclosing(log.follow(after=after)) as batches:  # type: ignore[type-var]
        async for batch in batches:
            found += batch
            if found[-1].sequence >= upto:
                return found
    raise AssertionError("follow ended by itself")


async def test_what_was_appended_is_read_back_in_order(log: EventLog) -> None:
    aggregate = new_aggregate()
    stored = await fill(log, aggregate, 3)
    await holds(log, aggregate, stored)


async def test_an_aggregate_without_history_is_empty(log: EventLog) -> None:
    assert await log.read(TEAM, new_aggregate()) == []


async def test_a_history_of_more_than_one_answer_is_read_whole(log: EventLog) -> None:
    aggregate = new_aggregate()
    stored = await fill(log, aggregate, 600)
    await holds(log, aggregate, stored)
    await holds(log, aggregate, stored[:550], after=0, limit=550)


async def test_a_history_is_read_page_by_page(log: EventLog) -> None:
    aggregate = new_aggregate()
    stored = await fill(log, aggregate, 5)
    await holds(log, aggregate, stored[:2], after=0, limit=2)
    await holds(log, aggregate, stored[2:4], after=stored[1].sequence, limit=2)
    await holds(log, aggregate, stored[4:], after=stored[3].sequence, limit=2)
    assert await log.page(TEAM, aggregate, after=stored[4].sequence, limit=2) == []


async def test_read_after_gives_only_what_is_new(log: EventLog) -> None:
    aggregate = new_aggregate()
    stored = await fill(log, aggregate, 5)
    await holds(log, aggregate, stored[3:], after=stored[2].sequence)
    assert await log.read(TEAM, aggregate, after=stored[-1].sequence) == []


async def test_aggregates_and_teams_do_not_see_each_other(log: EventLog) -> None:
    aggregate = new_aggregate()
    await fill(log, aggregate, 2)
    other = new_commit(aggregate, team="team-2")
    sequence = await log.append(other, expected=0)
    await holds(log, aggregate, [Stored(sequence, other)], team="team-2")


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "a\r\nPUB x 0"])
async def test_names_that_are_not_plain_tokens_are_refused(log: EventLog, name: str) -> None:
    with pytest.raises(ValueError, match="token"):
        await log.append(new_commit(name), expected=0)
    with pytest.raises(ValueError, match="token"):
        await log.read(name, "a")


async def test_a_commit_of_more_than_512_kib_is_refused_before_it_is_sent(log: EventLog) -> None:
    aggregate = new_aggregate()
    with pytest.raises(PayloadTooLargeError):
        await log.append(new_commit(aggregate, reason="x" * 512 * 1024), expected=0)
    assert await log.read(TEAM, aggregate) == []


@pytest.mark.parametrize("expected", [0, 1_000_000])
async def test_an_append_at_the_wrong_sequence_is_a_conflict(log: EventLog, expected: int) -> None:
    aggregate = new_aggregate()
    stored = await fill(log, aggregate, 2)
    with pytest.raises(ConflictError):
        await log.append(new_commit(aggregate, version=3), expected=expected)
    await holds(log, aggregate, stored)


async def test_of_fifty_writers_at_one_sequence_exactly_one_wins(log: EventLog) -> None:
    aggregate = new_aggregate()
    [first] = await fill(log, aggregate, 1)
    commits = [new_commit(aggregate, version=2) for _ in range(50)]
    outcomes = await asyncio.gather(
        *(log.append(commit, expected=first.sequence) for commit in commits), return_exceptions=True
    )
    conflicts = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
    assert len(conflicts) == 49, outcomes
    [winner] = [
        Stored(outcome, commit) for commit, outcome in zip(commits, outcomes, strict=True) if isinstance(outcome, int)
    ]
    await holds(log, aggregate, [first, winner])


async def test_appending_a_stored_commit_again_answers_its_sequence(log: EventLog) -> None:
    aggregate = new_aggregate()
    stored = await fill(log, aggregate, 3)
    again = [
        await log.append(stored[1].commit, expected=stored[0].sequence),
        await log.append(stored[2].commit, expected=stored[1].sequence),
        await log.append(stored[2].commit, expected=stored[2].sequence),
    ]
    assert again == [stored[1].sequence, stored[2].sequence, stored[2].sequence]
    await holds(log, aggregate, stored)


async def test_the_id_of_another_aggregates_commit_is_refused_and_never_dropped_silently(
    log: EventLog,
) -> None:
    aggregate, other = new_aggregate(), new_aggregate()
    [first] = await fill(log, aggregate, 1)
    with pytest.raises(DuplicateIdError):
        await log.append(new_commit(other, commit_id=first.commit.commit_id), expected=0)
    assert await log.read(TEAM, other) == []


async def test_follow_gives_history_and_then_what_comes_without_gap(log: EventLog) -> None:
    before = await log.last_sequence()
    aggregate = new_aggregate()
    old = await fill(log, aggregate, 3)
    following = asyncio.create_task(collect(log, after=before, upto=old[-1].sequence + 3))
    await asyncio.sleep(0)
    new = await fill(log, new_aggregate(), 3)
    assert await following == old + new


async def test_follow_after_the_end_hands_over_a_lone_commit_at_once(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is not to wait for the broker's next sign of life, or until the broker ends a pull that is not full.
    monkeypatch.setattr("shared.jetstream.tail._HEARTBEAT", 120.0)
    monkeypatch.setattr("shared.jetstream.tail._PULL_SECONDS", 300.0)
    end = await log.last_sequence()
    following = asyncio.create_task(collect(log, after=end, upto=end + 1))
    await asyncio.sleep(0.3)  # it waits for news now
    stored = await fill(log, new_aggregate(), 1)
    async with asyncio.timeout(20):
        assert await following == stored


async def test_the_last_sequence_is_that_of_the_newest_commit(log: EventLog) -> None:
    stored = await fill(log, new_aggregate(), 2)
    assert await log.last_sequence() == stored[-1].sequence


async def test_a_thousand_lost_answers_leave_a_thousand_commits(broker: Broker) -> None:
    """Each commit is stored and its ack is lost on the way, so that each has to be tried again."""
    commits = [new_commit(new_aggregate()) for _ in range(1000)]
    async with log_on(broker) as direct:
        before = await direct.last_sequence()
        async with lossy_proxy((await broker.leader()).url, is_first_ack) as proxy, connected([proxy.url]) as nc:
            log = JetStreamEventLog(nc, budget=_PATIENCE)
            sequences = await asyncio.gather(*(log.append(commit, expected=0) for commit in commits))
        assert proxy.lost == 1000
        assert sorted(sequences) == list(range(before + 1, before + 1001))
        stored = await collect(direct, after=before, upto=before + 1000)
    by_sequence = {item.sequence: item.commit for item in stored}
    assert [by_sequence[sequence] for sequence in sequences] == commits


async def test_connections_cut_before_the_answer_leave_each_commit_once(broker: Broker) -> None:
    aggregate = new_aggregate()
    stored: list[Stored] = []
    async with log_on(broker) as direct:
        async with lossy_proxy((await broker.leader()).url, is_first_ack, cut=True) as proxy:
            last = 0
            for version in range(1, 6):
                commit = new_commit(aggregate, version=version)
                # One connection each: a client of a cluster goes on with a server that has no proxy.
                async with connected([proxy.url]) as nc:
                    last = await JetStreamEventLog(nc).append(commit, expected=last)
                stored.append(Stored(last, commit))
        assert proxy.lost == 5
        await holds(direct, aggregate, stored)


async def test_killing_the_leader_amid_appends_loses_and_doubles_nothing(broker: Broker) -> None:
    async with log_on(broker) as log:
        before = await log.last_sequence()
        writers = [asyncio.create_task(fill(log, new_aggregate(), 40)) for _ in range(10)]
        await collect(log, after=before, upto=before + 100)
        killed = await broker.leader()
        killed.kill()
        try:
            if len(broker.servers) == 1:
                killed.start()
            histories = await asyncio.gather(*writers)
        finally:
            if not killed.alive:
                killed.start()
        assert await log.last_sequence() == before + 400
        for history in histories:
            await holds(log, history[0].commit.aggregate, history)


async def test_follow_sees_everything_across_a_killed_and_restarted_broker(broker: Broker) -> None:
    async with log_on(broker) as log:
        before = await log.last_sequence()
        following = asyncio.create_task(collect(log, after=before, upto=before + 60))
        first = await fill(log, new_aggregate(), 30)
        killed = await broker.leader()
        killed.kill()
        killed.launch()  # not in a thread: it ends with whoever launched it, and is for other tests as well
        await asyncio.to_thread(killed.wait_ready)
        second = await fill(log, new_aggregate(), 30)
        assert await following == first + second

"""What every key-value table must do, on a broker and in memory."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.local.nats import NatsServer
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import connect
from shared.jetstream.kv import Entry, JetStreamKeyValue, KeyValue
from shared.jetstream.topology import SLOTS, TopologySettings
from shared.memory import MemoryKeyValue
from tests.contracts.proxy import is_first_ack, lossy_proxy
from tests.support.eventually import eventually


@pytest.fixture(params=["memory", "node"])
async def table(request: pytest.FixtureRequest) -> AsyncIterator[KeyValue]:
    if request.param == "memory":
        yield MemoryKeyValue()
        return
    server: NatsServer = request.getfixturevalue("nats")
    nc = await connect(server.url, "test", within=10)
    await bootstrap(nc, TopologySettings())
    yield JetStreamKeyValue(nc, SLOTS)
    await nc.close()


async def read(table: KeyValue, key: str) -> Entry:
    entry = await table.get(key)
    assert entry is not None
    return entry


async def test_of_fifty_who_take_a_key_one_gets_it(table: KeyValue) -> None:
    taken = await asyncio.gather(*(table.create("slot.1", f"holder-{n}".encode()) for n in range(50)))
    assert taken.count(True) == 1
    assert (await read(table, "slot.1")).value == f"holder-{taken.index(True)}".encode()


async def test_a_key_that_nobody_has_is_none(table: KeyValue) -> None:
    assert await table.get("slot.1") is None


async def test_a_key_given_back_can_be_taken_again(table: KeyValue) -> None:
    for holder in (b"a", b"b", b"c"):
        assert await table.create("slot.1", holder) is True
        assert await table.create("slot.1", b"other") is False
        assert await table.delete("slot.1") is True
        assert await table.get("slot.1") is None
    assert await table.delete("never.taken") is True


async def test_of_fifty_who_change_the_same_revision_one_succeeds(table: KeyValue) -> None:
    await table.create("limit", b"0")
    entry = await read(table, "limit")
    changed = await asyncio.gather(*(table.update("limit", b"same", revision=entry.revision) for _ in range(50)))
    assert changed.count(True) == 1
    newer = await read(table, "limit")
    assert (newer.value, newer.revision > entry.revision) == (b"same", True)


async def test_a_key_is_deleted_only_at_the_revision_that_was_seen(table: KeyValue) -> None:
    await table.create("slot.1", b"a")
    old = await read(table, "slot.1")
    await table.update("slot.1", b"b", revision=old.revision)
    assert await table.delete("slot.1", revision=old.revision) is False
    new = await read(table, "slot.1")
    assert new.value == b"b"
    assert await table.delete("slot.1", revision=new.revision) is True
    assert await table.get("slot.1") is None


async def test_a_deleted_key_cannot_be_changed(table: KeyValue) -> None:
    await table.create("slot.1", b"a")
    entry = await read(table, "slot.1")
    await table.delete("slot.1")
    assert await table.update("slot.1", b"b", revision=entry.revision) is False


@pytest.mark.parametrize("key", ["", ".", "a..b", "a b", "*", ">", "a.>"])
async def test_odd_keys_and_empty_values_are_refused(table: KeyValue, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        await table.create(key, b"x")
    with pytest.raises(ValueError, match="empty"):
        await table.create("key", b"")


async def test_a_view_has_all_keys_at_once_and_then_every_change(table: KeyValue) -> None:
    await table.create("a", b"1")
    await table.create("b", b"1")
    await table.delete("b")
    async with table.view() as view:
        assert {key: entry.value for key, entry in view.entries.items()} == {"a": b"1"}
        changed = asyncio.create_task(view.changed())
        await asyncio.sleep(0)
        await table.create("c", b"3")
        await asyncio.wait_for(changed, 30)
        await eventually(lambda: set(view.entries) == {"a", "c"})
        await table.update("a", b"2", revision=(await read(table, "a")).revision)
        await table.delete("c")
        await eventually(lambda: [entry.value for entry in view.entries.values()] == [b"2"])
        found = view.get("a")
        assert found == await read(table, "a")
        assert len(view) == 1


async def test_a_view_of_an_empty_table_is_there_at_once(table: KeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.jetstream.tail._HEARTBEAT", 120.0)  # by which an idle broker would tell at last
    monkeypatch.setattr("shared.jetstream.tail._PULL_SECONDS", 300.0)
    async with asyncio.timeout(20), table.view() as view:
        assert len(view) == 0


async def test_a_view_is_right_again_after_the_broker_was_killed(nats: NatsServer) -> None:
    nc = await connect(nats.url, "test", within=10)
    await bootstrap(nc, TopologySettings())
    table = JetStreamKeyValue(nc, SLOTS)
    await table.create("a", b"1")
    await table.create("b", b"1")
    async with table.view() as view:
        nats.kill()
        await asyncio.to_thread(nats.start)
        await table.delete("a")
        await table.create("c", b"1")
        await eventually(lambda: set(view.entries) == {"b", "c"})
    await nc.close()


async def test_taking_a_key_whose_answer_is_lost_is_known_to_have_worked(nats: NatsServer) -> None:
    direct = await connect(nats.url, "test", within=10)
    await bootstrap(direct, TopologySettings())
    async with lossy_proxy(nats.url, is_first_ack) as proxy:
        nc = await connect(proxy.url, "test", within=10)
        table = JetStreamKeyValue(nc, SLOTS)
        taken = await asyncio.gather(*(table.create(f"slot.{n}", b"me") for n in range(50)))
        assert proxy.lost == 50
        entry = await read(table, "slot.1")
        assert await table.update("slot.1", b"you", revision=entry.revision) is True
        await nc.close()
    assert all(taken)
    await direct.close()

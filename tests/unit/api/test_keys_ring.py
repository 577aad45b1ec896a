"""What is believed of a key, and for how long."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from services.api.auth import Principal
from services.api.errors import ApiError
from services.api.keys import NewKey, make_key, short_id
from services.api.keys_ring import REFRESH_SECONDS, TRUST_SECONDS, Keyring
from services.api.keys_table import KeyRecord
from services.api.keys_use import LastUse
from shared.memory import ManualClock
from shared.system import RandomIds

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Table:
    """The rows, how often they were asked for, and whether they can be."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}
        self.asked = 0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def find(self, key_id: str) -> KeyRecord | None:
        self.asked += 1
        record = self.records.get(key_id)
        await self.gate.wait()
        if self.away:
            raise psycopg.OperationalError("away")
        return record


class World:
    def __init__(self) -> None:
        self.table = Table()
        self.clock = ManualClock(START)
        self.used: list[str] = []
        self.ring = Keyring(self.table, self.clock, on_use=self.used.append, now=self.seconds)

    def seconds(self) -> float:
        return (self.clock.now() - START).total_seconds()

    def key(self, **changes: Any) -> NewKey:
        """A key that is in the table."""
        key = make_key("test", short_id(RandomIds().new()))
        record = KeyRecord(
            key.id, key.sha256, "a", "ci", ["orchestrations:read"], False, None, START, "operator", None, None
        )
        self.table.records[key.id] = replace(record, **changes)
        return key

    def revoke(self, key: NewKey) -> None:
        self.table.records[key.id] = replace(self.table.records[key.id], revoked_at=self.clock.now())

    def passes(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def show(self, key: NewKey) -> Coroutine[Any, Any, Principal | None]:
        return self.ring.authenticate(key.text.encode())

    async def refused(self, key: NewKey) -> bool:
        """Whether it is refused, for whatever reason."""
        try:
            return await self.show(key) is None
        except ApiError as exc:
            return exc.code == "INVALID_API_KEY"


@pytest.fixture(name="world")
def _world() -> World:
    return World()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_key_is_its_holder(world: World) -> None:
    key = world.key(team="b", operator=True)
    assert await world.show(key) == Principal("b", "ci", frozenset({"orchestrations:read"}), key.id, operator=True)
    assert world.used == [key.id]


async def test_a_key_is_looked_up_once_for_many_requests(world: World) -> None:
    key = world.key()
    assert None not in await asyncio.gather(*(world.show(key) for _ in range(100)))
    assert world.table.asked == 1


async def test_a_revoked_key_is_refused_by_the_end_of_trust_though_nobody_says_so(world: World) -> None:
    key = world.key()
    await world.show(key)
    world.revoke(key)
    world.passes(TRUST_SECONDS)
    assert await world.refused(key)
    assert TRUST_SECONDS < 30


async def test_what_is_known_is_refreshed_beside_the_request(world: World) -> None:
    key = world.key()
    await world.show(key)
    world.revoke(key)
    world.passes(REFRESH_SECONDS)
    assert await world.show(key) is not None
    await settled()
    assert await world.refused(key)


async def test_a_revocation_that_is_told_counts_at_once(world: World) -> None:
    key = world.key()
    await world.show(key)
    world.revoke(key)
    world.ring.forget(key.id)
    assert await world.refused(key)


async def test_a_key_that_is_revoked_while_it_is_read_is_not_believed_afterwards(world: World) -> None:
    key = world.key()
    world.table.gate.clear()
    reading = asyncio.create_task(world.show(key))
    await settled()
    world.revoke(key)
    world.ring.forget(key.id)
    world.table.gate.set()
    await reading
    assert await world.refused(key)


async def test_an_expired_key_is_refused_at_that_moment_and_no_later(world: World) -> None:
    key = world.key(expires_at=START + timedelta(seconds=3))
    assert await world.show(key) is not None
    world.passes(2.999)
    assert await world.show(key) is not None
    world.passes(0.001)
    with pytest.raises(ApiError, match="expired"):
        await world.show(key)


async def test_who_has_the_whole_key_is_told_why_it_is_refused(world: World) -> None:
    key = world.key(revoked_at=START)
    with pytest.raises(ApiError, match="revoked"):
        await world.show(key)
    wrong = make_key("test", key.id)
    assert await world.show(wrong) is None
    assert world.used == []


async def test_a_wrong_secret_is_looked_up_like_an_unknown_id(world: World) -> None:
    known = world.key()
    await world.show(known)
    world.table.asked = 0
    assert await world.show(make_key("test", known.id)) is None
    assert await world.show(make_key("test", "zzzzzzzz")) is None
    assert world.table.asked == 2


async def test_an_unknown_key_is_not_looked_up_over_and_over(world: World) -> None:
    unknown = make_key("test", "zzzzzzzz")
    for _ in range(10):
        assert await world.show(unknown) is None
    assert world.table.asked == 1


async def test_what_is_no_key_is_not_looked_up(world: World) -> None:
    for key in (b"", b"nonsense", world.key().text.encode()[:-1]):
        assert await world.ring.authenticate(key) is None
    assert world.table.asked == 0


async def test_nonsense_pushes_no_known_key_out(world: World) -> None:
    key = world.key()
    await world.show(key)
    for _ in range(3000):
        await world.show(make_key("test", "zzzzzzzz"))
    world.table.away = True
    assert await world.show(key) is not None
    assert len(world.ring._unknown) <= 1000


async def test_while_the_database_is_away_known_keys_are_good_to_the_end_of_trust(world: World) -> None:
    key = world.key()
    await world.show(key)
    world.table.away = True
    world.passes(TRUST_SECONDS - 0.001)
    assert await world.show(key) is not None
    await settled()
    world.passes(0.001)
    with pytest.raises(psycopg.OperationalError):
        await world.show(key)
    with pytest.raises(psycopg.OperationalError):
        await world.show(make_key("test", "zzzzzzzz"))
    world.table.away = False
    assert await world.show(key) is not None


async def test_who_gives_up_waiting_leaves_the_others_their_answer(world: World) -> None:
    key = world.key()
    world.table.gate.clear()
    first, second = (asyncio.create_task(world.show(key)) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    world.table.gate.set()
    assert await second is not None
    assert world.table.asked == 1


async def test_a_key_is_recognised_once_it_was_good_and_until_it_is_not(world: World) -> None:
    key = world.key()
    assert not world.ring.recognises(key.text.encode())
    await world.show(key)
    world.passes(3600)
    assert world.ring.recognises(key.text.encode())
    world.revoke(key)
    assert await world.refused(key)
    assert not world.ring.recognises(key.text.encode())


async def test_the_last_use_is_kept_until_it_can_be_written() -> None:
    clock, written, away = ManualClock(START), [], True

    async def write(used: Any) -> None:
        if away:
            raise psycopg.OperationalError("away")
        written.append(dict(used))

    use = LastUse(write, clock)
    use.note("a")
    use.note("b")
    await use.flush()
    clock.advance(timedelta(seconds=1))
    use.note("b")
    away = False
    await use.flush()
    await use.flush()
    assert written == [{"a": START, "b": START + timedelta(seconds=1)}]

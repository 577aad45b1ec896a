"""How much a key may ask, and how often an address may fail."""

import asyncio

import psycopg
import pytest

from services.api import request_limit
from services.api.auth import Gate, OneKey
from services.api.errors import ApiError
from services.api.failed_attempts import FailedAttempts
from services.api.request_limit import QuotaExceededError, RequestQuota, Share, Standing


class Time:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class MemoryShares:
    """One window for all replicas, as the row in the database."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.windows: dict[str, tuple[float, int]] = {}
        self.asked = 0
        self.away = False
        self.hangs = False

    async def take(self, key_id: str, limit: int, share: int) -> Share:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(3600)
        if self.away:
            raise psycopg.OperationalError("away")
        ends, granted = self.windows.get(key_id, (self.time.now, 0))
        if self.time.now >= ends:
            ends, granted = self.time.now + 60, 0
        given = min(share, -(-max(0, limit - granted) // 4))
        self.windows[key_id] = (ends, granted + given)
        await asyncio.sleep(0)
        return Share(given, granted + given, ends - self.time.now)


class World:
    def __init__(self, limit: int = 600, replicas: int = 1) -> None:
        self.time = Time()
        self.shares = MemoryShares(self.time)
        self.replicas = [RequestQuota(self.shares, limit, now=self.time) for _ in range(replicas)]

    async def ask(self, key_id: str = "k", replica: int = 0) -> Standing | None:
        """None when it is refused."""
        try:
            return await self.replicas[replica].take(key_id)
        except QuotaExceededError:
            return None

    async def allowed(self, attempts: int, key_id: str = "k") -> int:
        """How many of so many requests are served, asked at once and in turn at all replicas."""
        asked = (self.ask(key_id, number % len(self.replicas)) for number in range(attempts))
        return sum(standing is not None for standing in await asyncio.gather(*asked))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that answers is waited for, however slow this machine is."""
    monkeypatch.setattr(request_limit, "_PATIENCE_SECONDS", 30.0)


@pytest.mark.parametrize("limit", [1, 2, 7, 60, 600, 10_000])
async def test_a_key_has_its_limit_in_each_minute(limit: int) -> None:
    world = World(limit)
    assert await world.allowed(limit + 50) == limit
    world.time.now += 59.9
    assert await world.allowed(5) == 0
    world.time.now += 0.1
    assert await world.allowed(limit + 50) == limit


async def test_many_replicas_together_give_no_more_than_the_limit() -> None:
    world = World(600, replicas=5)
    assert await world.allowed(3000) == 600


async def test_what_one_replica_keeps_from_the_others_is_little() -> None:
    world = World(600, replicas=2)
    await world.ask(replica=1)
    served = 0
    while await world.ask(replica=0) is not None:
        served += 1
    assert served >= 0.94 * 600


async def test_most_requests_ask_nobody_else_and_refused_ones_never_do() -> None:
    world = World(600)
    await world.allowed(600)
    assert world.shares.asked < 60
    world.shares.asked = 0
    assert await world.allowed(1000) == 0
    assert world.shares.asked <= 1


async def test_keys_do_not_share_their_limit() -> None:
    world = World(10)
    assert await world.allowed(20, "a") == 10
    assert await world.allowed(20, "b") == 10


async def test_a_client_is_told_how_it_stands() -> None:
    world = World(100)
    assert await world.ask() == Standing(100, 99, 60)
    world.time.now += 20.5
    standing = await world.ask()
    assert standing == Standing(100, 98, 40)
    assert standing.headers() == {
        "RateLimit-Limit": "100",
        "RateLimit-Remaining": "98",
        "RateLimit-Reset": "40",
        "RateLimit-Policy": '"default";q=100;w=60',
        "RateLimit": '"default";r=98;t=40',
    }


async def test_without_the_database_each_replica_counts_by_itself_and_stays_within_the_limit() -> None:
    world = World(50)
    world.shares.away = True
    assert await world.allowed(200) == 50
    assert world.shares.asked == 1
    world.time.now += 60
    world.shares.away = False
    assert await world.allowed(200) == 50


async def test_a_database_that_goes_in_the_middle_of_a_minute_gives_nobody_more() -> None:
    world = World(50)
    assert await world.allowed(20) == 20
    world.shares.away = True
    assert await world.allowed(200) == 30


async def test_a_database_that_hangs_holds_no_request_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limit, "_PATIENCE_SECONDS", 0.05)
    world = World(50)
    world.shares.hangs = True
    async with asyncio.timeout(30):
        assert await world.allowed(200) == 50
    assert world.shares.asked == 1


async def test_zero_is_no_limit() -> None:
    quota = World(0).replicas[0]
    assert [await quota.take("k") for _ in range(100)] == [None] * 100


def failures(limit: int = 20) -> tuple[FailedAttempts, Time]:
    time = Time()
    return FailedAttempts(limit, now=time), time


def test_an_address_may_fail_twenty_times_a_minute() -> None:
    attempts, time = failures()
    for _ in range(20):
        attempts.check("192.0.2.1")
        attempts.note("192.0.2.1")
        time.now += 1
    with pytest.raises(ApiError) as refused:
        attempts.check("192.0.2.1")
    assert (refused.value.code, refused.value.headers) == ("RATE_LIMIT_EXCEEDED", {"Retry-After": "40"})
    attempts.check("192.0.2.2")
    time.now += 40
    attempts.check("192.0.2.1")
    attempts.note("192.0.2.1")
    with pytest.raises(ApiError):
        attempts.check("192.0.2.1")


def test_all_addresses_of_one_holder_count_as_one() -> None:
    attempts, _ = failures(2)
    attempts.note("2001:db8::1")
    attempts.note("2001:db8::ffff:1")
    with pytest.raises(ApiError):
        attempts.check("2001:db8::2")
    attempts.check("2001:db8:0:1::2")


def test_the_memory_for_addresses_is_bounded() -> None:
    attempts, _ = failures()
    for number in range(30_000):
        attempts.note(f"host-{number}")
    assert len(attempts._failures) <= 10_000


async def test_a_good_key_is_let_in_from_where_others_fail() -> None:
    good = "a-key-for-tests-only"
    gate = Gate([OneKey(good, team="a")], FailedAttempts(3), World(0).replicas[0])
    codes = []
    for _ in range(5):
        with pytest.raises(ApiError) as refused:
            await gate.admit(b"wrong", "192.0.2.1")
        codes.append(refused.value.code)
    assert codes == ["INVALID_API_KEY"] * 3 + ["RATE_LIMIT_EXCEEDED"] * 2
    principal, standing = await gate.admit(good.encode(), "192.0.2.1")
    assert (principal.team, principal.operator, standing) == ("a", True, None)

"""The limit of calls to the provider is one for the whole installation."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from shared.cursor.errors import ProviderError
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError
from shared.jetstream.kv import Entry
from shared.memory import ManualClock, MemoryKeyValue
from shared.provider_client import rates
from shared.rate_limit import Rate, SharedRateLimiter
from shared.settings import ProviderSettings

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Installation:
    """Limiters on one bucket and one clock, which their waits move."""

    def __init__(self, bucket: MemoryKeyValue | None = None, **rates: int) -> None:
        self.bucket = bucket or MemoryKeyValue()
        self.clock = ManualClock(START)
        self.rates = {endpoint: Rate(rate) for endpoint, rate in rates.items()}
        self.waits: list[float] = []

    def limiter(self) -> SharedRateLimiter:
        return SharedRateLimiter(self.bucket, self.clock, self.rates, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.waits.append(seconds)
        self.clock.advance(timedelta(seconds=seconds))

    @property
    def seconds(self) -> float:
        return (self.clock.now() - START).total_seconds()


async def refused(limiter: SharedRateLimiter, endpoint: str) -> ProviderError:
    with pytest.raises(ProviderError) as error:
        await limiter.acquire(endpoint)
    assert error.value.code == "rate_limit_exceeded"
    assert error.value.retryable
    assert error.value.outcome_known
    assert error.value.retry_after is not None
    return error.value


async def test_two_limiters_share_one_limit() -> None:
    here = Installation(get=60)
    limiters = [here.limiter(), here.limiter()]
    for number in range(120):
        await limiters[number % 2].acquire("get")
    assert here.seconds == pytest.approx(117, abs=1)


class Contended(MemoryKeyValue):
    """A bucket that answers a moment later, so that others come in between; `reads` are how often it was asked."""

    reads = 0

    async def get(self, key: str) -> Entry | None:
        self.reads += 1
        entry = await super().get(key)
        await asyncio.sleep(0)
        return entry


async def test_a_hundred_calls_of_a_process_at_once_do_not_make_each_other_ask_again() -> None:
    here = Installation(bucket := Contended(), get=60_000)
    limiter = here.limiter()
    await asyncio.gather(*(limiter.acquire("get") for _ in range(100)))
    assert bucket.reads == 100


async def test_what_is_allowed_in_a_minute_is_exceeded_by_a_twentieth_at_most() -> None:
    here = Installation(get=100)
    limiter = here.limiter()
    times = []
    for _ in range(400):
        await limiter.acquire("get")
        times.append(here.seconds)
    most = max(sum(1 for other in times if time <= other < time + 60) for time in times)
    assert 100 <= most <= 105


async def test_a_low_limit_lets_no_two_calls_come_at_once() -> None:
    here = Installation(create=10)
    limiter = here.limiter()
    await limiter.acquire("create")
    error = await refused(limiter, "create")
    assert error.retry_after == pytest.approx(6.0)
    assert here.waits == [], "a longer wait than five seconds is the caller's"
    here.clock.advance(timedelta(seconds=6))
    await limiter.acquire("create")


async def test_a_refused_call_uses_nothing_up() -> None:
    here = Installation(create=10)
    limiter = here.limiter()
    await limiter.acquire("create")
    for _ in range(20):
        await refused(limiter, "create")
    here.clock.advance(timedelta(seconds=6))
    await limiter.acquire("create")


async def test_time_without_calls_is_not_saved_up() -> None:
    here = Installation(get=60)
    limiter = here.limiter()
    await limiter.acquire("get")
    here.clock.advance(timedelta(hours=1))
    for _ in range(20):
        await limiter.acquire("get")
    assert len(here.waits) == 17


async def test_zero_and_unnamed_endpoints_are_not_limited() -> None:
    here = Installation(get=0)
    limiter = here.limiter()
    for _ in range(1000):
        await limiter.acquire("get")
        await limiter.acquire("other")
    assert here.waits == []


async def test_limits_of_endpoints_are_apart() -> None:
    here = Installation(create=10, get=100)
    limiter = here.limiter()
    await limiter.acquire("create")
    await limiter.acquire("get")
    assert here.waits == []


@pytest.mark.parametrize("rate", [0, 10])
async def test_a_clock_that_was_years_ahead_holds_nobody_back_for_years(rate: int) -> None:
    here = Installation(get=rate)
    limiter = here.limiter()
    here.clock.advance(timedelta(days=3650))
    await limiter.acquire("get")
    await limiter.throttled("get", 60.0)
    here.clock.advance(timedelta(days=-3650))
    assert await limiter.wait("get") == 0
    await limiter.acquire("get")
    assert here.waits == []
    await limiter.throttled("get", 60.0)
    assert await limiter.wait("get") == pytest.approx(60.0)


async def test_the_longest_throttle_is_kept_also_by_a_clock_that_is_minutes_behind() -> None:
    here = Installation(get=100)
    limiter = here.limiter()
    await limiter.throttled("get", 900.0)
    here.clock.advance(timedelta(minutes=-4))
    assert (await refused(limiter, "get")).retry_after == pytest.approx(1140.0)


@pytest.mark.parametrize("rate", [0, 10, 100])
async def test_a_throttle_holds_everybody_back_for_as_long_as_it_says(rate: int) -> None:
    here = Installation(get=rate)
    one, other = here.limiter(), here.limiter()
    await one.throttled("get", 30.0)
    assert (await refused(other, "get")).retry_after == pytest.approx(30.0)
    here.clock.advance(timedelta(seconds=29))
    await other.acquire("get")
    assert here.seconds == pytest.approx(30.0)


async def test_a_shorter_throttle_does_not_undo_a_longer_one() -> None:
    here = Installation(get=100)
    limiter = here.limiter()
    await limiter.throttled("get", 60.0)
    await limiter.throttled("get", 1.0)
    assert (await refused(limiter, "get")).retry_after == pytest.approx(60.0)


async def test_many_at_once_get_their_turns_and_no_more_than_the_limit() -> None:
    class Racing(MemoryKeyValue):
        async def get(self, key: str) -> Entry | None:
            entry = await super().get(key)
            await asyncio.sleep(0)
            return entry

    here = Installation(Racing(), get=600)
    limiters = [here.limiter() for _ in range(3)]
    got = 0

    async def call(number: int) -> None:
        nonlocal got
        await limiters[number % 3].acquire("get")
        got += 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(call(number))
    assert got == 30, "a burst of thirty is what six hundred a minute allow"
    assert here.waits == []


async def test_who_never_gets_a_turn_is_told_after_five_seconds_in_all() -> None:
    """Others are always quicker: each wait is short, but together they are not."""
    here = Installation(get=60)
    others = here.limiter()

    waited = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal waited
        waited += seconds
        await here.sleep(seconds)
        await others.acquire("get")

    unlucky = SharedRateLimiter(here.bucket, here.clock, here.rates, sleep=sleep)
    for _ in range(3):
        await others.acquire("get")
    await refused(unlucky, "get")
    assert 3.0 <= waited <= 5.0


@pytest.mark.parametrize("error", [PublishUnavailableError("away"), PublishRefusedError("full")])
@pytest.mark.parametrize("method", ["get", "create"])
async def test_a_broker_that_is_away_is_a_provider_error_and_lets_no_call_through(
    error: Exception, method: str
) -> None:
    class Away(MemoryKeyValue):
        async def get(self, key: str) -> Entry | None:
            if method == "get":
                raise error
            return await super().get(key)

        async def create(self, key: str, value: bytes) -> bool:
            raise error

    limiter = Installation(Away(), get=60).limiter()
    assert (await refused(limiter, "get")).retry_after == 1.0
    await limiter.throttled("get", 5.0)


async def test_cancelling_a_wait_leaves_the_limit_usable() -> None:
    here = Installation(get=60)

    async def hang(seconds: float) -> None:
        await asyncio.Event().wait()

    limiter = SharedRateLimiter(here.bucket, here.clock, here.rates, sleep=hang)
    for _ in range(3):
        await limiter.acquire("get")
    waiting = asyncio.create_task(limiter.acquire("get"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    here.clock.advance(timedelta(seconds=1))
    await here.limiter().acquire("get")


async def test_a_wait_is_foreseen_without_taking_a_share() -> None:
    here = Installation(create=10)
    limiter = here.limiter()
    assert await limiter.wait("create") == 0
    await limiter.acquire("create")
    assert [round(await limiter.wait("create"), 3) for _ in range(3)] == [6, 6, 6]
    assert await here.limiter().wait("get") == 0
    await here.limiter().throttled("create", 60)
    assert await limiter.wait("create") == pytest.approx(60)
    here.clock.advance(timedelta(seconds=61))
    assert await limiter.wait("create") == 0


@pytest.mark.parametrize(("gets", "streams"), [(100, 25), (10, 3), (1, 1), (0, 0)])
def test_streams_are_opened_by_a_part_of_what_may_be_read(gets: int, streams: int) -> None:
    settings = ProviderSettings(nats_url="n", cursor_api_key=SecretStr("k"), get_rate_per_minute=gets)
    assert rates(settings)["get"] == Rate(gets)
    assert rates(settings)["stream"] == Rate(streams)

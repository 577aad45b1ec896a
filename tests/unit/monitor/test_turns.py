"""Of all monitors one sweeps, by the clock, and soon again where something is left to do."""

from datetime import datetime, timedelta
from itertools import pairwise

import psycopg
import pytest

from services.monitor.turns import Turns
from shared.jetstream.errors import PublishUnavailableError
from shared.memory import MemoryKeyValue
from tests.unit.monitor.sweeping import Sweeping, sweeping

both = pytest.mark.parametrize("version", ["v0", "v1"])


async def test_of_two_that_look_one_sweeps_and_again_when_its_time_has_come() -> None:
    async with sweeping() as s:
        bucket, every = MemoryKeyValue(), timedelta(hours=1)
        one, other = Turns(bucket, s.w.clock, every), Turns(bucket, s.w.clock, every)
        assert [await one.take(), await other.take(), await one.take()] == [True, False, False]
        await one.again_in(every)
        s.w.clock.advance(timedelta(minutes=59))
        assert not await other.take()
        s.w.clock.advance(timedelta(minutes=1))
        assert [await other.take(), await one.take()] == [True, False]
        await one.again_in(timedelta(minutes=2))
        assert not await other.take()
        s.w.clock.advance(timedelta(minutes=2))
        assert await one.take()


async def test_the_turn_of_one_that_died_is_taken_by_another() -> None:
    async with sweeping() as s:
        bucket, every = MemoryKeyValue(), timedelta(hours=1)
        assert await Turns(bucket, s.w.clock, every).take()
        s.w.clock.advance(timedelta(minutes=9))
        assert not await Turns(bucket, s.w.clock, every).take()
        s.w.clock.advance(timedelta(minutes=1))
        assert await Turns(bucket, s.w.clock, every).take()


async def test_a_turn_that_a_wrong_clock_put_off_for_years_is_taken() -> None:
    async with sweeping() as s:
        bucket = MemoryKeyValue()
        s.w.clock.advance(timedelta(days=1000))
        assert await Turns(bucket, s.w.clock, timedelta(hours=1)).take()
        s.w.clock.advance(timedelta(days=-1000))
        assert await Turns(bucket, s.w.clock, timedelta(hours=1)).take()


class Enough(Exception):
    """The sweeper has slept often enough."""


async def swept(s: Sweeping, seconds: float) -> list[datetime]:
    """Let it sweep by the clock for so long; gives the moments of its looks at the list."""
    looks: list[datetime] = []
    end = s.now + timedelta(seconds=seconds)

    async def look() -> None:
        looks.append(s.now)

    async def enough() -> None:
        if s.now >= end:
            raise Enough

    s.provider.on_list = [look] * 1000
    s.while_asleep = [enough] * 10_000
    with pytest.raises(Enough):
        await s.sweeper.run(Turns(MemoryKeyValue(), s.w.clock, timedelta(hours=1)))
    return looks


async def test_it_sweeps_by_the_hour() -> None:
    async with sweeping() as s:
        looks = await swept(s, 4 * 3600)
        assert len(looks) == 4
        between = [later - earlier for earlier, later in pairwise(looks)]
        assert all(timedelta(minutes=60) <= pause < timedelta(minutes=63) for pause in between), between


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("away"), PublishUnavailableError("away"), RuntimeError("a defect")]
)
async def test_a_sweep_that_fails_is_repeated_soon(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async with sweeping() as s:
        s.rows.error = error
        s.show()
        looks = await swept(s, 1800)
        assert 6 <= len(looks) <= 15
        assert str(error) in caplog.text


async def test_what_has_not_stopped_yet_is_told_again_soon() -> None:
    async with sweeping() as s:
        await s.give_up()
        s.show()
        await swept(s, 1800)
        assert len(s.stopped) >= 12

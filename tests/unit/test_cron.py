"""When a schedule comes due, also where clocks are changed."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.cron import last_time, next_time
from shared.domain.events import Schedule

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 30 9 * * *", "UTC", "2026-11-01T09:29:59", "2026-11-01T09:30"),
        ("0 30 9 * * *", "UTC", "2026-11-01T09:30:00", "2026-11-02T09:30"),
        ("0 30 9 * * mon-fri", BERLIN, "2026-11-06T12:00", "2026-11-09T08:30"),
        ("*/10 * * * * *", "UTC", "2026-11-01T00:00:01", "2026-11-01T00:00:10"),
        ("0 0 0 29 2 *", "UTC", "2026-03-01T00:00", "2028-02-29T00:00"),
        ("0 0 12 * * *", "Asia/Kolkata", "2026-11-01T00:00", "2026-11-01T06:30"),
    ],
)
def test_the_next_time_is_behind_the_last(cron: str, zone: str, after: str, expected: str) -> None:
    assert next_time(Schedule(cron=cron, timezone=zone), at(after)) == at(expected)


def test_an_hour_that_does_not_exist_is_left_out() -> None:
    schedule = Schedule(cron="0 30 2 * * *", timezone=BERLIN)
    assert next_time(schedule, at("2026-03-28T02:00")) == at("2026-03-30T00:30")


def test_an_hour_that_comes_twice_is_meant_once() -> None:
    schedule = Schedule(cron="0 30 2 * * *", timezone=BERLIN)
    first = next_time(schedule, at("2026-10-24T12:00"))
    assert first == at("2026-10-25T00:30")
    assert next_time(schedule, first) == at("2026-10-26T01:30")


def test_what_runs_every_hour_also_runs_in_the_hour_that_comes_twice() -> None:
    schedule = Schedule(cron="0 30 * * * *", timezone=BERLIN)
    assert next_time(schedule, at("2026-10-25T00:30")) == at("2026-10-25T01:30")


def test_of_the_times_that_were_missed_only_the_last_counts() -> None:
    schedule = Schedule(cron="0 0 * * * *")
    assert last_time(schedule, at("2026-11-01T00:00"), at("2026-11-01T05:10")) == (at("2026-11-01T05:00"), 4)
    assert last_time(schedule, at("2026-11-01T00:00"), at("2026-11-01T01:00")) == (at("2026-11-01T01:00"), 0)
    assert last_time(schedule, at("2026-11-01T00:00"), at("2026-11-01T00:59:59")) is None


def test_a_schedule_of_every_second_that_was_long_away_goes_on_from_now() -> None:
    now = at("2026-11-01T00:00")
    assert last_time(Schedule(cron="* * * * * *"), now - timedelta(days=3650), now) == (now, 1000)


def test_a_schedule_that_last_came_due_days_ago_is_not_forgotten() -> None:
    monthly = Schedule(cron="0 0 0 1 * *")
    assert last_time(monthly, at("2026-08-15T00:00"), at("2026-11-20T00:00")) == (at("2026-11-01T00:00"), 2)

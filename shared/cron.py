"""When a schedule comes due: a cron line of six fields in a time zone."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

from shared.domain.events import Schedule

_MOST_SKIPPED: Final = 100_000


def next_time(schedule: Schedule, after: datetime) -> datetime | None:
    """The first time behind `after`, in UTC; None if there is none within the next 50 years.

    Raises:
        CronSimError: the line is not valid.
    """
    return next(_times(schedule, after), None)


def last_time(schedule: Schedule, after: datetime, now: datetime) -> tuple[datetime, int] | None:
    """The last time behind `after` that is not later than `now`, and how many lie between; None if there is none."""
    found: datetime | None = None
    skipped = -1
    for time in _times(schedule, after):
        if time > now or skipped >= _MOST_SKIPPED:
            break
        found = time
        skipped += 1
    return (found, skipped) if found else None


def _times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    begin = after.astimezone(ZoneInfo(schedule.timezone))
    names_hours = not schedule.cron.split()[2].startswith("*")
    for time in CronSim(schedule.cron, begin):
        # The hour that comes twice when clocks go back: who names an hour means it once.
        if not (time.fold and names_hours) and time > after:
            yield time.astimezone(UTC)

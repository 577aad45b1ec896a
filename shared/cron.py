"""When a schedule comes due: a cron line of six fields in a time zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

from shared.domain.events import Schedule

_NEAR: Final = timedelta(hours=1)
_MOST_COUNTED: Final = 1000


def next_time(schedule: Schedule, after: datetime) -> datetime | None:
    """The first time behind `after`, in UTC; None if there is none within the next 50 years.

    Raises:
        CronSimError: the line is not valid.
    """
    return next(_times(schedule, after), None)


def last_time(schedule: Schedule, after: datetime, now: datetime) -> tuple[datetime, int] | None:
    """The last time behind `after` that is not later than `now`, and how many lie between; None if there is none.

    More than a thousand are not counted.
    """
    # What comes due every second and was missed for a year is not gone through second by second.
    last = _last(schedule, max(after, now - _NEAR), now) or _last(schedule, after, now)
    if last is None:
        return None
    between = takewhile(lambda time: time < last, _times(schedule, after))
    return last, sum(1 for _ in islice(between, _MOST_COUNTED))


def _last(schedule: Schedule, after: datetime, now: datetime) -> datetime | None:
    last = None
    for time in takewhile(lambda time: time <= now, _times(schedule, after)):
        last = time
    return last


def _times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    begin = after.astimezone(ZoneInfo(schedule.timezone))
    names_hours = not schedule.cron.split()[2].startswith("*")
    for time in CronSim(schedule.cron, begin):
        # The hour that comes twice when clocks go back: who names an hour means it once.
        if not (time.fold and names_hours) and time > after:
            yield time.astimezone(UTC)

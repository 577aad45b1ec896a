"""The form of a cron line: five fields, or six with seconds in front."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSimError

from shared.cron import next_time
from shared.domain.events import Schedule


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + (1 if self.first == 1 else 0)
        if not _NUMBER.fullmatch(text) or not self.first <= int(text) <= self.last:
            raise ValueError(f"{self.name}: must be between {self.first} and {self.last}")
        return int(text)


_ANY_TIME: Final = datetime(2030, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"[0-9]{1,2}")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: Final = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


def cron_line(text: str) -> str:
    """The line with six fields and single blanks.

    Raises:
        ValueError: names the field that is wrong, or the line never comes due.
    """
    parts = text.split()
    if len(parts) == len(_FIELDS) - 1:
        parts = ["0", *parts]
    if len(parts) != len(_FIELDS) or len(text) > 200:
        raise ValueError("must have five fields, or six with seconds in front")
    for rule, part in zip(_FIELDS, parts, strict=True):
        for item in part.split(","):
            _check(rule, item)
    line = " ".join(parts)
    if not _comes_due(line):
        raise ValueError("never comes due: no month that it names has such a day")
    return line


def _comes_due(line: str) -> bool:
    try:
        return next_time(Schedule(cron=line, timezone="UTC"), _ANY_TIME) is not None
    except CronSimError:
        return False


def _check(rule: _Field, item: str) -> None:
    span, slash, step = item.partition("/")
    if slash and (not _NUMBER.fullmatch(step) or int(step) == 0):
        raise ValueError(f"{rule.name}: the step must be a number above 0")
    if span == "*":
        return
    low, dash, high = span.partition("-")
    first = rule.number(low)
    if dash and rule.number(high) < first:
        raise ValueError(f"{rule.name}: the range {span} is the wrong way round")

"""When a failed delivery is tried again: a schedule over about three days as data, and pure functions on it."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import accumulate
from typing import Final

SCHEDULE: Final[tuple[timedelta, ...]] = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""The wait after the first try, the second, and so on: ten tries over 75 hours."""

JITTER: Final = 0.1  # so that what failed together is not tried again together
LONGEST_RETRY_AFTER: Final = timedelta(hours=24)


def delay_after(
    tries: int,
    *,
    chance: float,
    retry_after: timedelta | None = None,
    schedule: Sequence[timedelta] = SCHEDULE,
) -> timedelta | None:
    """How long to wait after the failure of try number `tries`, None when it was the last one.

    Args:
        chance: from 0 to 1, where within the jitter of ±10 % the wait falls.
        retry_after: what the receiver asked for; it can only lengthen the wait, up to 24 hours.
    """
    if tries > len(schedule):
        return None
    delay = schedule[tries - 1] * (1 + JITTER * (2 * chance - 1))
    return max(delay, min(retry_after or timedelta(0), LONGEST_RETRY_AFTER))


def number_of_try(deliveries: int, age: timedelta, schedule: Sequence[timedelta] = SCHEDULE) -> int:
    """Which try this is, from 1 on, told by what the broker and the clock know.

    The broker counts every delivery: also those that ended before anything was sent, because the log could not be
    read or the process was killed. So the count is held against the `age` of the event, in which only so many tries
    can have been made. And a broker that crashes may forget some of its count, which then costs a try more.
    """
    earliest = accumulate(schedule, initial=timedelta(0))
    possible = sum(1 for start in earliest if start * (1 - JITTER) <= age)
    return max(1, min(deliveries, possible))

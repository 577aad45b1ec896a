"""When a failed delivery is tried again."""

from datetime import timedelta
from itertools import accumulate

import pytest

from services.notifier.schedule import SCHEDULE, delay_after, number_of_try

TABLE = [
    (1, timedelta(seconds=5)),
    (2, timedelta(minutes=5)),
    (3, timedelta(minutes=30)),
    (4, timedelta(hours=2)),
    (5, timedelta(hours=5)),
    (6, timedelta(hours=10)),
    (7, timedelta(hours=14)),
    (8, timedelta(hours=20)),
    (9, timedelta(hours=24)),
]


@pytest.mark.parametrize(("tries", "expected"), TABLE)
def test_the_wait_after_each_try_is_the_one_of_the_table_and_a_tenth_either_way(
    tries: int, expected: timedelta
) -> None:
    assert delay_after(tries, chance=0.5) == expected
    assert delay_after(tries, chance=0.0) == expected * 0.9
    assert delay_after(tries, chance=1.0) == expected * 1.1


def test_the_tenth_try_is_the_last() -> None:
    assert delay_after(10, chance=0.5) is None
    assert delay_after(11, chance=0.5, retry_after=timedelta(hours=1)) is None


def test_what_the_receiver_asks_for_only_lengthens_and_no_further_than_a_day() -> None:
    assert delay_after(1, chance=0.5, retry_after=timedelta(minutes=1)) == timedelta(minutes=1)
    assert delay_after(2, chance=0.5, retry_after=timedelta(seconds=1)) == timedelta(minutes=5)
    assert delay_after(1, chance=0.5, retry_after=timedelta(days=30)) == timedelta(hours=24)


def test_a_delivery_that_is_tried_on_time_counts_as_the_broker_does() -> None:
    for jitter in (0.9, 1.0, 1.1):
        starts = accumulate((delay * jitter for delay in SCHEDULE), initial=timedelta(0))
        assert [number_of_try(n, age) for n, age in enumerate(starts, 1)] == list(range(1, 11))


def test_a_delivery_that_comes_late_has_all_its_tries_left() -> None:
    assert number_of_try(1, timedelta(days=7)) == 1


def test_deliveries_at_which_nothing_was_sent_do_not_use_up_the_tries() -> None:
    assert number_of_try(500, timedelta(minutes=1)) == 2
    assert number_of_try(500, timedelta(hours=1)) == 4
    assert number_of_try(500, timedelta(hours=80)) == 10


def test_a_clock_that_is_behind_does_no_harm() -> None:
    assert number_of_try(3, timedelta(seconds=-30)) == 1

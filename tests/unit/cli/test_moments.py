"""Moments as people name them."""

from datetime import UTC, datetime

import pytest

from cli.moments import moment

NOW = datetime(2026, 11, 10, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("90m", datetime(2026, 11, 10, 10, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 11, 10, 10, 0, tzinfo=UTC)),
        ("1w", datetime(2026, 11, 3, 12, 0, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1).astimezone()),
        ("2026-11-01T08:30", datetime(2026, 11, 1, 8, 30).astimezone()),
    ],
)
def test_a_while_ago_and_times_without_a_zone_become_exact(given: str, meant: datetime) -> None:
    said = moment(given, NOW)
    assert said is not None
    assert datetime.fromisoformat(said) == meant


@pytest.mark.parametrize(
    "given",
    ["4711", "2026-11-01T08:30:00Z", "4711,2026-11-01T08:30:00Z", "2026-13-01", "yesterday", "9999999h", "999999w", ""],
)
def test_anything_else_is_for_the_api_to_say(given: str) -> None:
    assert moment(given, NOW) == given


def test_nothing_given_is_nothing_asked() -> None:
    assert moment(None, NOW) is None

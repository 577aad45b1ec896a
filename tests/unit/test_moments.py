"""Moments as everybody reads them."""

from datetime import UTC, datetime, timedelta, timezone

from shared.moments import written


def test_a_moment_of_any_zone_is_written_in_utc() -> None:
    assert written(datetime(2026, 11, 1, 12, 0, 0, 5, tzinfo=UTC)) == "2026-11-01T12:00:00.000005Z"
    assert written(datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=2)))) == "2026-11-01T10:00:00Z"
    assert written(None) is None

"""How long those whom we call ask us to wait."""

from datetime import UTC, datetime

import pytest

from shared.retry_after import retry_after

NOW = datetime(2026, 11, 5, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Thu, 05 Nov 2026 10:30:40 GMT", 40.0),
        ("Thu, 05 Nov 2026 10:29:00 GMT", 0.0),
        ("86400", 900.0),
        ("Fri, 06 Nov 2026 10:30:00 GMT", 900.0),
        ("inf", 900.0),
        ("-3", 0.0),
        ("nan", None),
        ("soon", None),
        ("Thu, 05 Nov 2026 10:30:40 +99999999999999999999", None),
        ("", None),
        (None, None),
    ],
)
def test_it_holds_seconds_or_a_date_and_whatever_it_holds_is_never_more_than_the_most(
    value: str | None, seconds: float | None
) -> None:
    assert retry_after(value, NOW, most=900.0) == seconds

"""Moments as people name them."""

import re
from datetime import datetime, timedelta

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(given: str | None, now: datetime) -> str | None:
    """`2h` ago, a date, which begins at midnight here, or a time without a zone, which is one here, as ISO 8601.

    Anything else stays as it is: the API says what is wrong with it.
    """
    if given is None:
        return None
    ago = _AGO.fullmatch(given.strip())
    try:
        if ago:
            return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).isoformat()
        if not _DATE.match(given.strip()):
            return given
        parsed = datetime.fromisoformat(given.strip())
    except (ValueError, OverflowError):
        return given
    return parsed.astimezone().isoformat() if parsed.tzinfo is None else given

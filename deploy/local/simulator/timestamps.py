"""Times in the API's form."""

from datetime import datetime

KEY_CREATED = "2026-01-15T10:30:00.000Z"


def timestamp(moment: datetime) -> str:
    """`moment` is in UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""How moments are written wherever people or programs read them."""

from datetime import UTC, datetime
from typing import overload


@overload
def written(moment: datetime) -> str: ...


@overload
def written(moment: None) -> None: ...


@overload
def written(moment: datetime | None) -> str | None: ...


def written(moment: datetime | None) -> str | None:
    """In ISO 8601 and UTC, ending in Z; None stays None. The database gives moments in the zone of its session."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")

"""What became of one try to tell a receiver."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Kind(StrEnum):
    DELIVERED = "delivered"
    REJECTED = "rejected"
    """Answered with something else than 2xx."""
    GONE = "gone"
    """Answered with 410: the receiver does not want to hear any more."""
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BLOCKED = "blocked"
    """The address is one that nothing is ever sent to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`detail` is for people and never shows the receiver's whole address, which may hold a secret."""

    kind: Kind
    detail: str
    retry_after: timedelta | None = None

    @property
    def is_final(self) -> bool:
        """Whether trying again is of no use."""
        return self.kind in (Kind.GONE, Kind.BLOCKED)

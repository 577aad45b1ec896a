"""The ports that handlers are written against; each has an adapter on the real thing and one in memory."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

from shared.envelope import Commit, Stored


class ConflictError(Exception):
    """Somebody else committed to the aggregate first: read what is new and decide again."""


class LogFullError(Exception):
    """The log has reached its size limit and takes nothing more until it is enlarged."""


class LogUnavailableError(Exception):
    """The outcome of an append could not be learned in time: it may or may not be stored."""


class EventLog(Protocol):
    """The log of events: one subject per aggregate, one message per commit."""

    async def append(self, commit: Commit, *, expected: int) -> int:
        """Store `commit` if the aggregate's last message has the sequence `expected` (0: it has none).

        Safe to repeat with the same commit: a commit that is stored already answers its sequence.

        Returns:
            The sequence of the stored message.

        Raises:
            ConflictError: another commit is there.
            LogFullError: the log is full; nothing was stored.
            LogUnavailableError: no answer within the retry budget; the outcome is unknown.
        """

    async def read(self, team: str, aggregate: str, *, after: int = 0) -> list[Stored]:
        """The aggregate's commits with a sequence above `after`, oldest first; empty when there are none."""

    async def page(self, team: str, aggregate: str, *, after: int, limit: int) -> list[Stored]:
        """The first `limit` commits of the aggregate above `after`, oldest first.

        Fewer than `limit` need not be all: whoever answers may lag behind what was seen elsewhere.
        """

    def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
        """Every commit of the log above `after`, in order, in batches as they come; never ends by itself."""

    async def last_sequence(self) -> int:
        """The sequence of the newest message of the log, 0 when it is empty."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The time, with time zone UTC."""


class Ids(Protocol):
    def new(self) -> str:
        """A new unique id."""

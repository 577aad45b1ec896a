"""What the projector reads: the log's commits together with the very bytes they are stored as."""

from collections.abc import AsyncIterator
from typing import Protocol

from nats.aio.client import Client
from nats.errors import Error as NatsError

from shared.catalogue import UnknownEventError
from shared.envelope import Stored, decode
from shared.jetstream.errors import UnreadableCommitError
from shared.jetstream.history import RawMessage
from shared.jetstream.tail import TailBrokenError, open_tail
from shared.jetstream.topology import EVENTS
from shared.ports import LogUnavailableError


class Source(Protocol):
    """The part of `EventLog` that the projector needs; `raw` must be filled wherever the log keeps bytes."""

    def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
        """Every commit of the log above `after`, in order, in batches as they come; never ends by itself."""


class JetStreamSource:
    """`Source` on a NATS connection."""

    def __init__(self, nc: Client, *, stream: str = EVENTS) -> None:
        self._nc = nc
        self._stream = stream

    async def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
        """See `Source.follow`.

        Raises:
            UnreadableCommitError: the next message is not a commit that this release knows; all before it were given.
            LogUnavailableError: the connection was lost. Follow again from the checkpoint, after a look at the log:
                it may have come back with less than it had.
        """
        try:
            async with open_tail(self._nc, self._stream, after=after) as tail:
                async for messages in tail.batches():
                    good, bad = _decoded(messages)
                    if good:
                        yield good
                    if bad is not None:
                        raise bad
        except (TailBrokenError, NatsError, TimeoutError) as exc:
            raise LogUnavailableError(f"following the log was interrupted: {exc!r}") from exc


def _decoded(messages: list[RawMessage]) -> tuple[list[Stored], UnreadableCommitError | None]:
    """The commits up to the first that cannot be read, and that one's error."""
    good: list[Stored] = []
    for message in messages:
        try:
            good.append(Stored(message.sequence, decode(message.data), message.data))
        except (ValueError, UnknownEventError) as exc:
            return good, UnreadableCommitError(message.sequence, message.subject, str(exc))
    return good, None

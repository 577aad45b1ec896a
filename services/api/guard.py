"""Whether the log is still the one that the read side was built from."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from nats.aio.client import Client
from nats.errors import Error as NatsError

from shared.jetstream.errors import UnreadableHistoryError
from shared.jetstream.history import HistoryReader
from shared.jetstream.topology import EVENTS
from shared.ports import LogUnavailableError

_ANSWER_SECONDS: Final = 5.0


class LogMismatchError(Exception):
    """The log is not the one that the read side was built from: it lost commits, or it was made anew.

    Going on would leave out the commits that reuse the lost sequences, so the log has to be healed first.
    """


@dataclass(frozen=True, slots=True)
class LogState:
    """When the log was made, and the sequence of its newest message."""

    created: datetime
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to where the read side was built, and from which log. `commit_id` is None at sequence 0."""

    sequence: int
    commit_id: str | None
    stream_created: datetime


class LogProbe(Protocol):
    """What the guard asks of the log."""

    @property
    def connections(self) -> int:
        """How often a connection to the broker was made; whatever was known before a change is to be asked again."""

    async def state(self) -> LogState:
        """Raises LogUnavailableError when there is no answer."""

    async def commit_id(self, sequence: int) -> str | None:
        """The id of the commit with this sequence, None if there is none; LogUnavailableError without an answer."""


class JetStreamProbe:
    """`LogProbe` on a NATS connection."""

    def __init__(self, nc: Client, *, stream: str = EVENTS) -> None:
        self._nc = nc
        self._stream = stream
        self._history = HistoryReader(nc, stream)

    @property
    def connections(self) -> int:
        return int(self._nc.stats["reconnects"])

    async def state(self) -> LogState:
        try:
            info = await self._nc.jsm(timeout=_ANSWER_SECONDS).stream_info(self._stream)
        except (NatsError, TimeoutError) as exc:
            raise LogUnavailableError(f"no answer about {self._stream}: {exc!r}") from exc
        if info.created is None:
            raise LogUnavailableError(f"the broker does not say when {self._stream} was made")
        return LogState(info.created, info.state.last_seq)

    async def commit_id(self, sequence: int) -> str | None:
        try:
            message = await self._history.at(sequence)
        except (NatsError, TimeoutError, UnreadableHistoryError) as exc:
            raise LogUnavailableError(f"cannot read message {sequence} of {self._stream}: {exc!r}") from exc
        return message.message_id if message else None


async def check_log(probe: LogProbe, checkpoint: Checkpoint) -> LogState:
    """The log's state, after making sure that the checkpoint lies in it.

    Raises:
        LogMismatchError: it does not.
        LogUnavailableError: the broker does not answer.
    """
    state = await probe.state()
    if checkpoint.sequence == 0:
        return state
    if state.created != checkpoint.stream_created:
        raise LogMismatchError(
            f"the log was made at {state.created.isoformat()}, "
            f"the read side was built from one made at {checkpoint.stream_created.isoformat()}"
        )
    if state.last_sequence < checkpoint.sequence:
        raise LogMismatchError(
            f"the log ends at {state.last_sequence}, the read side was built up to {checkpoint.sequence}"
        )
    found = await probe.commit_id(checkpoint.sequence)
    if found != checkpoint.commit_id:
        raise LogMismatchError(
            f"the log has commit {found} at {checkpoint.sequence}, the read side has {checkpoint.commit_id} there"
        )
    return state

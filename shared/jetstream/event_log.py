"""The log of events on JetStream: append at the expected sequence, history, and following it as it grows."""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import Header

from shared import failpoints
from shared.catalogue import UnknownEventError
from shared.envelope import Commit, Stored, decode, encode
from shared.jetstream.errors import (
    DuplicateIdError,
    PublishUnavailableError,
    UnreadableCommitError,
    UnreadableHistoryError,
)
from shared.jetstream.history import HistoryReader, RawMessage
from shared.jetstream.publish import Ack, BrokerRefusal, check_size, request_ack
from shared.jetstream.retry import Backoff
from shared.jetstream.tail import TailBrokenError, open_tail
from shared.jetstream.topology import EVENTS, event_subject
from shared.ports import ConflictError, LogFullError, LogUnavailableError

_log = logging.getLogger(__name__)

# A lost race. One node says the first; a cluster also the second, while the winner is still being stored.
_CONFLICTS: Final = frozenset({10071, 10164})
_IN_PROCESS: Final = 10164
_REMEMBERED: Final = 20_000


class JetStreamEventLog:
    """`EventLog` on a NATS connection. `budget`: seconds after which append and read give up."""

    def __init__(self, nc: Client, *, stream: str = EVENTS, budget: float = 30.0) -> None:
        self._nc = nc
        self._stream = stream
        self._budget = budget
        self._history = HistoryReader(nc, stream)
        # Newest sequence seen by subject: a read that shows less came from a replica that lags behind.
        self._seen: OrderedDict[str, int] = OrderedDict()

    @failpoints.around("log.append")
    async def append(self, commit: Commit, *, expected: int) -> int:
        """See `EventLog.append`.

        Raises also:
            PayloadTooLargeError: the commit is larger than 512 KiB; nothing was sent.
            DuplicateIdError: the commit id belongs to another commit of the log; nothing was stored.
        """
        body = encode(commit)
        check_size(body)
        subject = event_subject(commit.team, commit.aggregate)
        headers = {
            Header.MSG_ID.value: commit.commit_id,
            Header.EXPECTED_STREAM.value: self._stream,
            Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(expected),
        }
        backoff = Backoff(budget=self._budget)
        try:
            ack = await request_ack(self._nc, subject, body, headers, backoff)
            sequence = await self._confirm(ack, subject, commit) if ack.duplicate else ack.sequence
        except BrokerRefusal as refusal:
            sequence = await self._settle(refusal, subject, commit, expected, backoff)
        except PublishUnavailableError as exc:
            raise LogUnavailableError(str(exc)) from exc
        self._remember(subject, sequence)
        return sequence

    @failpoints.around("log.read")
    async def read(self, team: str, aggregate: str, *, after: int = 0) -> list[Stored]:
        """See `EventLog.read`.

        Raises:
            UnreadableCommitError: one of the messages is not a commit that this release knows.
            LogUnavailableError: no answer within the budget.
        """
        subject = event_subject(team, aggregate)
        backoff = Backoff(first=0.01, most=0.5, budget=self._budget)
        while True:
            messages = await self._read(subject, after, backoff)
            newest = messages[-1].sequence if messages else after
            if newest >= self._seen.get(subject, 0):
                return [_stored(message) for message in messages]
            await backoff.wait()

    async def page(self, team: str, aggregate: str, *, after: int, limit: int) -> list[Stored]:
        """See `EventLog.page`.

        Raises:
            UnreadableCommitError, LogUnavailableError: as `read`.
        """
        backoff = Backoff(budget=self._budget)
        messages = await self._read(event_subject(team, aggregate), after, backoff, limit)
        return [_stored(message) for message in messages]

    async def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
        """See `EventLog.follow`. Goes on through lost connections and restarts of the broker.

        Raises:
            UnreadableCommitError: the next message is not a commit that this release knows; all before
                it were given.
        """
        last = after
        backoff = Backoff()
        while True:
            try:
                async with open_tail(self._nc, self._stream, after=last) as tail:
                    async for messages in tail.batches():
                        backoff.reset()
                        good, bad = _decode_all(messages)
                        if good:
                            last = good[-1].sequence
                            yield good
                        if bad is not None:
                            raise bad
            except (TailBrokenError, NatsError, TimeoutError) as exc:
                if self._nc.is_closed:
                    raise LogUnavailableError("the connection to the broker is closed") from exc
                _log.info("Following the log behind %d was interrupted, trying again: %r", last, exc)
            await backoff.wait()

    async def last_sequence(self) -> int:
        """See `EventLog.last_sequence`.

        Raises:
            LogUnavailableError: no answer within the budget.
        """
        backoff = Backoff(budget=self._budget)
        last: Exception | None = None
        while backoff.remaining > 0:
            try:
                info = await self._nc.jsm(timeout=min(5.0, backoff.remaining)).stream_info(self._stream)
                return info.state.last_seq
            except (NatsError, TimeoutError) as exc:
                last = exc
            if self._nc.is_closed:
                break
            await backoff.wait()
        raise LogUnavailableError(f"no answer from the broker: {last!r}") from last

    async def _confirm(self, ack: Ack, subject: str, commit: Commit) -> int:
        """Ids count for the whole stream, so make sure that the known message is this commit."""
        backoff = Backoff(first=0.01, most=0.5, budget=self._budget)
        while backoff.remaining > 0:
            try:
                message = await self._history.at(ack.sequence)
            except (NatsError, TimeoutError):
                message = None
            if message is not None:
                if message.subject == subject and message.message_id == commit.commit_id:
                    return ack.sequence
                raise DuplicateIdError(f"commit id {commit.commit_id} was used on {message.subject}")
            await backoff.wait()
        raise LogUnavailableError(f"cannot read message {ack.sequence}, said to be stored already")

    async def _settle(
        self, refusal: BrokerRefusal, subject: str, commit: Commit, expected: int, backoff: Backoff
    ) -> int:
        """Was it an earlier try of this very commit that is in the way?"""
        try:
            rival = await self._next_after(subject, expected, backoff, wait=refusal.code == _IN_PROCESS)
        except (NatsError, TimeoutError) as exc:
            raise LogUnavailableError(f"cannot learn what is stored: {exc!r}") from exc
        if rival is not None:
            if rival.message_id == commit.commit_id:
                return rival.sequence
            self._remember(subject, rival.sequence)
        if refusal.code in _CONFLICTS:
            raise ConflictError(f"{subject} has changed since {expected}") from refusal
        if refusal.is_full:
            raise LogFullError(str(refusal)) from refusal
        raise LogUnavailableError(f"the broker refused: {refusal}") from refusal

    async def _next_after(self, subject: str, expected: int, backoff: Backoff, *, wait: bool) -> RawMessage | None:
        """The message that follows `expected`. A cluster may say so before it can be read."""
        patience = Backoff(first=0.02, most=0.5, budget=min(2.0, backoff.remaining))
        while True:
            try:
                found = await self._history.first_after(subject, expected)
            except (NatsError, TimeoutError):
                if backoff.remaining <= 0 or self._nc.is_closed:
                    raise
                await backoff.wait()
                continue
            if found is not None or not wait or patience.remaining <= 0:
                return found
            await patience.wait()

    async def _read(self, subject: str, after: int, backoff: Backoff, limit: int | None = None) -> list[RawMessage]:
        try:
            return await self._history.read(subject, after=after, budget=max(backoff.remaining, 0), limit=limit)
        except (TimeoutError, UnreadableHistoryError) as exc:
            raise LogUnavailableError(str(exc)) from exc

    def _remember(self, subject: str, sequence: int) -> None:
        self._seen[subject] = max(sequence, self._seen.pop(subject, 0))
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


def _stored(message: RawMessage) -> Stored:
    try:
        return Stored(message.sequence, decode(message.data))
    except (ValueError, UnknownEventError) as exc:
        raise UnreadableCommitError(message.sequence, message.subject, str(exc)) from exc


def _decode_all(messages: list[RawMessage]) -> tuple[list[Stored], UnreadableCommitError | None]:
    """The commits up to the first that cannot be read, and that one's error."""
    good: list[Stored] = []
    for message in messages:
        try:
            good.append(_stored(message))
        except UnreadableCommitError as error:
            return good, error
    return good, None

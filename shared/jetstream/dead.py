"""What could not be handled, in the stream DEAD: to be counted, put back, or thrown away, by team."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from shared.domain.ids import derive_id
from shared.jetstream.errors import AlreadyThereError, PublishUnavailableError, UnreadableHistoryError
from shared.jetstream.history import HistoryReader, RawMessage
from shared.jetstream.publish import Publisher
from shared.jetstream.topology import COMMANDS, DEAD, DELIVERIES, QUEUE, RECEIPTS, TIMERS, WATCH

PUT_BACK: Final = frozenset({COMMANDS, QUEUE, WATCH, TIMERS, RECEIPTS, DELIVERIES})
"""Streams whose messages can be published again. A commit of the log cannot: it is there already."""

_PARKED: Final = "dead.>"
_TRY: Final = 5.0
_PAGE: Final = 100
"""Read at a time: most may be other teams', and each may have half a MiB."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One parked message, and from which stream and subject it came."""

    sequence: int
    stream: str
    subject: str
    data: bytes

    @property
    def can_go_back(self) -> bool:
        return self.stream in PUT_BACK and bool(self.subject)


class DeadLetters:
    """The parked messages. Every method raises PublishUnavailableError when the broker does not answer in time."""

    def __init__(self, nc: Client, publisher: Publisher) -> None:
        self._js: JetStreamContext = nc.jetstream(timeout=_TRY)
        self._history = HistoryReader(nc, DEAD)
        self._publisher = publisher

    async def of(self, team: str, *, most: int) -> AsyncIterator[DeadLetter]:
        """The oldest `most` messages of the team; what no team can be told from belongs to none."""
        after = found = 0
        while page := await self._page(after):
            after = page[-1].sequence
            for message in page:
                if found < most and _team(message.data) == team:
                    found += 1
                    yield _letter(message)
            if found >= most:
                return

    async def put_back(self, letter: DeadLetter) -> None:
        """Publish the message where it came from, and only then drop it here. Twice is once."""
        with suppress(AlreadyThereError):  # the same work is in the queue already
            await self._publisher.publish(
                letter.subject, letter.data, stream=letter.stream, msg_id=derive_id("dead", letter.sequence)
            )
        await self.drop(letter)

    async def drop(self, letter: DeadLetter) -> None:
        """Throw the message away; one that is gone is no error."""
        try:
            await self._js.delete_msg(DEAD, letter.sequence)
        except (NatsError, TimeoutError) as exc:
            # The broker has one code for all that can go wrong with it, that there is no such message included.
            if not (isinstance(exc, APIError) and await self._is_gone(letter)):
                raise PublishUnavailableError(f"no answer from the broker: {exc!r}") from exc

    async def _is_gone(self, letter: DeadLetter) -> bool:
        try:
            return await self._history.at(letter.sequence) is None
        except (NatsError, TimeoutError, UnreadableHistoryError):
            return False

    async def _page(self, after: int) -> list[RawMessage]:
        try:
            return await self._history.read(_PARKED, after=after, budget=_TRY, limit=_PAGE)
        except (TimeoutError, UnreadableHistoryError) as exc:
            raise PublishUnavailableError(f"no answer from the broker: {exc!r}") from exc


def _letter(message: RawMessage) -> DeadLetter:
    return DeadLetter(
        sequence=message.sequence,
        stream=message.subject.split(".")[1],
        subject=message.headers.get("Dead-Subject", ""),
        data=message.data,
    )


def _team(data: bytes) -> str | None:
    try:
        body = orjson.loads(data)
    except ValueError:
        return None
    team = body.get("team") if isinstance(body, dict) else None
    return team if isinstance(team, str) else None

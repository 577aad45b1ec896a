"""What could not be handled, in the stream DEAD: to be counted, put back, or thrown away, by team."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from shared.domain.ids import derive_id
from shared.jetstream.errors import AlreadyThereError, PublishUnavailableError
from shared.jetstream.publish import Publisher
from shared.jetstream.topology import COMMANDS, DEAD, DELIVERIES, QUEUE, RECEIPTS, TIMERS, WATCH

PUT_BACK: Final = frozenset({COMMANDS, QUEUE, WATCH, TIMERS, RECEIPTS, DELIVERIES})
"""Streams whose messages can be published again. A commit of the log cannot: it is there already."""

_PARKED: Final = "dead.>"
_TRY: Final = 5.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One parked message: from which stream and subject, and why."""

    sequence: int
    stream: str
    subject: str
    reason: str
    data: bytes

    @property
    def can_go_back(self) -> bool:
        return self.stream in PUT_BACK and bool(self.subject)


class DeadLetters:
    """The parked messages. Every method raises PublishUnavailableError when the broker does not answer in time."""

    def __init__(self, nc: Client, publisher: Publisher) -> None:
        self._js: JetStreamContext = nc.jetstream(timeout=_TRY)
        self._publisher = publisher

    async def of(self, team: str, *, most: int) -> AsyncIterator[DeadLetter]:
        """The oldest `most` messages of the team; what no team can be told from belongs to none."""
        sequence = found = 0
        while found < most and (letter := await self._next(sequence)) is not None:
            sequence = letter.sequence
            if _team(letter.data) == team:
                found += 1
                yield letter

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
        except NotFoundError:
            return
        except (NatsError, TimeoutError) as exc:
            raise PublishUnavailableError(f"no answer from the broker: {exc!r}") from exc

    async def _next(self, after: int) -> DeadLetter | None:
        try:
            message = await self._js.get_msg(DEAD, after + 1, subject=_PARKED, next=True)
        except NotFoundError:
            return None
        except (NatsError, TimeoutError) as exc:
            raise PublishUnavailableError(f"no answer from the broker: {exc!r}") from exc
        headers = message.headers or {}
        return DeadLetter(
            sequence=message.seq or 0,
            stream=(message.subject or "dead.").split(".")[1],
            subject=headers.get("Dead-Subject", ""),
            reason=headers.get("Dead-Reason", ""),
            data=message.data or b"",
        )


def _team(data: bytes) -> str | None:
    try:
        body = orjson.loads(data)
    except ValueError:
        return None
    team = body.get("team") if isinstance(body, dict) else None
    return team if isinstance(team, str) else None

"""Publishing to a stream: one message, acknowledged by the broker, repeated until the outcome is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, ConnectionDrainingError, MaxPayloadError
from nats.errors import Error as NatsError
from nats.js.api import Header

from shared import failpoints
from shared.jetstream.errors import (
    AlreadyThereError,
    PayloadTooLargeError,
    PublishRefusedError,
    PublishUnavailableError,
    StreamFullError,
)
from shared.jetstream.retry import Backoff

MAX_PAYLOAD: Final = 512 * 1024  # half of the broker's limit, which counts the headers as well
_FIRST_TRY: Final = 1.0  # seconds; a lost connection should not cost more, and a repeat does no harm
_LONGEST_TRY: Final = 5.0
_STILL_IN_PROCESS: Final = 10158  # the same message id is being stored right now, by an earlier try
_FULL: Final = frozenset({10002, 10047, 10077})


@dataclass(frozen=True, slots=True)
class Ack:
    """The broker's answer: the message is stored at `sequence`, or was already (`duplicate`)."""

    stream: str
    sequence: int
    duplicate: bool


class BrokerRefusal(Exception):
    """The broker answered with an error, JetStream's `code`. This try stored nothing."""

    def __init__(self, status: int, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.status = status
        self.code = code

    @property
    def is_full(self) -> bool:
        return self.code in _FULL

    @property
    def is_one_per_subject(self) -> bool:
        """The broker has one code for every limit; only the text tells this one, which is no shortage."""
        return self.is_full and "per subject" in str(self)

    @property
    def is_passing(self) -> bool:
        return self.code == _STILL_IN_PROCESS or (self.status >= 500 and not self.is_full)


class Publisher(Protocol):
    """Puts a message on a stream."""

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        stream: str,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Ack:
        """Store one message and wait until it is stored.

        With a `msg_id`, repeating it stores nothing more for as long as the stream remembers ids: an
        optimisation, not a promise.

        Raises:
            PayloadTooLargeError: more than 512 KiB; nothing was sent.
            AlreadyThereError: the stream takes one message a subject, and has one.
            PublishRefusedError: the broker will not take it (StreamFullError: not now); nothing was stored.
            PublishUnavailableError: no answer in time; the outcome is unknown.
        """


async def request_ack(nc: Client, subject: str, data: bytes, headers: dict[str, str], backoff: Backoff) -> Ack:
    """Publish the same bytes until the broker answers.

    A silent try says nothing: the message may be stored. So only repeat what is safe to be repeated.

    Raises:
        BrokerRefusal: it answered with an error that time does not heal.
        PublishUnavailableError: it did not answer within the budget.
    """
    last: Exception | None = None
    patience = _FIRST_TRY
    while backoff.remaining > 0:
        try:
            # While the client reconnects it would only queue one more copy in its buffer.
            if nc.is_connected or nc.is_closed:
                within = min(patience, backoff.remaining)
                reply = await nc.request(subject, data, timeout=within, headers=headers)
                return _parse(reply.data)
        except MaxPayloadError as exc:
            raise PayloadTooLargeError(f"{len(data)} bytes and headers") from exc
        except (ConnectionClosedError, ConnectionDrainingError) as exc:
            raise PublishUnavailableError("the connection to the broker is closed") from exc
        except BrokerRefusal as exc:
            if not exc.is_passing:
                raise
            last = exc
        except (NatsError, TimeoutError) as exc:
            last = exc
            patience = min(patience * 2, _LONGEST_TRY)
        await backoff.wait()
    raise PublishUnavailableError(f"no answer from the broker: {last!r}") from last


def check_size(data: bytes) -> None:
    if len(data) > MAX_PAYLOAD:
        raise PayloadTooLargeError(f"{len(data)} bytes are more than {MAX_PAYLOAD}")


def _parse(body: bytes) -> Ack:
    answer: dict[str, Any] = orjson.loads(body)
    error = answer.get("error")
    if error is not None:
        raise BrokerRefusal(error["code"], error.get("err_code", 0), error.get("description", ""))
    return Ack(answer["stream"], answer["seq"], answer.get("duplicate", False))


class JetStreamPublisher:
    """`Publisher` on a NATS connection; gives up after `budget` seconds."""

    def __init__(self, nc: Client, *, budget: float = 30.0) -> None:
        self._nc = nc
        self._budget = budget

    @failpoints.around(lambda *_, stream, **__: f"publish.{stream}")
    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        stream: str,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Ack:
        check_size(data)
        sent = {**(headers or {}), Header.EXPECTED_STREAM.value: stream}
        if msg_id is not None:
            sent[Header.MSG_ID.value] = msg_id
        try:
            return await request_ack(self._nc, subject, data, sent, Backoff(budget=self._budget))
        except BrokerRefusal as exc:
            if exc.is_one_per_subject:
                raise AlreadyThereError(subject) from exc
            if exc.is_full:
                raise StreamFullError(str(exc)) from exc
            raise PublishRefusedError(str(exc)) from exc

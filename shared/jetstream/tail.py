"""Reading a stream as it grows by a short-lived consumer without acks: the reader alone keeps the place."""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from shared.jetstream.history import RawMessage

_log = logging.getLogger(__name__)

_BATCH: Final = 500
_PULL_SECONDS: Final = 30.0
_HEARTBEAT: Final = 2.0
_SILENCE: Final = 2.5 * _HEARTBEAT  # seconds without any, after which something is wrong
_FORGET_AFTER: Final = 60.0  # the broker drops the consumer when nobody has asked it for so long
_NANOSECONDS: Final = 1_000_000_000
_PULL_IS_OVER: Final = frozenset({"404", "408"})


class TailBrokenError(Exception):
    """This consumer may have lost a message: make a new one behind the last good message."""


class Tail:
    """One consumer for the length of its life. Any doubt about a lost message ends it.

    `caught_up`: everything that was in the stream at some moment since it was opened has been given.
    """

    def __init__(self, nc: Client, stream: str, name: str, inbox: str) -> None:
        self._nc = nc
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self._inbox = inbox
        self._waiting: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._asked = 0  # messages that the pull under way may still bring
        self._heard = time.monotonic()
        self._broken: str | None = None
        self._received = 0
        self._reconnects = nc.stats["reconnects"]
        self.caught_up = False
        self._said_caught_up = False

    async def batches(self) -> AsyncIterator[list[RawMessage]]:
        """Messages in order, all that have come (at most 500) as soon as there is one.

        Once, an empty batch may say that the tail has caught up.

        Raises:
            TailBrokenError: make a new tail.
        """
        while True:
            if self._waiting:
                yield self._take()
                continue
            if self.caught_up and not self._said_caught_up:
                self._said_caught_up = True
                yield []
                continue
            if self._asked == 0:
                await self._pull()
            await self._listen()

    async def on_message(self, message: Msg) -> None:
        self._heard = time.monotonic()
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None:
            self._waiting.append(message)
            self._asked = max(0, self._asked - 1)
        elif status in _PULL_IS_OVER:
            self._asked = 0
        elif status == "100":
            self.caught_up = True  # the broker is idle: there was nothing more to send
        else:
            self._broken = f"{status} {(message.headers or {}).get('Description', '')}"
        self._news.set()

    async def _pull(self) -> None:
        self._asked = _BATCH
        self._heard = time.monotonic()
        request = {
            "batch": _BATCH,
            "expires": int(_PULL_SECONDS * _NANOSECONDS),
            "idle_heartbeat": int(_HEARTBEAT * _NANOSECONDS),
        }
        await self._nc.publish(self._next, orjson.dumps(request), reply=self._inbox)

    async def _listen(self) -> None:
        """Wait for anything to arrive."""
        self._news.clear()
        if self._broken is None and not self._waiting and self._asked:
            try:
                # Not `wait_for`, which on Python 3.11 loses a cancellation that comes together with the news.
                async with asyncio.timeout(_HEARTBEAT / 4):
                    await self._news.wait()
            except TimeoutError:
                self._check_pulse()
        if self._broken is not None and not self._waiting:
            raise TailBrokenError(self._broken)

    def _check_pulse(self) -> None:
        # What was on its way when the connection broke is gone, and the broker will not send it again.
        if self._nc.stats["reconnects"] != self._reconnects or not self._nc.is_connected:
            raise TailBrokenError("the connection was lost")
        if time.monotonic() - self._heard > _SILENCE:
            raise TailBrokenError("no heartbeat")

    def _take(self) -> list[RawMessage]:
        batch: list[RawMessage] = []
        while self._waiting and len(batch) < _BATCH:
            message = self._waiting.popleft()
            place = message.metadata.sequence
            if place.consumer != self._received + 1:
                if batch:
                    self._waiting.clear()
                    self._broken = "a message was lost on the way"
                    return batch
                raise TailBrokenError("a message was lost on the way")
            self._received = place.consumer
            message_id = (message.headers or {}).get("Nats-Msg-Id")
            self.caught_up = self.caught_up or message.metadata.num_pending == 0
            batch.append(RawMessage(place.stream, message.subject, message_id, message.data))
        return batch


@asynccontextmanager
async def open_tail(nc: Client, stream: str, *, after: int) -> AsyncIterator[Tail]:
    """A tail of `stream` that begins behind the sequence `after`.

    Raises:
        nats.errors.Error: the broker does not answer or has no such stream.
    """
    name = f"tail-{uuid.uuid4().hex}"
    inbox = nc.new_inbox()
    manager = nc.jsm(timeout=5)
    tail = Tail(nc, stream, name, inbox)
    subscription = await nc.subscribe(inbox, cb=tail.on_message, pending_msgs_limit=-1, pending_bytes_limit=-1)
    try:
        info = await manager.add_consumer(
            stream,
            ConsumerConfig(
                name=name,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=after + 1,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=_FORGET_AFTER,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        tail.caught_up = not info.num_pending
        yield tail
    finally:
        await _forget(nc, stream, name, subscription)


async def _forget(nc: Client, stream: str, name: str, subscription: Subscription) -> None:
    """Leave nothing behind; a broker out of reach forgets the consumer by itself in a minute."""
    if nc.is_closed:
        return
    try:
        await subscription.unsubscribe()
        if nc.is_connected:
            await nc.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{name}")
    except NatsError as exc:
        _log.debug("Could not remove the consumer %s: %r", name, exc)

"""Where FastStream meets our rules for taking messages: never more than there is room for."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Protocol

import orjson
from faststream.middlewares import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.nats.subscriber.usecases import ConcurrentPullStreamSubscriber
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext

from shared.jetstream.connection import close, connect_options
from shared.jetstream.retry import Backoff
from shared.jetstream.topology import ConsumerSpec

_log = logging.getLogger(__name__)

# FastStream writes two lines for each message, but it is also the one who knows when its own loop fails.
_quiet_log = _log.getChild("faststream")
_quiet_log.setLevel(logging.WARNING)

_PULL_SECONDS: Final = 2.0  # a pull that was lost with its connection costs this much
_LOST_SECONDS: Final = 1.0  # so long after its end a pull of which nothing was heard counts as lost
_PULL_IS_OVER: Final = frozenset({"404", "408"})
_TOO_QUICK: Final = 0.2  # seconds; an empty answer sooner than this is an error in disguise


class Intake(Protocol):
    """Says how many messages may be taken, and what happens to each."""

    @property
    def room(self) -> int:
        """How many more messages may be taken now."""

    async def wait_for_room(self) -> None:
        """Return when there may be room again, or when it is stopping."""

    @property
    def stopping(self) -> bool: ...

    async def started(self, subscriber: ConcurrentPullStreamSubscriber) -> None:
        """The subscription exists."""

    async def hold(self, messages: list[Msg]) -> list[Msg]:
        """These were fetched and take up room from now on; gives those that are to be handled."""

    async def take(self, message: Msg) -> None:
        """Handle one message to its end; never raises but when cancelled."""

    async def stop(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Stop taking; `finish` waits for what runs, as long as the broker allows, and cancels the rest."""


def make_broker(url: str, name: str, *, grace: float = 20.0) -> NatsBroker:
    """A FastStream broker with our options. `grace`: seconds that running handlers get when it stops."""
    return _Broker(
        url.split(","),
        **connect_options(name),
        graceful_timeout=grace,
        apply_types=False,  # handlers get the raw message; nothing is parsed or validated before them
        logger=_quiet_log,
    )


class _Broker(NatsBroker):
    """Stops without an error when NATS is away; a service has to end then, too."""

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        connection = self._connection
        try:
            await super().stop(exc_type, exc_val, exc_tb)
        except (NatsError, OSError, TimeoutError) as exc:
            _log.info("NATS was away when consuming stopped: %r", exc)
        finally:
            if connection is not None and not connection.is_closed:
                await close(connection)


def register(
    broker: NatsBroker, spec: ConsumerSpec, subject: str, intake: Intake, *, most: int
) -> ConcurrentPullStreamSubscriber:
    """Let FastStream hand the consumer's messages to `intake`, at most `most` at a time."""
    subscriber = broker.subscriber(
        subject,
        stream=JStream(spec.stream, declare=False),  # without this it rewrites the stream's settings
        durable=spec.name,
        pull_sub=PullSub(batch_size=most, timeout=_PULL_SECONDS),
        # `faststream.middlewares` has the AckPolicy meant here; the default one drops a message that failed.
        ack_policy=AckPolicy.MANUAL,
        max_workers=most + 1,
        decoder=_undecoded,
        no_reply=True,
        title=spec.name,
    )
    assert isinstance(subscriber, ConcurrentPullStreamSubscriber)

    @subscriber
    async def on_message(message: NatsMessage) -> None:
        await intake.take(message.raw_message)

    _put_gate(subscriber, spec, intake)
    return subscriber


async def _undecoded(message: NatsMessage) -> NatsMessage:
    return message


def _put_gate(subscriber: ConcurrentPullStreamSubscriber, spec: ConsumerSpec, intake: Intake) -> None:
    """Put our gate in the place of the library's fetch, into FastStream's endless loop.

    FastStream takes a batch whenever the last one has found its way into its queue: messages would wait there
    without heartbeats until the broker gives them to somebody else, and when stopping it forgets them.
    """
    subscribe, stop = subscriber._create_subscription, subscriber.stop
    gate: _Gate | None = None

    async def gated_subscribe() -> None:
        nonlocal gate
        await subscribe()
        inner: Any = subscriber.subscription
        gate = _Gate(inner, _Puller(subscriber.connection, spec), intake)
        subscriber.subscription = gate  # type: ignore[assignment]
        await intake.started(subscriber)

    async def finish() -> None:
        if gate is not None:
            await gate.leave()
        await stop()

    async def gated_stop() -> None:
        await intake.stop(finish)

    subscriber._create_subscription = gated_subscribe  # type: ignore[method-assign]
    subscriber.stop = gated_stop  # type: ignore[method-assign]


class _Gate:
    """A pull subscription that fetches only what there is room for. Errors end in a pause, no hot loop."""

    def __init__(self, inner: JetStreamContext.PullSubscription, puller: "_Puller", intake: Intake) -> None:
        self._inner = inner
        self._puller = puller
        self._intake = intake
        self._backoff = Backoff(first=0.2, most=5.0)

    async def fetch(self, batch: int, timeout: float) -> list[Msg]:
        """At most `batch` messages, as soon as there is one; none after `timeout` seconds or on an error."""
        await self._intake.wait_for_room()
        if self._intake.stopping:
            await asyncio.sleep(timeout)  # the loop above is about to be cancelled
            return []
        began = time.monotonic()
        messages = await self._intake.hold(await self._fetch(min(batch, self._intake.room), timeout))
        if messages:
            self._backoff.reset()
        elif time.monotonic() - began < _TOO_QUICK:
            await self._backoff.wait()
        return messages

    async def _fetch(self, batch: int, timeout: float) -> list[Msg]:
        try:
            return await self._puller.fetch(batch, timeout)
        except NatsError as exc:
            _log.warning("Could not fetch messages, trying again: %r", exc)
            return []

    async def unsubscribe(self) -> None:
        await self._inner.unsubscribe()

    async def leave(self) -> None:
        """Ask for nothing more. What has come since the last fetch the intake, which is stopping, puts back."""
        await self._puller.close()
        await self._intake.hold(self._puller.take_all())


class _Puller:
    """Asks for messages of one consumer, with one request at a time, and gives what comes at once.

    The client library's own fetch may leave a request behind: one that ends a moment after it stopped waiting is
    taken for the end of the next. Then a message that comes by the old one waits, up to the time limit, for others.
    """

    def __init__(self, nc: Client, spec: ConsumerSpec) -> None:
        self._nc = nc
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}"
        self._inbox = nc.new_inbox()
        self._subscription: Subscription | None = None
        self._waiting: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._number = 0
        self._asked = 0  # messages that the request under way may still bring
        self._lost_at = 0.0
        self._refusal: str | None = None

    async def fetch(self, batch: int, timeout: float) -> list[Msg]:
        """What has come, as soon as there is anything; nothing after `timeout` seconds.

        `batch`: may grow from call to call only by what was taken, for the request under way is not taken back.

        Raises:
            nats.errors.Error: not connected, or the broker refuses.
        """
        if self._subscription is None:
            self._subscription = await self._nc.subscribe(
                f"{self._inbox}.*", cb=self._on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
        deadline = time.monotonic() + timeout
        while not self._waiting and time.monotonic() < deadline:
            if self._asked == 0 or time.monotonic() > self._lost_at:
                await self._ask(batch, timeout)
            self._news.clear()
            await self._listen(min(deadline, self._lost_at))
            if self._refusal is not None:
                refusal, self._refusal = self._refusal, None
                raise NatsError(refusal)
        return self.take_all()

    def take_all(self) -> list[Msg]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    async def close(self) -> None:
        """Nothing more comes: the broker drops a request whose answers nobody hears."""
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()

    async def _ask(self, batch: int, expires: float) -> None:
        self._number += 1
        self._asked = batch
        self._lost_at = time.monotonic() + expires + _LOST_SECONDS
        request = {"batch": batch, "expires": int(expires * 1_000_000_000)}
        await self._nc.publish(self._next, orjson.dumps(request), reply=f"{self._inbox}.{self._number}")

    async def _listen(self, until: float) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), max(0.0, until - time.monotonic()))
        except TimeoutError:
            return

    async def _on_message(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None or message.reply:
            self._waiting.append(message)
            self._asked = max(0, self._asked - 1)
        elif message.subject == f"{self._inbox}.{self._number}":
            # The end of this request; that of an earlier one, which was given up for lost, says nothing.
            self._asked = 0
            if status not in _PULL_IS_OVER:
                self._refusal = f"{status} {(message.headers or {}).get('Description', '')}".strip()
        self._news.set()

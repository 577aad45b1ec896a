"""Where FastStream meets our rules for taking messages: never more than there is room for."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Protocol

from faststream.middlewares import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.nats.subscriber.usecases import ConcurrentPullStreamSubscriber
from nats.aio.msg import Msg
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
# The library hands a batch over when it is complete or the queue is empty: in a steady flow the first messages of a
# large one would wait for the last.
_AT_ONCE: Final = 10
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

    _put_gate(subscriber, intake)
    return subscriber


async def _undecoded(message: NatsMessage) -> NatsMessage:
    return message


def _put_gate(subscriber: ConcurrentPullStreamSubscriber, intake: Intake) -> None:
    """Put our gate between FastStream's endless loop and the library's fetch.

    FastStream takes a batch whenever the last one has found its way into its queue: messages would wait there
    without heartbeats until the broker gives them to somebody else, and when stopping it forgets them.
    """
    subscribe, stop = subscriber._create_subscription, subscriber.stop

    async def gated_subscribe() -> None:
        await subscribe()
        subscription: Any = subscriber.subscription
        subscriber.subscription = _Gate(subscription, intake)  # type: ignore[assignment]
        await intake.started(subscriber)

    async def gated_stop() -> None:
        await intake.stop(stop)

    subscriber._create_subscription = gated_subscribe  # type: ignore[method-assign]
    subscriber.stop = gated_stop  # type: ignore[method-assign]


class _Gate:
    """A pull subscription that fetches only what there is room for. Errors end in a pause, no hot loop."""

    def __init__(self, inner: JetStreamContext.PullSubscription, intake: Intake) -> None:
        self._inner = inner
        self._intake = intake
        self._backoff = Backoff(first=0.2, most=5.0)

    async def fetch(self, batch: int, timeout: float) -> list[Msg]:
        """At most `batch` messages, as soon as there is one; none after `timeout` seconds or on an error."""
        await self._intake.wait_for_room()
        if self._intake.stopping:
            await asyncio.sleep(timeout)  # the loop above is about to be cancelled
            return []
        began = time.monotonic()
        messages = await self._intake.hold(await self._fetch(min(batch, self._intake.room, _AT_ONCE), timeout))
        if messages:
            self._backoff.reset()
        elif time.monotonic() - began < _TOO_QUICK:
            await self._backoff.wait()
        return messages

    async def _fetch(self, batch: int, timeout: float) -> list[Msg]:
        try:
            return await self._inner.fetch(batch, timeout)
        except TimeoutError:
            return []
        except NatsError as exc:
            _log.warning("Could not fetch messages, trying again: %r", exc)
            return []

    async def unsubscribe(self) -> None:
        await self._inner.unsubscribe()

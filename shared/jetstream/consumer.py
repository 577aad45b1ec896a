"""How every message is consumed: the one place that acks, puts back, and gives up.

A handler is a plain function. It returns: ack. It raises `Later`: put back, expected, no failure. It raises
`Poison`: the message can never be handled, so it is parked in DEAD. It raises anything else: put back with
growing delays and, where the consumer has a limit, parked after so many deliveries. A handler may see a
message twice at any time.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import anyio
from faststream.nats import NatsBroker
from faststream.nats.subscriber.usecases import ConcurrentPullStreamSubscriber
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from shared import failpoints
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError, TopologyDriftError
from shared.jetstream.publish import MAX_PAYLOAD, JetStreamPublisher, Publisher
from shared.jetstream.pull import register
from shared.jetstream.retry import Backoff
from shared.jetstream.topology import ACK_WAIT, DEAD, ConsumerSpec, dead_subject, filter_of

_log = logging.getLogger(__name__)

DELAYS: Final = (1.0, 5.0, 30.0, 120.0, 600.0)  # seconds before the second, third, ... delivery
_JITTER: Final = 0.2
_GATHER_SECONDS: Final = 0.005
_GIVE_BACK: Final = 0.1  # seconds; what a stopping service gives back is for another one, at once
_PARKING_FAILED: Final = 30.0
_LET_GO_SECONDS: Final = 2.0
_REASON_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as a handler gets it. `deliveries` counts from 1 and is a hint: a crash may set it back."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    deliveries: int
    sequence: int
    published_at: datetime


Handler = Callable[[Delivery], Awaitable[None]]


class Later(Exception):
    """Nothing is wrong, it is only too early: deliver the message again in `delay_seconds`."""

    def __init__(self, delay_seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.delay_seconds = delay_seconds
        self.reason = reason


class Poison(Exception):
    """Nobody will ever be able to handle this message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Observer(Protocol):
    """Told how consuming goes; metrics are made of it."""

    def waited(self, consumer: str, seconds: float) -> None:
        """A message got to a handler for the first time, `seconds` after it was stored."""

    def processed(self, consumer: str, seconds: float) -> None:
        """A handler ended, well or not, after `seconds`."""

    def failed(self, consumer: str, kind: str) -> None:
        """A message was put back because of an error (`retry`) or given up (`poison`, `exhausted`)."""

    def waiting(self, consumer: str, messages: int) -> None:
        """So many messages wait, at their first or a further delivery, or are being handled."""


class _Nobody:
    def waited(self, consumer: str, seconds: float) -> None: ...

    def processed(self, consumer: str, seconds: float) -> None: ...

    def failed(self, consumer: str, kind: str) -> None: ...

    def waiting(self, consumer: str, messages: int) -> None: ...


def subscribe(
    broker: NatsBroker,
    spec: ConsumerSpec,
    handler: Handler,
    *,
    workers: int,
    dead_after: int | None = None,
    delays: Sequence[float] = DELAYS,
    handler_seconds: float | None = 300.0,
    publisher: Publisher | None = None,
    observer: Observer | None = None,
) -> None:
    """Handle the consumer's messages with `handler`, `workers` at a time, while the broker is started.

    `dead_after`: deliveries after which a failing message is parked; None: never, for a consumer whose
    failures are those of something it depends on. `handler_seconds`: a handler that takes longer has failed.
    `publisher`: by which messages are parked, the broker's own connection if None.

    When the broker stops, nothing more is taken, what runs may end within the broker's grace, and the rest
    is cancelled and given back. The consumer must exist; nothing is declared here.
    """
    policy = _Policy(dead_after, tuple(delays), handler_seconds)
    consumption = _Consumption(spec, handler, workers, policy, publisher, observer)
    register(broker, spec, filter_of(spec), consumption, most=consumption.most)


@dataclass(frozen=True, slots=True)
class _Policy:
    dead_after: int | None
    delays: tuple[float, ...]
    handler_seconds: float | None


class _Consumption:
    """The life of one subscription. It holds a few messages more than it has workers, lest one be idle."""

    def __init__(
        self,
        spec: ConsumerSpec,
        handler: Handler,
        workers: int,
        policy: _Policy,
        publisher: Publisher | None,
        observer: Observer | None,
    ) -> None:
        self._spec = spec
        self._handler = handler
        self._workers = asyncio.Semaphore(workers)
        self._policy = policy
        self._publisher = publisher
        self._observer = observer or _Nobody()
        self.most = workers + max(1, workers // 4)
        self._held: dict[str, Msg] = {}  # fetched and not answered yet, by the subject of the answer
        self._taken: set[str] = set()  # those of them that are with `take`
        self._nc: Client | None = None
        self._freed = asyncio.Event()
        self._stop = asyncio.Event()
        self._heartbeats: asyncio.Task[None] | None = None

    # What FastStream's side needs

    @property
    def room(self) -> int:
        return self.most - len(self._held)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    async def wait_for_room(self) -> None:
        while self.room <= 0 and not self.stopping:
            self._freed.clear()
            await self._freed.wait()
        if self.room < self.most // 4 and not self.stopping:
            # A fetch costs a round trip however much it brings: when busy, let some more become free first.
            await asyncio.sleep(_GATHER_SECONDS)

    async def started(self, subscriber: ConcurrentPullStreamSubscriber) -> None:
        self._stop.clear()
        self._nc = subscriber.connection
        self._publisher = self._publisher or JetStreamPublisher(self._nc)
        self._heartbeats = asyncio.create_task(self._beat(self._nc), name=f"heartbeats-{self._spec.name}")

    async def stop(self, finish: Callable[[], Awaitable[None]]) -> None:
        self._stop.set()
        self._freed.set()
        try:
            await finish()
            await self._let_go()
        finally:
            if self._heartbeats is not None:
                self._heartbeats.cancel()

    async def _let_go(self) -> None:
        """Wait for what was cancelled to be given back, and give back what never got as far as a handler."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LET_GO_SECONDS):
                while self._taken:
                    self._freed.clear()
                    await self._freed.wait()
        for message in list(self._held.values()):
            await self._put_back(message, _GIVE_BACK)
        self._held.clear()
        if self._nc is not None and self._nc.is_connected:
            await self._answer("flush", self._nc.flush)

    async def hold(self, messages: list[Msg]) -> list[Msg]:
        if self.stopping:
            for message in messages:
                await self._put_back(message, _GIVE_BACK)
            return []
        self._held.update((message.reply, message) for message in messages)
        return messages

    async def take(self, message: Msg) -> None:
        self._taken.add(message.reply)
        try:
            if await self._wait_for_worker():
                try:
                    with failpoints.scope(self._spec.name):
                        await self._process(message)
                finally:
                    self._workers.release()
            else:
                await self._put_back(message, _GIVE_BACK)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self._put_back(message, _GIVE_BACK)
            raise
        finally:
            self._held.pop(message.reply, None)
            self._taken.discard(message.reply)
            self._freed.set()

    # The policy

    async def _process(self, message: Msg) -> None:
        delivery = _delivery(message)
        if delivery.deliveries == 1:
            waited = datetime.now(UTC) - delivery.published_at
            self._observer.waited(self._spec.name, max(0.0, waited.total_seconds()))
        began = time.monotonic()
        failpoints.reached("taken")
        try:
            async with asyncio.timeout(self._policy.handler_seconds):
                await self._handler(delivery)
        except Later as later:
            _log.info("%s waits %.1f s: %s", self._where(delivery), later.delay_seconds, later.reason)
            await self._put_back(message, later.delay_seconds)
        except Poison as poison:
            _log.error("%s can never be handled: %s", self._where(delivery), poison.reason)
            await self._park(message, delivery, "poison", poison.reason)
        except Exception as exc:
            await self._on_failure(message, delivery, exc)
        else:
            await self._answer("ack", message.ack)
        finally:
            self._observer.processed(self._spec.name, time.monotonic() - began)

    async def _on_failure(self, message: Msg, delivery: Delivery, exc: Exception) -> None:
        limit = self._policy.dead_after
        if limit is not None and delivery.deliveries >= limit:
            _log.error("%s failed for the last time", self._where(delivery), exc_info=exc)
            await self._park(message, delivery, "exhausted", f"{type(exc).__name__}: {exc}")
            return
        delay = retry_delay(self._policy.delays, delivery.deliveries)
        _log.warning("%s failed, again in %.1f s", self._where(delivery), delay, exc_info=exc)
        self._observer.failed(self._spec.name, "retry")
        await self._put_back(message, delay)

    async def _park(self, message: Msg, delivery: Delivery, kind: str, reason: str) -> None:
        """Keep the message in DEAD, and only then let go of it."""
        assert self._publisher is not None
        self._observer.failed(self._spec.name, kind)
        try:
            await self._publisher.publish(
                dead_subject(self._spec.stream, self._spec.name),
                delivery.data[:MAX_PAYLOAD],
                stream=DEAD,
                msg_id=f"{self._spec.stream}.{self._spec.name}.{delivery.sequence}",
                headers=_dead_headers(delivery, kind, reason),
            )
        except (PublishUnavailableError, PublishRefusedError) as exc:
            _log.error("%s could not be parked: %r", self._where(delivery), exc)
            await self._put_back(message, _PARKING_FAILED)
            return
        await self._answer("term", message.term)

    async def _put_back(self, message: Msg, delay: float) -> None:
        await self._answer("nak", lambda: message.nak(delay=delay))

    @failpoints.around(lambda _, name, __: name)
    async def _answer(self, name: str, answer: Callable[[], Awaitable[None]]) -> None:
        """Tell the broker. If that fails it will deliver the message again, which does no harm."""
        try:
            await answer()
            if failpoints.are_armed() and self._nc is not None:
                await self._nc.flush()  # the client sends by and by, and behind the answer it must be out
        except NatsError as exc:
            _log.warning("Could not answer for a message of %s: %r", self._spec.name, exc)

    async def _wait_for_worker(self) -> bool:
        """False: it is stopping, and none was free."""
        if not self._workers.locked() and not self.stopping:
            await self._workers.acquire()
            return True
        free = asyncio.ensure_future(self._workers.acquire())
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({free, stop}, return_when=asyncio.FIRST_COMPLETED)
            if free.done() and not self.stopping:
                return True
            if free.done():
                self._workers.release()
            return False
        finally:
            free.cancel()
            stop.cancel()

    async def _beat(self, nc: Client) -> None:
        """Tell the broker that what is held is being worked on, so that it gives it to nobody else."""
        every = await self._patience(nc) / 3
        while True:
            await asyncio.sleep(every)
            for message in list(self._held.values()):
                await self._answer("in_progress", message.in_progress)

    async def _patience(self, nc: Client) -> float:
        """Seconds for which the broker waits for a sign of life; installations differ in that."""
        backoff = Backoff()
        while True:
            try:
                info = await nc.jsm().consumer_info(self._spec.stream, self._spec.name)
                return info.config.ack_wait or ACK_WAIT
            except (NatsError, TimeoutError) as exc:
                _log.info("Could not learn how long the broker waits for %s: %r", self._spec.name, exc)
            await backoff.wait()

    def _where(self, delivery: Delivery) -> str:
        return f"Message {delivery.sequence} of {self._spec.name}, delivery {delivery.deliveries},"


def retry_delay(delays: Sequence[float], deliveries: int) -> float:
    """Seconds until the next try after `deliveries` tries, 20 % more or less, lest failures march in step."""
    base = delays[min(deliveries, len(delays)) - 1]
    return base * random.uniform(1 - _JITTER, 1 + _JITTER)


def _delivery(message: Msg) -> Delivery:
    metadata = message.metadata
    return Delivery(
        subject=message.subject,
        data=message.data,
        headers=message.headers or {},
        deliveries=metadata.num_delivered,
        sequence=metadata.sequence.stream,
        published_at=metadata.timestamp,
    )


def _dead_headers(delivery: Delivery, kind: str, reason: str) -> dict[str, str]:
    """The message's own headers, but for the broker's, and why and where it was parked."""
    own = {name: value for name, value in delivery.headers.items() if not name.startswith("Nats-")}
    return own | {
        "Dead-Kind": kind,
        "Dead-Reason": "".join(c if c.isprintable() else " " for c in reason)[:_REASON_LENGTH],
        "Dead-Subject": delivery.subject,
        "Dead-Sequence": str(delivery.sequence),
        "Dead-Deliveries": str(delivery.deliveries),
        "Dead-Size": str(len(delivery.data)),
    }


async def watch_consumers(
    nc: Client, specs: Sequence[ConsumerSpec], *, observer: Observer | None = None, every: float = 10.0
) -> None:
    """Runs for ever, while the consumers exist: one that was deleted looks like one without messages.

    `observer` is told how many messages each has.

    Raises:
        TopologyDriftError: a consumer is gone; end the process, for its start tells what is to be done.
    """
    manager = nc.jsm(timeout=every)
    while True:
        await asyncio.sleep(every)
        for spec in specs:
            try:
                info = await manager.consumer_info(spec.stream, spec.name)
            except NotFoundError as exc:
                raise TopologyDriftError(f"consumer {spec.name} of {spec.stream} is gone") from exc
            except (NatsError, TimeoutError) as exc:
                _log.warning("Could not look after consumer %s: %r", spec.name, exc)
            else:
                if observer is not None:
                    observer.waiting(spec.name, (info.num_pending or 0) + (info.num_ack_pending or 0))

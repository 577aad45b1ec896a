"""Creates and checks the streams, consumers and buckets: `python -m shared.jetstream.bootstrap`.

Exit code 0: all is as declared. 1: it could not be made so, or the broker is too weak. 2: a setting is wrong.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, TypeVar

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamManager
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import APIError, NotFoundError

from shared.jetstream.connection import close, connect
from shared.jetstream.durability import check_durability
from shared.jetstream.errors import TopologyDriftError, WeakBrokerError
from shared.jetstream.retry import Backoff
from shared.jetstream.topology import CONSUMERS, ConsumerSpec, TopologySettings, streams
from shared.settings import NatsSettings

_log = logging.getLogger(__name__)

T = TypeVar("T")

_API_SECONDS: Final = 5.0
_PATIENCE: Final = 30.0
_NO_PEERS_YET: Final = frozenset({10005, 10008, 10009})  # a cluster that has only just come up
_CHOSEN_BY_BROKER: Final = frozenset({"metadata", "description", "max_waiting"})


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the broker is and what is asked of it.

    `monitor_url`: the monitoring of a single node, telling whether it is durable. `allow_weak_durability`:
    go on with a broker that may lose acknowledged messages in a power cut.
    """

    nats_url: str
    monitor_url: str | None = None
    allow_weak_durability: bool = False
    topology: TopologySettings = field(default_factory=TopologySettings)

    @classmethod
    def of(cls, settings: NatsSettings) -> "BrokerSettings":
        """As the environment has them."""
        return cls(
            nats_url=settings.nats_url,
            monitor_url=settings.nats_monitor_url,
            allow_weak_durability=settings.allow_weak_durability,
            topology=TopologySettings(
                replicas=settings.nats_replicas,
                events_max_bytes=settings.events_max_bytes,
                ack_wait=settings.ack_wait_seconds,
            ),
        )


async def bootstrap(nc: Client, settings: TopologySettings) -> None:
    """Create what is missing and change what differs; a second run changes nothing.

    Raises:
        TopologyDriftError: the broker refuses to make it as declared.
        TimeoutError: the broker has not answered for half a minute.
    """
    manager = nc.jsm(timeout=_API_SECONDS)
    for stream in streams(settings):
        await _ensure_stream(manager, stream)
    for spec in CONSUMERS:
        await _ensure_consumer(manager, spec, settings)


async def verify(nc: Client, settings: BrokerSettings) -> bool:
    """Check that the broker keeps what it acknowledges and that everything is as declared.

    Returns:
        Whether the broker is durable; False only where `allow_weak_durability` lets it pass.

    Raises:
        WeakBrokerError: the broker is not known to be durable.
        TopologyDriftError: names the stream or consumer and the field.
        TimeoutError: the broker does not answer.
    """
    durable = await _check_durability(nc, settings)
    await check_topology(nc, settings.topology)
    return durable


async def check_topology(nc: Client, settings: TopologySettings) -> None:
    """Compare everything that is declared with what is there.

    Raises:
        TopologyDriftError: names the stream or consumer and the field.
        TimeoutError: the broker does not answer.
    """
    manager = nc.jsm(timeout=_API_SECONDS)
    for stream in streams(settings):
        _refuse_drift(f"stream {stream.name}", stream, await _stream(manager, stream))
    for spec in CONSUMERS:
        _refuse_drift(_name(spec), spec.config(settings), await _consumer(manager, spec))


async def _check_durability(nc: Client, settings: BrokerSettings) -> bool:
    try:
        await check_durability(nc, replicas=settings.topology.replicas, monitor_url=settings.monitor_url)
    except WeakBrokerError as exc:
        if not settings.allow_weak_durability:
            raise
        _log.warning("Going on all the same, as ALLOW_WEAK_DURABILITY says: %s", exc)
        return False
    return True


async def _ensure_stream(manager: JetStreamManager, declared: StreamConfig) -> None:
    actual = await _stream(manager, declared)
    if actual is None:
        _log.info("Creating the stream %s", declared.name)
        await _patiently(lambda: manager.add_stream(declared))
    elif difference(declared, actual):
        _log.warning("Changing the stream %s: %s", declared.name, difference(declared, actual))
        await _patiently(lambda: manager.update_stream(declared))
    _refuse_drift(f"stream {declared.name}", declared, await _stream(manager, declared))


async def _ensure_consumer(manager: JetStreamManager, spec: ConsumerSpec, settings: TopologySettings) -> None:
    declared = spec.config(settings)
    actual = await _consumer(manager, spec)
    if actual is None or difference(declared, actual):
        _log.info("Creating or changing the %s", _name(spec))
        await _patiently(lambda: manager.add_consumer(spec.stream, declared))
    _refuse_drift(_name(spec), declared, await _consumer(manager, spec))


async def _stream(manager: JetStreamManager, declared: StreamConfig) -> StreamConfig | None:
    info = await _patiently(lambda: manager.stream_info(declared.name or ""))
    return info.config if info is not None else None


async def _consumer(manager: JetStreamManager, spec: ConsumerSpec) -> ConsumerConfig | None:
    info = await _patiently(lambda: manager.consumer_info(spec.stream, spec.name))
    return info.config if info is not None else None


async def _patiently(action: Callable[[], Awaitable[T]]) -> T | None:
    """Do it, while a cluster that has just started cannot yet; None when there is no such thing."""
    backoff = Backoff(budget=_PATIENCE)
    while True:
        try:
            return await action()
        except NotFoundError:
            return None
        except APIError as exc:
            if exc.err_code not in _NO_PEERS_YET or backoff.remaining <= 0:
                raise TopologyDriftError(f"the broker refuses: {exc.description} ({exc.err_code})") from exc
        except (NatsError, TimeoutError) as exc:
            if backoff.remaining <= 0:
                raise TimeoutError(f"the broker does not answer: {exc!r}") from exc
        await backoff.wait()


def _name(spec: ConsumerSpec) -> str:
    return f"consumer {spec.name} of {spec.stream}"


def _refuse_drift(
    name: str, declared: StreamConfig | ConsumerConfig, actual: StreamConfig | ConsumerConfig | None
) -> None:
    if actual is None:
        raise TopologyDriftError(f"{name} does not exist; run `python -m shared.jetstream.bootstrap`")
    found = difference(declared, actual)
    if found:
        raise TopologyDriftError(f"{name} is not as declared: {found}")


def difference(declared: StreamConfig | ConsumerConfig, actual: StreamConfig | ConsumerConfig) -> str | None:
    """The first field that differs, with both values; what is not declared must have the broker's default."""
    for item in fields(declared):
        if item.name in _CHOSEN_BY_BROKER:
            continue
        wanted, found = getattr(declared, item.name), getattr(actual, item.name)
        if wanted != found and not (_unset(wanted) and _unset(found)):
            return f"{item.name} is {found!r} instead of {wanted!r}"
    return None


def _unset(value: Any) -> bool:
    if is_dataclass(value):
        return all(_unset(getattr(value, item.name)) for item in fields(value))
    return value in (None, False, 0, -1, "", "none", [], {})


async def run(settings: BrokerSettings) -> None:
    """Refuse a weak broker, else create or change what is needed; raises like `bootstrap` and `verify`."""
    nc = await connect(settings.nats_url, "bootstrap", within=_PATIENCE)
    try:
        await _check_durability(nc, settings)
        await bootstrap(nc, settings.topology)
    finally:
        await close(nc)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = BrokerSettings.of(NatsSettings.load())
    try:
        asyncio.run(run(settings))
    except (TopologyDriftError, WeakBrokerError, TimeoutError) as exc:
        print(f"bootstrap: {exc}", file=sys.stderr)
        return 1
    print("bootstrap: streams, consumers and buckets are as declared")
    return 0


if __name__ == "__main__":
    sys.exit(main())

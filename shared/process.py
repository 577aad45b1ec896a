"""Runs one service: settings, logs, broker, signals, readiness, and a stop that ends in time."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import uvloop
from nats.aio.client import Client

from shared import failpoints
from shared.jetstream.bootstrap import BrokerSettings, verify
from shared.jetstream.connection import StoppedError, close, connect
from shared.jetstream.errors import TopologyDriftError, WeakBrokerError
from shared.observability.health import Check, Readiness, health_app, http_server
from shared.observability.logging import configure_logging
from shared.settings import ServiceSettings

_log = logging.getLogger(__name__)

EXIT_REFUSED = 1
STOP_LIMIT_SECONDS = 25.0


@dataclass(slots=True)
class Runtime:
    """What a service is given: the broker's connection, its readiness, and the way to say that it cannot go on."""

    nc: Client
    readiness: Readiness
    stop: asyncio.Event
    is_durable: bool = True
    """False where the operator allowed a broker that may lose acknowledged messages."""
    _failures: list[BaseException] = field(default_factory=list)

    def fail(self, error: BaseException) -> None:
        """Stop the process with exit code 1: what failed must be up for the service to be of use."""
        _log.error("Stopping, for it cannot go on: %r", error, exc_info=error)
        self._failures.append(error)
        self.stop.set()

    @contextmanager
    def supervising(self, *tasks: asyncio.Task[None]) -> Iterator[None]:
        """Inside, the service is of no use without any of these tasks: the end of one, however it came, is its own."""
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            yield
        finally:
            for task in tasks:
                task.remove_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.stop.is_set():
            return
        # Cancelled by whom? The broker's client cancels what waits for a connection that it gives up.
        error = None if task.cancelled() else task.exception()
        self.fail(error or RuntimeError(f"{task.get_name()} ended"))

    @property
    def failed(self) -> bool:
        """Whether it is stopping because it cannot go on."""
        return bool(self._failures)


S = TypeVar("S", bound=ServiceSettings)
Build = Callable[[S, Runtime], AbstractAsyncContextManager[None]]


def run(name: str, settings_type: type[S], build: Build[S]) -> None:
    """Run the service until SIGTERM or SIGINT, then leave within 25 seconds.

    Exit codes: 0 stopped, 1 could not go on, 2 wrong settings.
    """
    settings = settings_type.load()
    configure_logging(name, settings.log_level)
    failpoints.arm(os.environ)
    sys.exit(uvloop.run(_run(name, settings, build)))


async def _run(name: str, settings: S, build: Build[S]) -> int:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    try:
        async with _runtime(name, settings, stop) as runtime, AsyncExitStack() as stack:
            await stack.enter_async_context(build(settings, runtime))
            runtime.readiness.started = True
            _log.info("%s is ready", name)
            await stop.wait()
            runtime.readiness.stopping = True
            _log.info("%s is stopping", name)
            _exit_at_the_limit()
        return EXIT_REFUSED if runtime.failed else 0
    except StoppedError:
        return 0
    except (TopologyDriftError, WeakBrokerError, OSError) as exc:  # an address that is taken, or no broker in time
        _log.error("%s does not start: %s", name, exc)
        return EXIT_REFUSED


@asynccontextmanager
async def _runtime(name: str, settings: ServiceSettings, stop: asyncio.Event) -> AsyncIterator[Runtime]:
    nc = await connect(settings.nats_url, name, stop=stop)
    try:
        is_durable = await verify(nc, BrokerSettings.of(settings))
        runtime = Runtime(nc=nc, readiness=Readiness(), stop=stop, is_durable=is_durable)
        runtime.readiness.checks["queue"] = _connected(nc)
        async with AsyncExitStack() as stack:
            if settings.health_port is not None:
                app = health_app(runtime.readiness)
                await stack.enter_async_context(
                    http_server(app, settings.health_host, settings.health_port, stop_seconds=1)
                )
            yield runtime
    finally:
        await close(nc)


def _connected(nc: Client) -> Callable[[], Awaitable[Check]]:
    async def check() -> Check:
        return Check(nc.is_connected, "" if nc.is_connected else "not connected to the broker")

    return check


def _stop_on_signals(stop: asyncio.Event) -> None:
    """The first signal asks for a clean stop, the second one ends the process at once."""

    def asked() -> None:
        if stop.is_set():
            os._exit(EXIT_REFUSED)
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, asked)


def _exit_at_the_limit() -> None:
    """Whatever hangs while stopping: everything is safe to be killed, so leave rather than wait."""

    def leave() -> None:
        _log.error("Not stopped within %d s, leaving", STOP_LIMIT_SECONDS)
        os._exit(EXIT_REFUSED)

    asyncio.get_running_loop().call_later(STOP_LIMIT_SECONDS, leave)

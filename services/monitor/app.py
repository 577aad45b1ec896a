"""The composition root of the monitor."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.monitor.asked import AskedSweeps
from services.monitor.census import Census
from services.monitor.claims import BrokerClaims
from services.monitor.crowd import Crowd
from services.monitor.observer import Observer
from services.monitor.old_ends import OldEnds
from services.monitor.ownership import PostgresOwnership
from services.monitor.progress import Telling, telling_on
from services.monitor.quiet import QuietAttempts
from services.monitor.receipts import Receipts
from services.monitor.roll import Roll
from services.monitor.settings import MonitorSettings
from services.monitor.streams import Streams
from services.monitor.sweep import Sweeper
from services.monitor.turns import Turns
from services.monitor.watch import Watch
from shared.command_handler import CommandHandler
from shared.ending import end
from shared.following import Following
from shared.jetstream.consumer import subscribe, watch_consumers
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.kv import JetStreamKeyValue
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.pull import make_broker
from shared.jetstream.topology import CONTROLS, MONITOR_RECEIPTS, MONITOR_WATCH
from shared.observability.metrics import ConsumerMetrics
from shared.postgres.pool import make_pool
from shared.process import Runtime, run
from shared.provider_client import make_limiter, open_provider
from shared.system import RandomIds, SystemClock

_log = logging.getLogger(__name__)

_WORKERS = 64
_SWEEP_CONNECTIONS = 2
# A watch comes again for as long as its agent lives, so how often it came says nothing of failures.
_WATCH_DELAYS = (1.0, 5.0, 30.0)


@asynccontextmanager
async def build(settings: MonitorSettings, runtime: Runtime) -> AsyncIterator[None]:
    """The running monitor."""
    clock, ids, nc = SystemClock(), RandomIds(), runtime.nc
    log = JetStreamEventLog(nc)
    handler = CommandHandler(log, clock, ids, policy=settings.retry_policy, patience=settings.patience)
    limiter = make_limiter(settings, nc, clock)
    async with open_provider(settings, nc, clock, limiter) as provider:
        observer = Observer(handler, provider, clock, ids, OldEnds(provider, clock, settings.follow_up_grace))
        telling = Telling(telling_on(nc), clock)
        streams = Streams(
            provider, observer, BrokerClaims(nc), permission=lambda: limiter.acquire("stream"), telling=telling
        )
        crowd = Crowd(nc)
        roll = Roll(provider, clock, settings.roll_rate)
        watch = Watch(observer, streams, clock, settings.poll_policy, lambda: crowd.size, roll)
        broker = make_broker(settings.nats_url, "monitor", grace=settings.stop_seconds)
        metrics = ConsumerMetrics()
        subscribe(broker, MONITOR_RECEIPTS, Receipts(observer).on_receipt, workers=_WORKERS, observer=metrics)
        subscribe(broker, MONITOR_WATCH, watch.on_watched, workers=_WORKERS, delays=_WATCH_DELAYS, observer=metrics)
        await broker.start()
        loops = [
            asyncio.create_task(
                watch_consumers(nc, [MONITOR_RECEIPTS, MONITOR_WATCH], observer=metrics), name="watch-consumers"
            ),
            asyncio.create_task(crowd.keep_counting(), name="count-watched"),
            asyncio.create_task(telling.run(), name="progress"),
        ]
        try:
            with runtime.supervising(*loops):
                async with _sweeping(settings, runtime, observer):
                    yield
        finally:
            await end(*loops)
            await broker.stop()
            await streams.aclose()


@asynccontextmanager
async def _sweeping(settings: MonitorSettings, runtime: Runtime, observer: Observer) -> AsyncIterator[None]:
    """Sweeps by the clock and on request, if there is a database that tells which agents are ours."""
    nc = runtime.nc
    if settings.database_url is None:
        _log.warning("No DATABASE_URL: agents that belong to no attempt are not looked for")
        async with AskedSweeps(nc, None).answering():
            yield
        return
    dsn = settings.database_url.get_secret_value()
    async with make_pool(dsn, name="monitor", max_size=_SWEEP_CONNECTIONS) as pool:
        sweeper = _sweeper(settings, observer, PostgresOwnership(pool), Following(JetStreamPublisher(nc)))
        turns = Turns(JetStreamKeyValue(nc, CONTROLS), observer.clock, timedelta(seconds=settings.sweep_seconds))
        sweeping = asyncio.create_task(sweeper.run(turns), name="sweep")
        try:
            with runtime.supervising(sweeping):
                async with AskedSweeps(nc, sweeper).answering():
                    yield
        finally:
            await end(sweeping)


def _sweeper(
    settings: MonitorSettings, observer: Observer, ownership: PostgresOwnership, following: Following
) -> Sweeper:
    handler, provider, clock = observer.handler, observer.provider, observer.clock
    limit = timedelta(seconds=settings.sweep_quiet_seconds)
    quiet = QuietAttempts(handler, observer, ownership, following, clock, limit)
    return Sweeper(handler, provider, Census(provider, clock), ownership, quiet)


def main() -> None:
    run("monitor", MonitorSettings, build)

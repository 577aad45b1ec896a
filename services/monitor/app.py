"""The composition root of the monitor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.monitor.claims import BrokerClaims
from services.monitor.observer import Observer
from services.monitor.old_ends import OldEnds
from services.monitor.receipts import Receipts
from services.monitor.settings import MonitorSettings
from services.monitor.streams import Streams
from services.monitor.watch import Watch
from shared.command_handler import CommandHandler
from shared.jetstream.consumer import subscribe, watch_consumers
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.pull import make_broker
from shared.jetstream.topology import MONITOR_RECEIPTS, MONITOR_WATCH
from shared.observability.metrics import ConsumerMetrics
from shared.process import Runtime, run
from shared.provider_client import make_limiter, open_provider
from shared.system import RandomIds, SystemClock

_WORKERS = 64
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
        streams = Streams(provider, observer, BrokerClaims(nc), permission=lambda: limiter.acquire("stream"))
        watch = Watch(observer, streams, clock, settings.poll_policy)
        broker = make_broker(settings.nats_url, "monitor", grace=settings.stop_seconds)
        metrics = ConsumerMetrics()
        subscribe(broker, MONITOR_RECEIPTS, Receipts(observer).on_receipt, workers=_WORKERS, observer=metrics)
        subscribe(broker, MONITOR_WATCH, watch.on_watched, workers=_WORKERS, delays=_WATCH_DELAYS, observer=metrics)
        await broker.start()
        watching = asyncio.create_task(watch_consumers(nc, [MONITOR_RECEIPTS, MONITOR_WATCH]), name="watch-consumers")
        runtime.supervise(watching)
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await broker.stop()
            await streams.aclose()


def main() -> None:
    run("monitor", MonitorSettings, build)

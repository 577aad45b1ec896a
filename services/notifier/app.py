"""Puts the notifier together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from services.notifier.channels.webhook import WebhookChannel
from services.notifier.deliveries import Deliverer
from services.notifier.guard import Guard
from services.notifier.outbound import SEND_SECONDS, Outbound
from services.notifier.publish import Announcer
from services.notifier.records import PostgresRecords
from services.notifier.schedule import SCHEDULE
from services.notifier.settings import NotifierSettings
from shared.ending import end
from shared.jetstream.consumer import subscribe, watch_consumers
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.pull import make_broker
from shared.jetstream.topology import NOTIFIER_DELIVERIES, NOTIFIER_EVENTS
from shared.observability.metrics import ConsumerMetrics
from shared.postgres.pool import make_pool
from shared.process import Runtime
from shared.system import SystemClock

_ANNOUNCING: Final = 32
# Four times what may be in flight: who waits for a slow host takes up a worker, too, but never more than ten a host.
_DELIVERING: Final = 400


@asynccontextmanager
async def build(
    settings: NotifierSettings,
    runtime: Runtime,
    *,
    schedule: Sequence[timedelta] = SCHEDULE,
    send_seconds: float = SEND_SECONDS,
) -> AsyncIterator[None]:
    """Announce and deliver while inside; on leaving, what is under way may finish.

    `schedule`: the waits between tries. `send_seconds`: how long one may take.
    """
    log, publisher = JetStreamEventLog(runtime.nc), JetStreamPublisher(runtime.nc)
    announcer = Announcer(log, publisher)
    outbound = Outbound(Guard(allow_private=settings.allow_private_webhooks), total_seconds=send_seconds)
    channel = WebhookChannel(outbound, settings.webhook_secret)
    dsn = settings.database_url.get_secret_value()
    async with make_pool(dsn, name="notifier", max_size=settings.pool_size) as pool:
        deliverer = Deliverer(log, SystemClock(), channel, PostgresRecords(pool), schedule=schedule)
        async with _consuming(settings, runtime, publisher, announcer, deliverer):
            yield


@asynccontextmanager
async def _consuming(
    settings: NotifierSettings,
    runtime: Runtime,
    publisher: JetStreamPublisher,
    announcer: Announcer,
    deliverer: Deliverer,
) -> AsyncIterator[None]:
    broker, metrics = make_broker(settings.nats_url, "notifier", grace=settings.stop_seconds), ConsumerMetrics()
    for spec, handler, workers in (
        (NOTIFIER_EVENTS, announcer.on_commit, _ANNOUNCING),
        (NOTIFIER_DELIVERIES, deliverer.on_notification, _DELIVERING),
    ):
        subscribe(broker, spec, handler, workers=workers, publisher=publisher, observer=metrics)
    await broker.start()
    watching = asyncio.create_task(
        watch_consumers(runtime.nc, (NOTIFIER_EVENTS, NOTIFIER_DELIVERIES), observer=metrics), name="watch-consumers"
    )
    try:
        with runtime.supervising(watching):
            yield
    finally:
        await end(watching)
        await broker.stop()

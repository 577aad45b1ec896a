"""The composition root of the dispatcher."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

from nats.aio.client import Client

from services.dispatcher.audit import SlotAudit
from services.dispatcher.commands import Commands
from services.dispatcher.launcher import Launcher, WebhookFor
from services.dispatcher.reconcile import Reconciler
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.slots import SlotPool
from services.dispatcher.timers import DueTimers
from shared.command_handler import CommandHandler
from shared.command_message import Reply
from shared.cursor.breaker import Breaker
from shared.cursor.errors import ProviderError
from shared.cursor.provider import Provider, WebhookTarget
from shared.domain.plan import Cleanup
from shared.ending import end
from shared.jetstream.consumer import subscribe, watch_consumers
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.kv import JetStreamKeyValue
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.pull import make_broker
from shared.jetstream.replies import send_reply
from shared.jetstream.timers import JetStreamTimers
from shared.jetstream.topology import (
    CONTROLS,
    DISPATCHER_COMMANDS,
    DISPATCHER_QUEUE,
    DISPATCHER_RECONCILE,
    DISPATCHER_TIMERS,
    SLOTS,
)
from shared.messages import Ticket
from shared.observability.metrics import ConsumerMetrics
from shared.process import Runtime, run
from shared.provider_client import make_breaker, make_limiter, open_provider
from shared.queue_control import QueueHolds
from shared.rate_limit import SharedRateLimiter
from shared.system import RandomIds, SystemClock
from shared.webhooks import WebhookKeys

_log = logging.getLogger(__name__)

_COMMAND_WORKERS = 64
_RECONCILE_WORKERS = 64
_TIMER_WORKERS = 16
# An agent may take a minute to be created; more at once than this the provider would not like either.
_MOST_LAUNCHES = 256
_LONGEST_CREATE = timedelta(seconds=150)
# A ticket that waits for a slot comes again every few seconds, so how often it came says nothing of failures.
_TICKET_DELAYS = (1.0, 5.0, 30.0)
# A command that fails this often hits a defect; it is parked where it can be seen and sent again.
_COMMAND_DELIVERIES = 20


@asynccontextmanager
async def build(settings: DispatcherSettings, runtime: Runtime) -> AsyncIterator[None]:
    """The running dispatcher."""
    clock, ids, nc = SystemClock(), RandomIds(), runtime.nc
    handler = CommandHandler(JetStreamEventLog(nc), clock, ids, policy=settings.retry_policy)
    bucket = JetStreamKeyValue(nc, SLOTS)
    limiter, breaker = make_limiter(settings, nc, clock), make_breaker(settings)
    controls = JetStreamKeyValue(nc, CONTROLS)
    async with (
        open_provider(settings, nc, clock, limiter, breaker) as provider,
        bucket.view() as view,
        controls.view() as held,
    ):
        slots = SlotPool(bucket, view, settings.max_concurrent_agents)
        reconciler = Reconciler(
            handler, JetStreamPublisher(nc), JetStreamTimers(nc), slots, provider, _cleanup(settings)
        )
        launcher = Launcher(
            handler,
            slots,
            provider,
            clock,
            settle=_settle(settings),
            webhook_for=_webhooks(settings),
            create_wait=partial(_create_wait, limiter, breaker, provider),
            is_held=QueueHolds(held).is_held,
            ack_wait=timedelta(seconds=settings.ack_wait_seconds),
        )
        audit = SlotAudit(handler, slots, reconciler.keep_followed)
        commands = Commands(handler, _NatsAnswers(nc))
        timers = DueTimers(handler, clock, ids)
        broker = make_broker(settings.nats_url, "dispatcher", grace=settings.stop_seconds)
        metrics = ConsumerMetrics()
        subscribe(
            broker,
            DISPATCHER_COMMANDS,
            commands.on_command,
            workers=_COMMAND_WORKERS,
            dead_after=_COMMAND_DELIVERIES,
            observer=metrics,
        )
        subscribe(broker, DISPATCHER_RECONCILE, reconciler.on_commit, workers=_RECONCILE_WORKERS, observer=metrics)
        subscribe(broker, DISPATCHER_TIMERS, timers.on_due, workers=_TIMER_WORKERS, observer=metrics)
        launches = min(settings.max_concurrent_agents + 2, _MOST_LAUNCHES)
        for queue in DISPATCHER_QUEUE.values():
            subscribe(
                broker,
                queue,
                launcher.on_ticket,
                workers=launches,
                handler_seconds=None,
                delays=_TICKET_DELAYS,
                observer=metrics,
            )
        await broker.start()
        tasks = [
            asyncio.create_task(audit.run(settings.slot_audit_seconds), name="slot-audit"),
            asyncio.create_task(watch_consumers(nc, _CONSUMERS, observer=metrics), name="watch-consumers"),
        ]
        try:
            with runtime.supervising(*tasks):
                yield
        finally:
            await end(*tasks)
            await broker.stop()


_CONSUMERS = [DISPATCHER_COMMANDS, DISPATCHER_RECONCILE, DISPATCHER_TIMERS, *DISPATCHER_QUEUE.values()]


class _NatsAnswers:
    """`Answers` by core NATS: whoever waits hears it, nobody else needs it."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc

    async def send(self, reply_to: str, reply: Reply) -> None:
        await send_reply(self._nc, reply_to, reply.encode())


async def _create_wait(limiter: SharedRateLimiter, breaker: Breaker, provider: Provider) -> float:
    """Seconds until a create would be let through. While the provider is left alone none is started: its time would run
    out for nothing. Whether it is well again a read finds out, for a create that fails may have taken effect."""
    if breaker.is_open and not breaker.wait:
        with suppress(ProviderError):  # the breaker has heard of it
            await provider.me()
    return max(await limiter.wait("create"), breaker.wait)


def _settle(settings: DispatcherSettings) -> timedelta:
    """How long a create without an answer may still take effect."""
    settle = timedelta(seconds=settings.create_settle_seconds)
    if settle < _LONGEST_CREATE:
        _log.warning(
            "CREATE_SETTLE_SECONDS is below the %d s that a create may take: one that is given up too early leaves an"
            " agent beside that of the next attempt",
            _LONGEST_CREATE.total_seconds(),
        )
    return settle


def _cleanup(settings: DispatcherSettings) -> Cleanup:
    if settings.agent_cleanup == "archive" and settings.cursor_api_version == "v0":
        _log.warning("AGENT_CLEANUP=archive does nothing: version 0 of the provider's API has no archive")
        return "keep"
    return settings.agent_cleanup


def _webhooks(settings: DispatcherSettings) -> WebhookFor:
    """Where the agents of v0 report to; v1 has no webhooks."""
    keys = WebhookKeys([settings.webhook_secret.get_secret_value()])
    if settings.cursor_api_version == "v0" and not settings.app_url.startswith("https://"):
        _log.warning(
            "APP_URL is not https: anybody on the way can read what agents report, and the provider may refuse it"
        )

    def webhook_for(ticket: Ticket) -> WebhookTarget | None:
        if settings.cursor_api_version != "v0":
            return None
        token = keys.token_for(ticket.team, ticket.orchestration_id, ticket.attempt_id)
        return WebhookTarget(
            url=f"{settings.app_url}/api/cloud-agents/webhook?attempt={token}",
            secret=keys.secret_for(ticket.attempt_id),
        )

    return webhook_for


def main() -> None:
    run("dispatcher", DispatcherSettings, build)

"""The api's composition: what is opened here is closed here."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import psycopg
from fastapi import FastAPI

from services.api.access import open_access
from services.api.checkpoint import CheckpointWatcher, watching
from services.api.commands import CommandClient
from services.api.costs import CostQueries
from services.api.deliveries import Deliveries
from services.api.errors import add_error_handlers
from services.api.file_limit import allow_streams
from services.api.github import GitHub
from services.api.guard import JetStreamProbe
from services.api.head import HeadAsGet
from services.api.health import Health, ProviderCheck
from services.api.history import History
from services.api.idempotency import Idempotency
from services.api.idempotency_store import PostgresIdempotency
from services.api.listing import Listing
from services.api.live import Limits, LiveHub, following
from services.api.middleware import BodyLimit, RequestFrame
from services.api.model_list import ModelList
from services.api.newest import Newest
from services.api.openapi import document
from services.api.parts import Parts
from services.api.past import Past
from services.api.progress import progress_heard
from services.api.projector import Projector, running
from services.api.queries import Queries
from services.api.queue import TeamQueue
from services.api.reading import OrchestrationReader
from services.api.repository_list import RepositoryList
from services.api.request_limit import RateLimitHeaders
from services.api.responses import Json
from services.api.routes import (
    agents,
    catalogue,
    deliveries,
    health,
    history,
    keys,
    lifecycle,
    listing,
    orchestrations,
    queue,
    reading,
    stream,
    sweep,
    task_commands,
    tasks,
    webhook,
    websocket,
)
from services.api.settings import ApiSettings
from services.api.source import JetStreamSource
from services.api.sweeps import Sweeps
from services.api.webhook_limits import WebhookLimits
from shared.jetstream.dead import DeadLetters
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.kv import JetStreamKeyValue
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.topology import CONTROLS
from shared.observability.health import Check, http_server
from shared.postgres.migrate import is_at_head
from shared.postgres.pool import Pool, make_pool
from shared.process import Runtime
from shared.provider_client import open_provider
from shared.queue_control import QueueSwitch
from shared.system import RandomIds, SystemClock

_MAX_BODY: Final = 1024 * 1024
_READ_LOG_SECONDS: Final = 5.0
"""A request gives up on the log by then, and is answered 503."""

_CHECK_SECONDS: Final = 2.0


@asynccontextmanager
async def build(settings: ApiSettings, runtime: Runtime) -> AsyncIterator[None]:
    """Everything of the api, served on its port."""
    allow_streams(settings.max_streams)
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_parts(settings, runtime))
        server = http_server(make_app(parts), settings.api_host, settings.api_port, stop_seconds=settings.stop_seconds)
        await stack.enter_async_context(server)
        # Open streams would hold the server up: they are ended before it is asked to stop.
        stack.callback(parts.hub.close)
        yield


@asynccontextmanager
async def open_parts(settings: ApiSettings, runtime: Runtime) -> AsyncIterator[Parts]:
    """What the routes work with, at work."""
    dsn = settings.database_url.get_secret_value()
    log = JetStreamEventLog(runtime.nc, budget=_READ_LOG_SECONDS)
    clock, newest = SystemClock(), Newest()
    hub = LiveHub(log, clock, newest, Limits(settings.max_streams, settings.max_streams_per_team))
    watcher = CheckpointWatcher(dsn)
    publisher = JetStreamPublisher(runtime.nc, budget=settings.publish_seconds)
    commands = CommandClient(runtime.nc, publisher, RandomIds(), reply_seconds=settings.reply_seconds)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(open_provider(settings, runtime.nc, clock))
        pool = await stack.enter_async_context(make_pool(dsn, name="api", max_size=settings.pool_size))
        stack.enter_context(runtime.supervising(await stack.enter_async_context(watching(watcher))))
        if settings.run_projector:
            source, probe = JetStreamSource(runtime.nc), JetStreamProbe(runtime.nc)
            projector = Projector(dsn, source, probe, on_advance=watcher.advance)
            stack.enter_context(runtime.supervising(await stack.enter_async_context(running(projector))))
            runtime.readiness.checks["projection"] = projector.check
        stack.enter_context(runtime.supervising(await stack.enter_async_context(following(hub))))
        await stack.enter_async_context(progress_heard(runtime.nc, hub))
        await stack.enter_async_context(commands.listening())
        models = ModelList(provider.models, patience=settings.models_seconds)
        provider_check = ProviderCheck(provider.me)
        models.refresh()
        repositories = RepositoryList(provider.repositories)
        stack.push_async_callback(repositories.aclose)
        stack.push_async_callback(models.aclose)
        stack.push_async_callback(provider_check.aclose)
        idempotency = Idempotency(PostgresIdempotency(pool), clock, RandomIds())
        stack.push_async_callback(idempotency.aclose)
        queries = Queries(pool)
        controls = JetStreamKeyValue(runtime.nc, CONTROLS, budget=5.0)
        commits = History(pool, log, newest)
        runtime.readiness.checks["database"] = _database_check(pool)
        runtime.readiness.checks["live"] = _live_check(hub)
        github = _github(settings)
        if github is not None:
            stack.push_async_callback(github.aclose)
        yield Parts(
            settings=settings,
            clock=clock,
            access=await stack.enter_async_context(open_access(settings, runtime, clock)),
            models=models,
            repositories=repositories,
            github=github,
            provider=provider,
            commands=commands,
            idempotency=idempotency,
            listing=Listing(pool),
            costs=CostQueries(pool),
            deliveries=Deliveries(pool, publisher),
            queue=TeamQueue(pool, QueueSwitch(controls), DeadLetters(runtime.nc, publisher)),
            sweeps=Sweeps(runtime.nc),
            history=commits,
            past=Past(commits, log, watcher, clock, patience=settings.visible_seconds),
            reader=OrchestrationReader(queries, log, watcher, newest, visible_seconds=settings.visible_seconds),
            hub=hub,
            publisher=publisher,
            webhook_keys=settings.webhook_keys,
            webhook_limits=WebhookLimits(settings.webhooks_per_minute, settings.webhook_burst),
            health=Health(runtime.nc, queries, provider_check, clock, runtime.is_durable, time.monotonic()),
            readiness=runtime.readiness,
        )


def _github(settings: ApiSettings) -> GitHub | None:
    token = settings.github_token
    return GitHub(token.get_secret_value(), settings.github_api_url) if token else None


def make_app(parts: Parts) -> FastAPI:
    """The ASGI application on these parts."""
    app = FastAPI(
        title="cursor-orchestrator",
        version="1",
        description="Runs programmes of coding work on cloud agents.",
        default_response_class=Json,
        redirect_slashes=False,
    )
    app.state.parts = parts
    for module in (
        *(orchestrations, listing, reading, lifecycle, history),
        *(tasks, task_commands, sweep, agents, catalogue, stream, websocket, deliveries, queue, keys, webhook, health),
    ):
        app.include_router(module.router)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    add_error_handlers(app)
    app.add_middleware(BodyLimit, limit=_MAX_BODY, smaller={webhook.PATH: webhook.MAX_BYTES})
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestFrame)
    app.add_middleware(RateLimitHeaders)  # the last one is the outermost
    return app


def _database_check(pool: Pool) -> Callable[[], Awaitable[Check]]:
    async def check() -> Check:
        try:
            async with asyncio.timeout(_CHECK_SECONDS), pool.connection() as connection:
                at_head = await is_at_head(connection)
        except (psycopg.Error, TimeoutError) as exc:
            return Check(False, f"does not answer ({type(exc).__name__})")
        return Check(at_head, "" if at_head else "the schema is older than this release")

    return check


def _live_check(hub: LiveHub) -> Callable[[], Awaitable[Check]]:
    async def check() -> Check:
        return Check(hub.following, "" if hub.following else "does not follow the log yet")

    return check

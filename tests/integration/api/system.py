"""An api on real servers, with a stand-in for the dispatcher, for one test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from services.api.app import make_app, open_parts
from services.api.parts import Parts
from services.api.settings import ApiSettings
from shared.command_handler import Cause, CommandHandler, Decided
from shared.command_message import CommandMessage, Reply
from shared.domain.commands import AnyCommand
from shared.domain.errors import Refusal
from shared.ending import end
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import close, connect
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.topology import COMMANDS, DISPATCHER_COMMANDS, TopologySettings
from shared.observability.health import Readiness, http_server
from shared.postgres.migrate import migrate
from shared.process import Runtime
from shared.system import RandomIds, SystemClock
from tests.support.eventually import eventually

KEY = "a-key-for-tests-only"
SECRET = "a-secret-for-tests-that-is-long-enough"
NOBODY = "http://127.0.0.1:1"
"""Where no provider listens."""

TASK = {"title": "Add validation", "description": "Validate every field of the form."}


def order(**fields: Any) -> dict[str, Any]:
    """A request to create an orchestration of one task."""
    return {"repository": "acme/shop", "tasks": [TASK], **fields}


class Dispatcher:
    """Decides commands as the real one does, and nothing else. `decide` carries out what services would ask for."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self.handler = CommandHandler(JetStreamEventLog(nc), SystemClock(), RandomIds())

    async def decide(self, orchestration_id: str, command: AnyCommand, team: str = "default") -> Decided:
        return await self.handler.handle(team, orchestration_id, command, Cause(RandomIds().new(), "test", "test"))

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[None]:
        """Commands are decided inside; what comes afterwards waits for the next who decides."""
        task = asyncio.create_task(self._run(), name="stand-in dispatcher")
        try:
            yield
        finally:
            await end(task)

    async def _run(self) -> None:
        subscription = await self._nc.jetstream().pull_subscribe_bind(DISPATCHER_COMMANDS.name, COMMANDS)
        try:
            while True:
                await self._decide_next(subscription)
        finally:
            # Or the broker would give the next command to a request that nobody waits for any more.
            await subscription.unsubscribe()

    async def _decide_next(self, subscription: JetStreamContext.PullSubscription) -> None:
        try:
            for message in await subscription.fetch(1, timeout=2):
                asked = CommandMessage.decode(message.data)
                reply = await self._reply(asked)
                await self._nc.publish(asked.reply_to or "", reply.encode())
                await message.ack()
        except (NatsError, TimeoutError):
            await asyncio.sleep(0.05)

    async def _reply(self, asked: CommandMessage) -> Reply:
        cause = Cause(asked.command_id, asked.correlation_id, asked.actor)
        try:
            decided = await self.handler.handle(asked.team, asked.orchestration_id, asked.command, cause)
        except Refusal as refusal:
            return Reply(error_code=refusal.code, error_message=refusal.message, error_metadata=refusal.metadata)
        status = decided.state.status.value if decided.state else None
        return Reply(sequence=decided.sequence, status=status, changed=bool(decided.events))


@dataclass(frozen=True, slots=True)
class Running:
    """A running api: where it is, a client that holds the key, and what is behind it."""

    url: str
    http: httpx.AsyncClient
    parts: Parts
    runtime: Runtime
    dispatcher: Dispatcher

    async def create(self, **fields: Any) -> dict[str, Any]:
        """Create an orchestration; its 201."""
        response = await self.http.post("/api/orchestrations", json=order(**fields))
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created


def settings_for(nats_url: str, database_url: str, **changes: Any) -> ApiSettings:
    given = {
        "nats_url": nats_url,
        "database_url": database_url,
        "orchestrator_api_key": KEY,
        "webhook_secret": SECRET,
        "cursor_api_key": "none",
        "cursor_api_url": NOBODY,
        # The limits have tests of their own; the others ask as often as they like.
        "requests_per_minute": 0,
        "failed_attempts_per_minute": 0,
        "webhooks_per_minute": 0,
        "models_seconds": 0.0,
        # A machine that is busy, or a server that stands still for a moment, is not to make anything late.
        "reply_seconds": 30.0,
        "publish_seconds": 30.0,
        "visible_seconds": 30.0,
    }
    return ApiSettings.model_validate(given | changes)


async def prepare(nats_url: str, database_url: str) -> None:
    """Streams and tables, as a deployment makes them first."""
    nc = await connect(nats_url, "bootstrap")
    await bootstrap(nc, TopologySettings(events_max_bytes=64 * 1024**2))
    await close(nc)
    await asyncio.to_thread(migrate, database_url)


@asynccontextmanager
async def running_api(
    nats_url: str, database_url: str, *, dispatching: bool = True, prepared: bool = False, **changes: Any
) -> AsyncIterator[Running]:
    """An api that is ready. `changes` are settings; without `dispatching` nobody decides commands."""
    if not prepared:
        await prepare(nats_url, database_url)
    settings = settings_for(nats_url, database_url, **changes)
    async with AsyncExitStack() as stack:
        nc = await connect(nats_url, "api")
        stack.push_async_callback(close, nc)
        runtime = Runtime(nc=nc, readiness=Readiness(), stop=asyncio.Event())
        parts = await stack.enter_async_context(open_parts(settings, runtime))
        port = await stack.enter_async_context(http_server(make_app(parts), "127.0.0.1", 0, stop_seconds=5))
        stack.callback(parts.hub.close)
        runtime.readiness.started = True
        # What is stored from here on is heard by this process.
        await eventually(lambda: parts.hub.following, interval=0.005)
        dispatcher = Dispatcher(nc)
        if dispatching:
            await stack.enter_async_context(dispatcher.deciding())
        url = f"http://127.0.0.1:{port}"
        client = httpx.AsyncClient(base_url=url, headers={"X-API-Key": KEY}, timeout=60, trust_env=False)
        http = await stack.enter_async_context(client)
        yield Running(url, http, parts, runtime, dispatcher)
        assert not runtime.stop.is_set(), "the api gave up"

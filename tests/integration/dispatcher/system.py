"""Dispatchers and monitors as in production, on a real broker and the simulated provider, in the test's loop."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from nats.aio.client import Client
from pydantic import SecretStr

from deploy.local.nats import NatsServer
from deploy.local.simulator import SimulatorSettings, create_app
from services.dispatcher.app import build as build_dispatcher
from services.dispatcher.settings import DispatcherSettings
from services.monitor.app import build as build_monitor
from services.monitor.settings import MonitorSettings
from shared.command_handler import Cause, CommandHandler
from shared.command_message import CommandMessage, Reply
from shared.cursor.provider import ApiVersion
from shared.domain.commands import AnyCommand, CreateOrchestration
from shared.domain.events import OrchestrationEvent, OrchestrationSpec, TaskSpec
from shared.domain.state import Orchestration
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import close, connect
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.topology import COMMANDS, TopologySettings, command_subject
from shared.observability.health import Readiness
from shared.process import Runtime
from shared.system import RandomIds, SystemClock
from tests.simulator.serving import QUICK, client_of, json_of, serving
from tests.support.eventually import eventually

TEAM = "team-1"
REPOSITORY = "https://github.com/acme/shop"
SECRET = "a-master-secret-of-at-least-32-characters"
NOBODY = "http://127.0.0.1:1"  # nothing listens there: webhooks are lost
NO_POLLS: dict[str, Any] = {"poll_first_seconds": 600, "poll_interval_seconds": 600}
"""For the monitor: whatever it learns in time, it learns otherwise."""


@dataclass
class System:
    nc: Client
    provider: httpx.AsyncClient
    version: ApiVersion
    nats: NatsServer
    dispatcher_settings: DispatcherSettings
    monitor_settings: MonitorSettings

    @asynccontextmanager
    async def dispatcher(self) -> AsyncIterator[None]:
        """One more dispatcher."""
        async with a_runtime(self.nats, "dispatcher") as runtime, build_dispatcher(self.dispatcher_settings, runtime):
            yield

    @asynccontextmanager
    async def monitor(self) -> AsyncIterator[None]:
        """One more monitor."""
        async with a_runtime(self.nats, "monitor") as runtime, build_monitor(self.monitor_settings, runtime):
            yield

    async def submit(self, *tasks: TaskSpec, **spec: Any) -> str:
        """Create and activate an orchestration by a command, as the api does; gives its id."""
        orchestration = str(uuid.uuid4())
        reply = await self.ask(orchestration, *tasks, **spec)
        assert reply.error_code is None, reply
        return orchestration

    async def ask(self, orchestration: str, *tasks: TaskSpec, **spec: Any) -> Reply:
        """The answer to the command that creates this orchestration."""
        inbox = self.nc.new_inbox()
        answer = await self.nc.subscribe(inbox, max_msgs=1)
        command_id = str(uuid.uuid4())
        message = CommandMessage(
            command_id=command_id,
            correlation_id=command_id,
            actor="ann",
            team=TEAM,
            orchestration_id=orchestration,
            command=CreateOrchestration(
                orchestration_id=orchestration,
                team=TEAM,
                created_by="ann",
                spec=OrchestrationSpec(**{"repository": REPOSITORY, **spec}),
                tasks=tasks,
                activate=True,
            ),
            reply_to=inbox,
        )
        await JetStreamPublisher(self.nc).publish(
            command_subject(TEAM, orchestration), message.encode(), stream=COMMANDS
        )
        return Reply.decode((await answer.next_msg(timeout=30)).data)

    @property
    def handler(self) -> CommandHandler:
        """Somebody else's, that has seen nothing yet."""
        return CommandHandler(JetStreamEventLog(self.nc), SystemClock(), RandomIds())

    async def do(self, orchestration: str, command: AnyCommand) -> None:
        """Decided here, past the queue of commands."""
        command_id = str(uuid.uuid4())
        await self.handler.handle(TEAM, orchestration, command, Cause(command_id, command_id, "ann"))

    async def state(self, orchestration: str) -> Orchestration:
        state = (await self.handler.load(TEAM, orchestration)).state
        assert state is not None
        return state

    async def ended(self, orchestration: str, *, timeout: float = 60) -> Orchestration:
        async def over() -> Orchestration:
            state = await self.state(orchestration)
            assert state.status.is_terminal, {name: task.status for name, task in state.tasks.items()}
            return state

        return await eventually(over, timeout=timeout, interval=0.1)

    async def events(self, orchestration: str) -> list[OrchestrationEvent]:
        stored = await JetStreamEventLog(self.nc).read(TEAM, orchestration)
        return [recorded.event for commit in stored for recorded in commit.commit.events]

    async def stats(self) -> dict[str, Any]:
        return json_of(await self.provider.get("/_sim/stats"))

    async def finish(self, agent_id: str) -> None:
        """Have the agent finish its work now."""
        json_of(await self.provider.post(f"/_sim/agents/{agent_id}", json={"status": "FINISHED"}))

    async def messages(self, stream: str) -> int:
        return (await self.nc.jsm().stream_info(stream)).state.messages

    async def slots_taken(self) -> int:
        """Keys with a value; a deleted one leaves a trace that is empty."""
        state = (await self.nc.jsm().stream_info("KV_slots", subjects_filter=">")).state
        taken = 0
        for subject in state.subjects or {}:
            taken += bool((await self.nc.jsm().get_last_msg("KV_slots", subject)).data)
        return taken

    async def at_rest(self) -> None:
        """Nothing is left of what was under way."""

        async def rest() -> None:
            assert await self.slots_taken() == 0
            for stream in ("COMMANDS", "QUEUE", "WATCH", "TIMERS"):
                assert await self.messages(stream) == 0, stream
            assert await self.messages("DEAD") == 0

        await eventually(rest, timeout=60, interval=0.1)


@asynccontextmanager
async def system(
    nats: NatsServer,
    version: ApiVersion = "v1",
    *,
    dispatchers: int = 1,
    monitors: int = 1,
    dispatcher: dict[str, Any] | None = None,
    monitor: dict[str, Any] | None = None,
    **simulator: Any,
) -> AsyncIterator[System]:
    nc = await connect(nats.url, "test", within=10)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(close, nc)
        await bootstrap(nc, TopologySettings())
        app = create_app(SimulatorSettings(**{**QUICK, "duration_seconds": 0.3, **simulator}))
        url = stack.enter_context(serving(app))
        provider = await stack.enter_async_context(client_of(url))
        common: dict[str, Any] = {
            "nats_url": nats.url,
            "cursor_api_key": SecretStr("key"),
            "cursor_api_url": url,
            "cursor_api_version": version,
            "retry_backoff_seconds": 0.2,
            "cursor_breaker_seconds": 0.3,
            "create_rate_per_minute": 0,
            "get_rate_per_minute": 0,
            "list_rate_per_minute": 0,
            "stop_seconds": 2,
        }
        made = DispatcherSettings(
            **{**common, "webhook_secret": SecretStr(SECRET), "app_url": NOBODY, **(dispatcher or {})}
        )
        watching = MonitorSettings(
            **{**common, "poll_interval_seconds": 0.3, "result_grace_seconds": 2, **(monitor or {})}
        )
        running = System(nc, provider, version, nats, made, watching)
        for _ in range(monitors):
            await stack.enter_async_context(running.monitor())
        for _ in range(dispatchers):
            await stack.enter_async_context(running.dispatcher())
        yield running


@asynccontextmanager
async def a_runtime(nats: NatsServer, name: str) -> AsyncIterator[Runtime]:
    """What `shared.process.run` gives a service; one that fails fails the test."""
    nc = await connect(nats.url, name, within=10)
    runtime = Runtime(nc=nc, readiness=Readiness(), stop=asyncio.Event())
    try:
        yield runtime
    finally:
        await close(nc)
    assert not runtime.failed


def task(name: str, order: int = 0, *, marker: str = "", **fields: Any) -> TaskSpec:
    """`marker`: how the simulator is to treat its agent."""
    text = f"Do {name}. {marker}".strip()
    return TaskSpec(**{"task_id": name, "title": f"Task {name}", "description": text, "order_index": order, **fields})

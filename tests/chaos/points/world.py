"""The whole system as child processes, each of which can be armed, and what is seen of it from outside."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from nats.aio.client import Client

from deploy.local.nats import NatsServer
from deploy.local.ports import free_port
from shared.cursor.provider import ApiVersion
from shared.domain.evolve import evolve
from shared.domain.state import Orchestration
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import close, connect
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.kv import JetStreamKeyValue
from shared.jetstream.topology import TopologySettings
from shared.postgres.migrate import migrate
from tests.chaos.points.forks import Fork
from tests.chaos.points.receiver import Receiver, receiver
from tests.support.eventually import eventually

_ACK_WAIT_SECONDS = 2.0
_KEY = "operator-0123456789abcdef"
_PACE = {
    # Who has died is noticed soon, and what is unknown is settled soon: nobody is to wait for either.
    "ACK_WAIT_SECONDS": str(_ACK_WAIT_SECONDS),
    "CREATE_SETTLE_SECONDS": "2",
    "SLOT_AUDIT_SECONDS": "2",
    "POLL_INTERVAL_SECONDS": "0.5",
    "FOLLOW_UP_GRACE_SECONDS": "1",
    "RETRY_BACKOFF_SECONDS": "0.3",
    "CURSOR_BREAKER_SECONDS": "0.5",
    "REPLY_SECONDS": "1",
    "VISIBLE_SECONDS": "0.2",
    "MAX_CONCURRENT_AGENTS": "60",
    # Limits that are never reached, but whose record is kept.
    "CREATE_RATE_PER_MINUTE": "60000",
    "GET_RATE_PER_MINUTE": "60000",
    "LIST_RATE_PER_MINUTE": "60000",
    "REQUESTS_PER_MINUTE": "0",
    "WEBHOOKS_PER_MINUTE": "0",
    "ALLOW_PRIVATE_WEBHOOKS": "true",
    "EVENTS_MAX_BYTES": str(512 * 1024**2),
    "SIMULATOR_DURATION_SECONDS": "0.1",
    "SIMULATOR_CREATE_SECONDS": "0.05",
    "SIMULATOR_CANCEL_SECONDS": "0.1",
    "SIMULATOR_WEBHOOK_BACKOFF_SECONDS": "0.1",
}


@dataclass
class World:
    """`states`: each orchestration as the log has it, by id."""

    version: ApiVersion
    folder: Path
    environment: dict[str, str]
    nc: Client
    api: httpx.AsyncClient
    provider: httpx.AsyncClient
    receiver: Receiver
    states: dict[str, Orchestration] = field(default_factory=dict)
    _forks: list[Fork] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def fork(self, name: str, **armed: str) -> Fork:
        """Start a service; `armed` is added to its environment."""
        fork = Fork(name, {**self.environment, **armed}, self.folder / f"{name}.log")
        self._forks.append(fork)
        return fork

    async def until(self, orchestration_id: str, reached: Callable[[Orchestration], bool]) -> Orchestration:
        """Its state once `reached` holds of it."""
        while (state := self.states.get(orchestration_id)) is None or not reached(state):
            await self._news.wait()
        return state

    async def follow(self) -> None:
        """Keep the states; runs for ever."""
        async for commits in JetStreamEventLog(self.nc).follow(after=0):
            for stored in commits:
                commit = stored.commit
                state = self.states.get(commit.aggregate)
                for recorded in commit.events:
                    state = evolve(state, recorded.event, recorded.occurred_at)
                if state is not None:
                    self.states[commit.aggregate] = state
            self._news.set()
            self._news = asyncio.Event()

    async def forget(self, bucket: str) -> None:
        """Delete what a bucket holds, for what is created once, by whoever is first, to be created again."""
        state = (await self.nc.jsm().stream_info(f"KV_{bucket}", subjects_filter=">")).state
        for subject in state.subjects or {}:
            await JetStreamKeyValue(self.nc, bucket).delete(subject.removeprefix(f"$KV.{bucket}."))

    async def kill_all(self) -> None:
        for fork in self._forks:
            await fork.kill()

    async def seen_by_provider(self) -> dict[str, Any]:
        seen: dict[str, Any] = (await self.provider.get("/_sim/stats")).json()
        return seen


@asynccontextmanager
async def world(version: ApiVersion, folder: Path, nats: NatsServer, database_url: str) -> AsyncIterator[World]:
    """Simulator and api run; the other services are to be forked."""
    ports = {name: free_port() for name in ("api", "simulator")}
    async with AsyncExitStack() as stack:
        nc = await connect(nats.url, "sweep", within=10)
        stack.push_async_callback(close, nc)
        log_bytes = int(_PACE["EVENTS_MAX_BYTES"])
        await bootstrap(nc, TopologySettings(events_max_bytes=log_bytes, ack_wait=_ACK_WAIT_SECONDS))
        await asyncio.to_thread(migrate, database_url)
        running = World(
            version,
            folder,
            _environment(version, nats, database_url, ports),
            nc,
            await stack.enter_async_context(_client(ports["api"], {"X-API-Key": _KEY})),
            await stack.enter_async_context(_client(ports["simulator"], {"Authorization": "Bearer simulated"})),
            await stack.enter_async_context(receiver()),
        )
        stack.push_async_callback(running.kill_all)
        for name, ready in (("simulator", "/_sim/stats"), ("api", "/health/ready")):
            running.fork(name)
            await _answers(running.provider if name == "simulator" else running.api, ready)
        following = asyncio.create_task(running.follow(), name="follow")
        stack.callback(following.cancel)
        yield running


def _environment(version: str, nats: NatsServer, database_url: str, ports: dict[str, int]) -> dict[str, str]:
    return {
        **_PACE,
        "PATH": os.environ["PATH"],
        "NATS_URL": nats.url,
        "NATS_MONITOR_URL": nats.monitor_url,
        "DATABASE_URL": database_url,
        "ORCHESTRATOR_API_KEY": _KEY,
        "WEBHOOK_SECRET": "a-master-secret-of-at-least-32-characters",
        "CURSOR_API_VERSION": version,
        "CURSOR_API_KEY": "simulated",
        "CURSOR_API_URL": f"http://127.0.0.1:{ports['simulator']}",
        "SIMULATOR_PORT": str(ports["simulator"]),
        "API_PORT": str(ports["api"]),
        "APP_URL": f"http://127.0.0.1:{ports['api']}",
        "HEALTH_PORT": "0",
        "ENVIRONMENT": "test",
    }


def _client(port: int, headers: dict[str, str]) -> httpx.AsyncClient:
    # Hundreds may ask at a time while nobody decides.
    limits = httpx.Limits(max_connections=None)
    address = f"http://127.0.0.1:{port}"
    return httpx.AsyncClient(base_url=address, headers=headers, timeout=30, trust_env=False, limits=limits)


async def _answers(client: httpx.AsyncClient, path: str) -> None:
    async def ready() -> bool:
        try:
            return (await client.get(path)).is_success
        except httpx.TransportError:
            return False

    await eventually(ready, timeout=60, interval=0.05)

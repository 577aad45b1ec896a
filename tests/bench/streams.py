"""`make bench ARGS=streams`: many live streams on one api process: memory of each, and from commit to client."""

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from deploy.local.child import Child, ProcessSpec
from deploy.local.nats import NatsServer
from deploy.local.ports import free_port
from shared.command_handler import Cause, CommandHandler
from shared.domain import commands as cmd
from shared.domain.events import OrchestrationSpec, TaskSpec
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import connect
from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.topology import TopologySettings
from shared.postgres.migrate import migrate
from shared.system import RandomIds, SystemClock
from tests.support.eventually import eventually
from tests.support.servers import fresh_database, nats_server, postgres_server, temporary_folder

_KEY: Final = "a-key-for-benchmarks-only"
_TEAM: Final = "default"
_TASKS: Final = 3
_CONNECTING: Final = 50
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_NUMBER: Final = re.compile(rb'"name":"change (\d+)"')
_SSE: Final = "GET /api/orchestrations/{}/stream{} HTTP/1.1\r\nHost: api\r\nX-API-Key: {}\r\n\r\n"
_WEBSOCKET: Final = (
    "GET /ws/orchestrations/{}{} HTTP/1.1\r\nHost: api\r\nX-API-Key: {}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass
class Clock:
    """When each change was asked for, and how long it took to come to each client, in seconds."""

    asked: dict[int, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One stream, at as little cost as can be: the client is not what is measured."""

    def __init__(self, request: str, clock: Clock) -> None:
        self._request = request
        self._clock = clock
        self._rest = b""
        self._newest = -1
        self.open: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if not self.open.done():
            self.open.set_result(data)
        if data[0] == 0x89 and self.transport is not None:  # a ping of WebSocket, which is to be answered
            self.transport.write(b"\x8a\x84\0\0\0\0" + data[2:6])
        for found in _NUMBER.finditer(self._rest + data):
            number = int(found[1])
            if number > self._newest:
                self._newest = number
                self._clock.delays.append(now - self._clock.asked.get(number, now))
        self._rest = data[-40:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_result(b"the connection was closed")


class Hand:
    """Commits past the api, as the dispatcher does."""

    def __init__(self, log: JetStreamEventLog, clock: Clock) -> None:
        self._handler = CommandHandler(log, SystemClock(), RandomIds())
        self._clock = clock
        self._number = 0

    async def create(self) -> str:
        orchestration_id = RandomIds().new()
        tasks = tuple(
            TaskSpec(task_id=RandomIds().new(), title=f"t{i}", description="Change one line.", order_index=i)
            for i in range(_TASKS)
        )
        spec = OrchestrationSpec(repository="https://github.com/acme/bench")
        await self._do(
            orchestration_id,
            cmd.CreateOrchestration(
                orchestration_id=orchestration_id, team=_TEAM, created_by="bench", spec=spec, tasks=tasks
            ),
        )
        return orchestration_id

    async def change(self, orchestration_id: str) -> None:
        self._number += 1
        self._clock.asked[self._number] = time.monotonic()
        await self._do(orchestration_id, cmd.UpdateOrchestration(changes={"name": f"change {self._number}"}))

    async def _do(self, orchestration_id: str, command: cmd.AnyCommand) -> None:
        await self._handler.handle(_TEAM, orchestration_id, command, Cause(RandomIds().new(), "bench", "bench"))


async def measure(api: Child, hand: Hand, clock: Clock, arguments: argparse.Namespace, kind: str) -> dict[str, Any]:
    """The figures of one round on a fresh api."""
    count = arguments.streams
    ids = [await hand.create() for _ in range(count if arguments.follow == "each" else 1)]
    before = _memory(api)
    clients, seconds = await _connect(api, [ids[index % len(ids)] for index in range(count)], kind, clock)
    await asyncio.sleep(2)
    idle = _memory(api)
    changes = round(arguments.rate * arguments.seconds)
    cpu = _cpu(api)
    began = time.monotonic()
    for index in range(changes):
        await asyncio.sleep(max(0.0, began + index / arguments.rate - time.monotonic()))
        await hand.change(ids[(index * 7919) % len(ids)])
    took = time.monotonic() - began
    expected = changes * (1 if arguments.follow == "each" else count)
    await eventually(lambda: len(clock.delays) >= expected, timeout=30)
    busy = _memory(api)
    spent = _cpu(api) - cpu
    for client in clients:
        if client.transport is not None:
            client.transport.abort()
    # As after a restart: everybody comes back at once, and has missed everything.
    resumed, again = await _connect(api, [ids[i % len(ids)] for i in range(count)], kind, Clock(), query="?after=1")
    for client in resumed:
        if client.transport is not None:
            client.transport.abort()
    return {
        "kind": kind,
        "follow": arguments.follow,
        "streams": count,
        "connect_seconds": round(seconds, 2),
        "resume_seconds": round(again, 2),
        "kib_per_stream": round((idle - before) / count / 1024, 1),
        "kib_per_stream_busy": round((busy - before) / count / 1024, 1),
        "memory_mib": round(busy / 2**20, 1),
        "commits_per_second": round(changes / took, 1),
        "messages": expected,
        "delay_ms": {"p50": _quantile(clock.delays, 0.5), "p99": _quantile(clock.delays, 0.99)},
        "cpu_us_per_message": round(spent / expected * 1e6, 1),
    }


async def _open(client: Client, api: Child) -> Client:
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", api.spec.port or 0)
    return client


async def _connect(
    api: Child, ids: Sequence[str], kind: str, clock: Clock, *, query: str = ""
) -> tuple[list[Client], float]:
    """One stream for each of `ids`, so many at a time; how long it took until all were open."""
    clients: list[Client] = []
    numbers = iter(range(len(ids)))
    began = time.monotonic()

    async def work() -> None:
        for number in numbers:
            is_sse = kind == "sse" or (kind == "both" and number % 2 == 0)
            request = (_SSE if is_sse else _WEBSOCKET).format(ids[number], query, _KEY)
            client = await _open(Client(request, clock), api)
            said = await client.open
            if not said.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")):
                raise RuntimeError(f"a stream was refused: {said.decode(errors='replace')}")
            clients.append(client)

    await asyncio.gather(*(work() for _ in range(_CONNECTING)))
    return clients, time.monotonic() - began


def _memory(api: Child) -> int:
    """Bytes that are resident."""
    return int(Path(f"/proc/{_program(api)}/statm").read_text().split()[1]) * _PAGE_BYTES


def _cpu(api: Child) -> float:
    fields = Path(f"/proc/{_program(api)}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _program(api: Child) -> int:
    assert api.pid is not None
    return api.pid


def _quantile(seconds: list[float], part: float) -> float:
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 1)


@contextmanager
def _api(nats: NatsServer, database_url: str, folder: Path) -> Iterator[Child]:
    port = free_port()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        "NATS_URL": nats.url,
        "NATS_MONITOR_URL": nats.monitor_url,
        "DATABASE_URL": database_url,
        "API_PORT": str(port),
        "ORCHESTRATOR_API_KEY": _KEY,
        "WEBHOOK_SECRET": "a-secret-for-benchmarks-that-is-long-enough",
        "CURSOR_API_KEY": "none",
        "CURSOR_API_URL": "http://127.0.0.1:1",
        "EVENTS_MAX_BYTES": str(1024**3),
        "REQUESTS_PER_MINUTE": "0",
        "MAX_STREAMS_PER_TEAM": "100000",
        "MAX_STREAMS": "100000",
        "LOG_LEVEL": "WARNING",
        "RUN_PROJECTOR": "false",  # it works for every reader alike, and its memory is not that of streams
    }
    spec = ProcessSpec(
        name="api",
        argv=[sys.executable, "-m", "services.api"],
        log=folder / "api.log",
        env=environment,
        probe=lambda: _is_ready(port),
        port=port,
    )
    api = Child(spec)
    api.start()
    try:
        api.wait_ready(60)
        yield api
    finally:
        api.kill()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False, timeout=1).status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def _hand(nats: NatsServer, clock: Clock) -> AsyncIterator[Hand]:
    nc = await connect(nats.url, "bench")
    try:
        await bootstrap(nc, TopologySettings(events_max_bytes=1024**3))
        yield Hand(JetStreamEventLog(nc), clock)
    finally:
        await nc.close()


def _round(arguments: argparse.Namespace, kind: str) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        nats = stack.enter_context(nats_server())
        database_url = stack.enter_context(fresh_database(stack.enter_context(postgres_server())))
        migrate(database_url)
        return _measured(arguments, kind, nats, database_url, folder)


def _measured(
    arguments: argparse.Namespace, kind: str, nats: NatsServer, database_url: str, folder: Path
) -> dict[str, Any]:
    async def prepare() -> None:
        async with _hand(nats, Clock()):
            pass  # the streams are there then

    async def run(api: Child) -> dict[str, Any]:
        clock = Clock()
        async with _hand(nats, clock) as hand:
            return await measure(api, hand, clock, arguments, kind)

    uvloop.run(prepare())
    with _api(nats, database_url, folder) as api:
        return uvloop.run(run(api))


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    results = []
    for follow in arguments.follows:
        arguments.follow = follow
        arguments.rate = arguments.rate_each if follow == "each" else arguments.rate_one
        results += [_round(arguments, kind) for kind in arguments.kinds]
    _print(results)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS='streams …'", description="live streams on one api process")
    parser.add_argument("-n", "--streams", type=int, default=2000)
    parser.add_argument("--kinds", nargs="+", choices=("sse", "ws", "both"), default=["sse", "ws"])
    parser.add_argument("--follows", nargs="+", choices=("each", "one"), default=["each", "one"])
    parser.add_argument("--rate-each", type=float, default=100, help="commits per second where each follows another")
    parser.add_argument("--rate-one", type=float, default=2, help="commits per second where all follow one")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_args(argv)


def _print(results: list[dict[str, Any]]) -> None:
    table = Table(title="live streams on one api process", title_justify="left")
    for heading in results[0]:
        table.add_column(heading.replace("_", " "), justify="right")
    for result in results:
        table.add_row(*(str(value) for value in result.values()))
    Console(width=200).print(table)

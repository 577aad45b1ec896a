"""The load: clients create and activate orchestrations of three tasks; the log tells when what happened."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from nats.aio.msg import Msg

from deploy.local.up import Stack
from shared.domain.events import (
    AgentCreated,
    AgentStatusChanged,
    AttemptStarted,
    OrchestrationCompleted,
    OrchestrationFailed,
    TaskQueued,
)
from shared.envelope import RecordedEvent, Stored
from shared.jetstream.connection import connect
from shared.jetstream.event_log import JetStreamEventLog
from shared.messages import Receipt
from tests.bench.processes import Usage, usage_of

TASKS = 3


@dataclass(frozen=True)
class Load:
    """`warmup` orchestrations run before the `orchestrations` that are measured; `timeout` in seconds for all."""

    orchestrations: int
    clients: int
    warmup: int
    timeout: float


STAGES = ("webhook → end committed", "queued → started", "started → agent created")


@dataclass
class Watcher:
    """Follows the log: which orchestrations have ended, how long each hop took, and where in it the time went.

    A hop is the time from the moment when the api receives the webhook of an agent's end to the commit that records
    the next agent of the same orchestration. Without webhooks (v1) it begins with the commit that records the end.
    """

    ended: dict[str, str] = field(default_factory=dict)
    hops: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _received: dict[str, datetime] = field(default_factory=dict)
    _last_end: dict[str, datetime] = field(default_factory=dict)
    _since: dict[str, datetime] = field(default_factory=dict)

    async def hear(self, message: Msg) -> None:
        """Take in a webhook on its way into RECEIPTS."""
        receipt = Receipt.decode(message.data)
        self._received.setdefault(receipt.attempt_id, datetime.fromisoformat(receipt.received_at))

    def take(self, stored: Stored) -> None:
        """Take in a commit of the log."""
        for recorded in stored.commit.events:
            self._take(stored.commit.aggregate, recorded)
        self.changed.set()

    def _take(self, orchestration: str, recorded: RecordedEvent) -> None:
        at = recorded.occurred_at
        match recorded.event:
            case AgentStatusChanged(status=status, attempt_id=attempt_id) if status.is_terminal:
                received = self._received.pop(attempt_id, None)
                self._last_end[orchestration] = received or at
                if received:
                    self._stage(0, received, at)
            case TaskQueued(attempt_id=attempt_id):
                self._since[attempt_id] = at
            case AttemptStarted(attempt_id=attempt_id):
                self._stage(1, self._since.pop(attempt_id, at), at)
                self._since[attempt_id] = at
            case AgentCreated(attempt_id=attempt_id):
                self._stage(2, self._since.pop(attempt_id, at), at)
                if before := self._last_end.pop(orchestration, None):
                    self.hops.append((at - before).total_seconds())
            case OrchestrationCompleted() | OrchestrationFailed():
                self.ended[orchestration] = recorded.event.type

    def _stage(self, number: int, start: datetime, end: datetime) -> None:
        self.stages[STAGES[number]].append((end - start).total_seconds())

    def forget(self) -> None:
        """Begin to measure anew."""
        self.hops.clear()
        for times in self.stages.values():
            times.clear()

    async def wait_for(self, ids: set[str]) -> None:
        while not ids <= self.ended.keys():
            self.changed.clear()
            await self.changed.wait()


@dataclass
class Latencies:
    """Seconds of each request."""

    create: list[float] = field(default_factory=list)
    activate: list[float] = field(default_factory=list)


async def run_load(stack: Stack, load: Load) -> dict[str, Any]:
    """Run the load; gives the figures.

    Raises:
        TimeoutError: not everything ended in time.
    """
    async with asyncio.timeout(load.timeout), _following(stack) as watcher:
        await _round(stack, load.warmup, load.clients, Latencies(), watcher)
        watcher.forget()
        latencies = Latencies()
        before, began = usage_of(stack.processes_file), time.monotonic()
        await _round(stack, load.orchestrations, load.clients, latencies, watcher)
        seconds = time.monotonic() - began
        after = usage_of(stack.processes_file)
    tasks = load.orchestrations * TASKS
    return {
        "orchestrations": load.orchestrations,
        "tasks": tasks,
        "clients": load.clients,
        "seconds": round(seconds, 3),
        "tasks_per_second": round(tasks / seconds, 1),
        "create_ms": _spread(latencies.create),
        "activate_ms": _spread(latencies.activate),
        "hop_ms": _spread(watcher.hops),
        "stages_ms": {stage: _spread(times) for stage, times in watcher.stages.items()},
        "cpu_ms_per_task": _cpu(before, after, tasks),
        "memory_mib": {name: round(usage.memory_bytes / 2**20, 1) for name, usage in after.items()},
    }


async def _round(stack: Stack, count: int, clients: int, latencies: Latencies, watcher: Watcher) -> None:
    """Create and activate `count` orchestrations, `clients` at a time, and wait until all have ended."""
    numbers = iter(range(count))
    ids: set[str] = set()
    headers = {"X-API-Key": stack.api_key}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30, trust_env=False) as client:

        async def work() -> None:
            for number in numbers:
                ids.add(await _one(client, number, latencies))

        await asyncio.gather(*(work() for _ in range(clients)))
    await watcher.wait_for(ids)


async def _one(client: httpx.AsyncClient, number: int, latencies: Latencies) -> str:
    began = time.monotonic()
    answer = await client.post("/api/orchestrations", json=_body(number))
    answer.raise_for_status()
    latencies.create.append(time.monotonic() - began)
    orchestration_id: str = answer.json()["id"]
    began = time.monotonic()
    answer = await client.post(f"/api/orchestrations/{orchestration_id}/activate")
    answer.raise_for_status()
    latencies.activate.append(time.monotonic() - began)
    return orchestration_id


def _body(number: int) -> dict[str, Any]:
    tasks = [
        {"title": f"Task {index} of load {number}", "description": "Change one line and leave the tests passing."}
        for index in range(TASKS)
    ]
    return {"repository": "acme/bench", "name": f"load {number}", "tasks": tasks}


@asynccontextmanager
async def _following(stack: Stack) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    nc = await connect(_nats_url(stack), "bench", within=5)
    log = JetStreamEventLog(nc)
    start = await log.last_sequence()
    await nc.subscribe("receipt.>", cb=watcher.hear)

    async def follow() -> None:
        async for batch in log.follow(after=start):
            for stored in batch:
                watcher.take(stored)

    task = asyncio.create_task(follow())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await nc.close()


def _nats_url(stack: Stack) -> str:
    processes = json.loads(stack.processes_file.read_text())["processes"]
    return f"nats://127.0.0.1:{processes['nats']['port']}"


def _cpu(before: dict[str, Usage], after: dict[str, Usage], tasks: int) -> dict[str, float]:
    spent = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in after if name in before}
    figures = {name: round(seconds * 1000 / tasks, 2) for name, seconds in spent.items()}
    return {**figures, "all": round(sum(spent.values()) * 1000 / tasks, 2)}


def _spread(seconds: list[float]) -> dict[str, float | int]:
    if not seconds:
        return {"count": 0}
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "p50": round(ordered[len(ordered) // 2] * 1000, 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1),
    }

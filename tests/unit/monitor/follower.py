"""A monitor on memory, with one attempt whose agent is known or about to be."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import orjson

from services.monitor.observer import Observer
from services.monitor.old_ends import OldEnds
from services.monitor.pauses import PollPolicy
from services.monitor.receipts import Receipts
from services.monitor.streams import Streams
from services.monitor.watch import Watch
from shared.command_handler import CommandHandler
from shared.cursor.provider import ApiVersion
from shared.domain.commands import StartAttempt
from shared.domain.events import AgentStatus
from shared.domain.patience import Patience
from shared.domain.state import Attempt, Task
from shared.jetstream.consumer import Later
from shared.messages import Receipt, Watched
from tests.unit.dispatcher.scripted import ScriptedProvider, snapshot
from tests.unit.dispatcher.world import ORCHESTRATION, TEAM, World, delivery, make_task, world

GRACE = timedelta(seconds=15)
POLICY = PollPolicy(base=timedelta(seconds=30))


@dataclass
class Monitor:
    w: World
    patience: Patience | None = None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process on the same log and provider."""
        handler = CommandHandler(self.w.log, self.w.clock, self.w.ids, patience=self.patience)
        old_ends = OldEnds(self.provider, self.w.clock, GRACE)
        self.observer = Observer(handler, self.provider, self.w.clock, self.w.ids, old_ends)
        self.streams = Streams(self.provider, self.observer)
        self.watch = Watch(self.observer, self.streams, self.w.clock, POLICY, chance=random.Random(1))
        self.receipts = Receipts(self.observer)

    @property
    def provider(self) -> ScriptedProvider:
        return self.w.provider

    async def watched(self) -> Watched:
        attempt = await self.attempt()
        since = (attempt.started_at or attempt.queued_at).isoformat()
        return Watched(TEAM, ORCHESTRATION, attempt.attempt_id, since)

    async def poll(self, *, deliveries: int = 2, subject: str = "watch.v1.a") -> float | None:
        """One delivery from WATCH: the seconds after which it comes again, None if it is done with."""
        body = (await self.watched()).encode()
        try:
            await self.watch.on_watched(delivery(body, deliveries=deliveries, subject=subject))
        except Later as later:
            return later.delay_seconds
        return None

    async def receive(self, body: bytes | dict[str, Any], *, deliveries: int = 1) -> float | None:
        """One delivery from RECEIPTS, likewise."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        attempt = await self.attempt()
        receipt = Receipt(TEAM, ORCHESTRATION, attempt.attempt_id, "2026-11-01T12:00:00Z", {}, raw.decode())
        try:
            await self.receipts.on_receipt(delivery(receipt.encode(), deliveries=deliveries))
        except Later as later:
            return later.delay_seconds
        return None

    def show(self, status: AgentStatus, **fields: Any) -> None:
        """What the provider says of every agent from now on."""
        self.provider.gets = [snapshot(status=status, **fields)]

    def show_all(self, status: AgentStatus, **fields: Any) -> None:
        """The same, and what its lists say."""
        self.provider.gets = []
        for agent_id, agent in self.provider.agents.items():
            self.provider.agents[agent_id] = replace(agent, status=status, provider_status=status.value, **fields)

    async def attempt(self) -> Attempt:
        return await self.w.attempt()

    async def task(self) -> Task:
        return await self.w.task()


@asynccontextmanager
async def monitor(
    version: ApiVersion = "v1",
    *,
    launched: bool = True,
    queued: bool = False,
    patience: Patience | None = None,
    **task: Any,
) -> AsyncIterator[Monitor]:
    """`launched`: the agent is known; else its create is under way, and the provider has made it.

    `queued`: nothing has been asked of the provider yet.
    """
    async with world(version) as w:
        await w.create(make_task("a", **{"max_retries": 0, **task}))
        if launched and not queued:
            await w.launch()
        elif not queued:
            await start(w)
        m = Monitor(w, patience)
        yield m
        await m.streams.aclose()


async def start(w: World) -> None:
    attempt = await w.attempt()
    agent_id = "bc-chosen"
    command = StartAttempt(
        attempt_id=attempt.attempt_id, agent_id=agent_id, api_version=w.provider.version, branch_name="cursor/a"
    )
    await w.do(command)
    made = agent_id if w.provider.version == "v1" else "bc_theirs"
    w.provider.agents[made] = snapshot(made, AgentStatus.RUNNING)

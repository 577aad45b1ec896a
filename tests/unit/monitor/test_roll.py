"""Where there are too many agents to look at each, a list tells whom to look at; nobody is left to it alone."""

import asyncio
import heapq
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.monitor.pauses import PollPolicy
from services.monitor.roll import Roll
from services.monitor.watch import Watch
from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentPage, AgentSnapshot, ApiVersion
from shared.domain.commands import CancelOrchestration
from shared.domain.events import AgentStatus, TaskStatus
from shared.jetstream.consumer import Later
from shared.messages import Watched
from tests.support.eventually import eventually
from tests.unit.dispatcher.scripted import GONE, UNAVAILABLE, ScriptedProvider
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM, delivery, make_task, world
from tests.unit.monitor.follower import Monitor, monitor

POLICY = PollPolicy(per_minute=60)
RARELY = 10_000  # agents; of the looks at each there is room for one in a thousand


@asynccontextmanager
async def crowded(agents: int = RARELY, version: ApiVersion = "v0", **task: Any) -> AsyncIterator[Monitor]:
    """One of so many agents, known to be at work."""
    async with monitor(version, **task) as m:
        m.watch = Watch(
            m.observer, m.streams, m.w.clock, POLICY, lambda: agents, Roll(m.provider, m.w.clock), random.Random(1)
        )
        await m.w.observe(AgentStatus.RUNNING)
        m.show_all(AgentStatus.RUNNING)
        yield m


async def test_a_few_agents_are_looked_at_each() -> None:
    async with crowded(agents=10) as m:
        for _ in range(20):
            await m.poll()
        assert (len(m.provider.reads), m.provider.pages) == (20, 0)


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_one_of_many_that_the_list_shows_at_work_is_not_looked_at(version: ApiVersion) -> None:
    async with crowded(version=version) as m:
        pauses = [await m.poll() for _ in range(20)]
        assert all(pause is not None and pause <= 12 for pause in pauses), "it is asked after as often as ever"
        assert (m.provider.reads, m.provider.pages) == ([], 1)


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_one_that_the_list_shows_at_rest_is_looked_at_and_what_is_read_counts(version: ApiVersion) -> None:
    async with crowded(version=version) as m:
        m.show_all(AgentStatus.FINISHED, summary="Done.")
        assert await m.poll() is None
        task = await m.task()
        assert task.result is not None
        assert (task.status, task.result.summary, len(m.provider.reads)) == (TaskStatus.COMPLETED, "Done.", 1)


async def test_a_list_that_lies_ends_nothing() -> None:
    async with crowded() as m:
        m.show_all(AgentStatus.FINISHED)
        m.show(AgentStatus.RUNNING)
        assert await m.poll() is not None
        assert (await m.task()).status is TaskStatus.PROCESSING


async def test_one_that_the_list_shows_at_work_for_ever_is_seen_to_end_all_the_same() -> None:
    """An older release of the provider's API tells of no agent that it is at rest."""
    async with crowded(agents=100) as m:
        m.show(AgentStatus.RUNNING)
        for _ in range(1_000):
            await m.poll()
        assert 60 < len(m.provider.reads) < 140, "there is room for one look in ten"
        m.show(AgentStatus.FINISHED)
        while await m.poll() is not None:
            pass
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_the_list_is_read_again_when_it_is_some_seconds_old() -> None:
    async with crowded() as m:
        for seconds, pages in ((0, 1), (14, 1), (1, 2), (14, 2), (1, 3)):
            m.w.clock.advance(timedelta(seconds=seconds))
            await m.poll()
            assert m.provider.pages == pages


async def test_it_is_read_as_far_as_those_at_work_are_likely_to_stand_in_it_and_as_often_as_there_is_room_for() -> None:
    async with crowded() as m:
        m.provider.page_size = 1
        for number in range(9):
            m.provider.agents[f"newer-{number}"] = next(iter(m.provider.agents.values()))
        roll = Roll(m.provider, m.w.clock, per_minute=4)
        assert not await roll.shows_at_rest("anybody", agents=250)
        assert m.provider.pages == 4
        m.w.clock.advance(timedelta(seconds=59))
        await roll.shows_at_rest("anybody", agents=250)
        assert m.provider.pages == 4
        m.w.clock.advance(timedelta(seconds=1))
        await roll.shows_at_rest("anybody", agents=250)
        assert m.provider.pages == 8


async def test_who_asks_while_the_list_is_read_does_not_wait_for_it() -> None:
    """It may take minutes, and each who waited would keep a worker from the agents that are to stop."""
    async with crowded() as m:
        read = asyncio.Event()

        async def slowly() -> None:
            await read.wait()

        m.show_all(AgentStatus.FINISHED)
        m.provider.on_list = [slowly]
        first = asyncio.create_task(m.poll())
        async with asyncio.timeout(30):
            await eventually(lambda: m.provider.pages == 1)
            assert await m.poll() is not None, "by what is known so far it is at work"
            assert m.provider.pages == 1
            read.set()
            assert await first is None


@pytest.mark.parametrize("error", [UNAVAILABLE, ProviderError("rate_limit_exceeded", "no", status=429, retry_after=99)])
async def test_without_the_list_each_is_looked_at_less_often(error: ProviderError) -> None:
    async with crowded() as m:
        m.provider.on_list = [error]
        pause = await m.poll()
        assert pause is not None
        assert pause > 5_000
        assert (len(m.provider.reads), m.provider.pages) == (1, 1)
        m.w.clock.advance(timedelta(seconds=(error.retry_after or 15) - 1))
        await m.poll()
        assert m.provider.pages == 1, "it is not asked for again so soon"
        m.w.clock.advance(timedelta(seconds=1))
        assert (await m.poll() or 0) <= 12


async def test_one_of_which_something_is_expected_is_looked_at_whatever_the_list_says() -> None:
    async with crowded(timeout_minutes=10) as m:
        await m.poll()
        assert m.provider.reads == []
        m.w.clock.advance(timedelta(minutes=10))
        await m.poll()
        assert ((await m.attempt()).stop_reason, len(m.provider.reads)) == ("TIMEOUT", 1)
        await m.poll()
        assert len(m.provider.reads) == 2, "it is to stop"
    async with crowded() as m:
        await m.observer.look(await m.watched(), "poll")
        m.provider.gets = [GONE]
        await m.observer.look(await m.watched(), "poll")
        await m.poll()
        assert len(m.provider.reads) == 3, "it was missed"
    async with crowded() as m:
        await m.w.observe(AgentStatus.UNKNOWN)
        await m.poll()
        assert len(m.provider.reads) == 1, "nobody knows what it does"
    async with crowded() as m:
        await m.w.do(CancelOrchestration())
        await m.poll(subject="watch.v0-hurried.a")
        assert (len(m.provider.reads), m.provider.pages) == (1, 0), "it is in a hurry"


# Two hundred agents, no webhooks, and the limits that are set where nothing is


class Lasting(ScriptedProvider):
    """Each agent works until its time; calls are noted with theirs."""

    def __init__(self, now: Any, ends: dict[str, datetime]) -> None:
        super().__init__("v0")
        self.time = now
        self.ends = ends
        self.calls: dict[str, list[datetime]] = {"get": [], "list": []}

    def _as_it_is(self, agent: AgentSnapshot) -> AgentSnapshot:
        has_ended = self.ends[agent.agent_id] <= self.time()
        return replace(agent, status=AgentStatus.FINISHED if has_ended else AgentStatus.RUNNING)

    async def get(self, agent_id: str, run_id: str | None) -> AgentSnapshot:
        self.calls["get"].append(self.time())
        return self._as_it_is(self.agents[agent_id])

    async def list_agents(self, cursor: str | None = None) -> AgentPage:
        self.calls["list"].append(self.time())
        self.agents = {agent_id: self._as_it_is(agent) for agent_id, agent in self.agents.items()}
        return await super().list_agents(cursor)


async def test_of_two_hundred_agents_without_webhooks_nearly_every_end_is_seen_within_a_minute() -> None:
    """Every eighth of them is followed here, within an eighth of the limit of reads that all have. They are created as
    fast as the limit of creates allows, and work for up to twenty minutes."""
    chance = random.Random(3)
    ends: dict[str, datetime] = {}
    async with world("v0", slots=25) as w:
        provider = w.provider = Lasting(w.clock.now, ends)
        w.restart()
        tasks = [make_task(f"t{number}") for number in range(25)]
        await w.create(*tasks, execution_mode="parallel", failure_policy="continue")
        due: list[tuple[float, int, bytes]] = []
        agents: list[str] = []
        for number, task in enumerate(tasks):
            await w.launch(await w.ticket(task.task_id))
            attempt = await w.attempt(task.task_id)
            agents.append(attempt.agent_id or "")
            begun = chance.uniform(0, 1_200)
            ends[agents[-1]] = START + timedelta(seconds=begun + chance.uniform(10, 1_200))
            body = Watched(TEAM, ORCHESTRATION, attempt.attempt_id, START.isoformat()).encode()
            heapq.heappush(due, (begun + 10, number, body))
        m = Monitor(w)
        policy = PollPolicy(per_minute=100 * 2 / 3)
        roll = Roll(provider, w.clock, per_minute=20 / 3)
        m.watch = Watch(m.observer, m.streams, w.clock, policy, lambda: 200, roll, chance)
        late: list[float] = []
        while due:
            seconds, number, body = heapq.heappop(due)
            w.clock.advance(START + timedelta(seconds=seconds) - w.clock.now())
            try:
                await m.watch.on_watched(delivery(body, deliveries=2))
            except Later as later:
                heapq.heappush(due, (seconds + later.delay_seconds, number, body))
            else:
                late.append((w.clock.now() - ends[agents[number]]).total_seconds())
        late.sort()
        assert len(late) == 25
        assert late[23] <= 60, f"p95 of {late}"
        assert late[-1] <= 90
        minutes = (w.clock.now() - START) / timedelta(minutes=1)
        assert len(provider.calls["get"]) / minutes <= 100 / 8
        assert len(provider.calls["list"]) / minutes <= 20 / 3

"""Webhooks, streams and polls of two processes, all at once: the end is the one that polls alone would have seen."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentSnapshot, AgentUsage, ApiVersion, StreamEvent
from shared.domain.events import AgentStatus
from shared.domain.patience import Patience
from tests.unit.dispatcher.scripted import GONE, UNAVAILABLE, ScriptedProvider, snapshot
from tests.unit.monitor.follower import Monitor, monitor
from tests.unit.monitor.test_receipts import OLDER, PRESENT

Moment = tuple[AgentSnapshot | ProviderError, AgentUsage | ProviderError | None]

PATIENCE = Patience(result_grace=timedelta(minutes=1))
HURRIED = "watch.v1-hurried.a"
WORK = {"branch": "cursor/a", "summary": "Done."}
ALL = {**WORK, "pr_url": "https://github.com/acme/shop/pull/7"}
NONE_YET, USED = AgentUsage(0, 0, 0), AgentUsage(10, 5, 15, cost=0.42)


def shown(status: AgentStatus, usage: AgentUsage | ProviderError | None = None, **left: Any) -> Moment:
    return snapshot(status=status, **left), usage


BEGINNING: list[Moment] = [
    shown(AgentStatus.CREATING),
    shown(AgentStatus.RUNNING),
    (GONE, None),
    (UNAVAILABLE, None),
    shown(AgentStatus.RUNNING),
]
LIVES: dict[str, list[Moment]] = {
    "delivers bit by bit": [
        *BEGINNING,
        shown(AgentStatus.FINISHED, NONE_YET),
        shown(AgentStatus.FINISHED, UNAVAILABLE, **WORK),
        shown(AgentStatus.FINISHED, USED, **ALL),
    ],
    "changes nothing": [*BEGINNING, shown(AgentStatus.FINISHED, NONE_YET), shown(AgentStatus.FINISHED, USED)],
    "fails": [*BEGINNING, shown(AgentStatus.FAILED, USED, branch="cursor/a")],
    "is stopped by somebody": [*BEGINNING, shown(AgentStatus.STOPPED)],
}


class Living(ScriptedProvider):
    """Its agent's life goes on while it is looked at; an answer says how things were when they were asked for."""

    def __init__(self, version: ApiVersion, life: Sequence[Moment], chance: random.Random) -> None:
        super().__init__(version)
        self.life = life
        self.chance = chance
        self.now = 0
        self.ended = asyncio.Event()
        self.streams = [
            [StreamEvent(None, "status", {}), StreamEvent("1", "assistant", {}), self.end, StreamEvent("2", "done", {})]
        ]

    async def end(self) -> None:
        await self.ended.wait()

    @property
    def moment(self) -> Moment:
        return self.life[self.now]

    async def get(self, agent_id: str, run_id: str | None) -> AgentSnapshot:
        answer, _ = self.moment
        await a_moment(self.chance)
        if isinstance(answer, ProviderError):
            raise answer
        return replace(answer, agent_id=agent_id)

    async def usage(self, agent_id: str, run_id: str | None) -> AgentUsage | None:
        _, answer = self.moment
        await a_moment(self.chance)
        if isinstance(answer, ProviderError):
            raise answer
        return answer if self.version == "v1" else None

    async def go_on(self) -> None:
        """To the last moment."""
        while self.now + 1 < len(self.life):
            await a_moment(self.chance, most=40)
            self.now += 1
            answer, _ = self.moment
            if isinstance(answer, AgentSnapshot) and answer.status.is_terminal:
                self.ended.set()


async def a_moment(chance: random.Random, most: int = 8) -> None:
    for _ in range(chance.randrange(most)):
        await asyncio.sleep(0)


async def after_a_while(chance: random.Random, act: Callable[[], Awaitable[object]]) -> None:
    await a_moment(chance, most=300)
    await act()


async def until_the_end(m: Monitor) -> dict[str, Any]:
    """The polls that always come; what is left of it all but the times."""
    while (pause := await m.poll(subject=HURRIED)) is not None:
        m.w.clock.advance(timedelta(seconds=pause))
    task, attempt = await m.task(), await m.attempt()
    return {
        "task": (task.status, task.result, task.failure and task.failure.code),
        "attempt": (attempt.ending, attempt.status, attempt.result, attempt.cost, attempt.usage, attempt.duration_ms),
        "orchestration": (await m.w.state()).status,
    }


async def by_polls_alone(version: ApiVersion, life: list[Moment]) -> dict[str, Any]:
    """Every webhook is lost, and there is no stream."""
    async with monitor(version, patience=PATIENCE) as m:
        m.w.provider = Living(version, life, random.Random(1))
        m.restart()
        for now in range(len(life)):
            m.w.provider.now = now
            await m.poll()
        return await until_the_end(m)


@pytest.mark.parametrize("name", LIVES)
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("seed", range(6))
async def test_all_at_once_and_in_any_order_they_come_to_the_end_that_polls_alone_see(
    seed: int, version: ApiVersion, name: str
) -> None:
    chance = random.Random(seed)
    async with monitor(version, patience=PATIENCE) as m:
        living = m.w.provider = Living(version, LIVES[name], chance)
        m.restart()
        other = Monitor(m.w, PATIENCE)
        looks: list[Callable[[], Awaitable[object]]] = []
        for process in (m, other):
            looks += [process.poll, partial(process.poll, subject=HURRIED)]
            looks += [partial(process.receive, body) for body in (PRESENT, OLDER)]
        async with asyncio.TaskGroup() as group:
            group.create_task(living.go_on())
            for _ in range(chance.randrange(20)):
                group.create_task(after_a_while(chance, chance.choice(looks)))
        end = await until_the_end(m)
        await other.streams.aclose()
        assert end == await by_polls_alone(version, LIVES[name])
        types = [event.type for event in await m.w.events()]
        assert types.count("task.completed") + types.count("attempt.failed") == 1

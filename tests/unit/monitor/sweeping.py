"""A monitor that sweeps on memory: rows made of the log by the api's own function, and a clock that only waits move."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.api.projections import agent_row, replay
from services.monitor.census import Census
from services.monitor.observer import Observer
from services.monitor.old_ends import OldEnds
from services.monitor.ownership import Claim
from services.monitor.quiet import QuietAttempts
from services.monitor.sweep import Sweeper
from shared.command_handler import CommandHandler
from shared.cursor.provider import ApiVersion, Message
from shared.domain.commands import FollowUp, RejectAttempt, StartAttempt
from shared.domain.events import AgentStatus, Failure
from shared.domain.prompt import follow_up_mark
from shared.domain.state import Attempt
from shared.following import Following
from shared.memory import MemoryEventLog
from shared.sweeping import SweepReport
from tests.unit.dispatcher.publisher import OnePerSubject
from tests.unit.dispatcher.scripted import ScriptedProvider, snapshot
from tests.unit.dispatcher.world import ORCHESTRATION, TEAM, World, make_task, world
from tests.unit.monitor.follower import GRACE

OURS = "bc-ours"
BRANCH = "cursor/a"
QUIET = timedelta(hours=2)
LOST = Failure(code="NETWORK_ERROR", message="no trace")


@dataclass
class RowsOfTheLog:
    """`Ownership`. `hidden`: the rows lag so far behind that there are none."""

    log: MemoryEventLog
    hidden: bool = False
    error: Exception | None = None
    more: list[Claim] = field(default_factory=list)
    also_live: list[tuple[str, str]] = field(default_factory=list)

    async def of(self, agent_ids: Sequence[str], branches: Sequence[str]) -> list[Claim]:
        found = []
        for row in await self._rows():
            if row["agent_id"] in agent_ids:
                found.append(Claim(row["team_id"], row["orchestration_id"], row["agent_id"], None))
            if row["provider_status"] is None and row["branch"] in branches:
                found.append(Claim(row["team_id"], row["orchestration_id"], None, row["branch"]))
        more = [claim for claim in self.more if claim.agent_id in agent_ids or claim.branch in branches]
        return [*found, *more]

    async def live(self, team: str | None) -> list[tuple[str, str]]:
        if self.error is not None:
            raise self.error
        return [] if self.hidden or team not in (None, TEAM) else [*self.also_live, (TEAM, ORCHESTRATION)]

    async def _rows(self) -> list[dict[str, Any]]:
        if self.error is not None:
            raise self.error
        states = replay(await MemoryEventLog.read(self.log, TEAM, ORCHESTRATION))
        if self.hidden:
            return []
        return [
            agent_row(state, task, attempt, 1)
            for state in states.values()
            for task in state.tasks.values()
            for attempt in task.attempts
            if attempt.agent_id is not None
        ]


@dataclass
class Sweeping:
    """`waits`: the seconds that the sweep slept; each moves the clock, then calls the next of `while_asleep`."""

    w: World
    rows: RowsOfTheLog
    publisher: OnePerSubject
    waits: list[float] = field(default_factory=list)
    while_asleep: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        handler, provider, clock = CommandHandler(self.w.log, self.w.clock, self.w.ids), self.provider, self.w.clock
        observer = Observer(handler, provider, clock, self.w.ids, OldEnds(provider, clock, GRACE))
        quiet = QuietAttempts(handler, observer, self.rows, Following(self.publisher), clock, QUIET)
        census = Census(provider, clock, self.sleep)
        self.sweeper = Sweeper(handler, provider, census, self.rows, quiet, sleep=self.sleep)

    @property
    def provider(self) -> ScriptedProvider:
        return self.w.provider

    @property
    def stopped(self) -> list[str]:
        """The agents that were told to stop, each time."""
        return [agent_id for agent_id, _ in self.provider.stops]

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.w.clock.advance(timedelta(seconds=seconds))
        if self.while_asleep:
            await self.while_asleep.pop(0)()

    async def sweep(self, **how: Any) -> SweepReport:
        return await self.sweeper.sweep(**how)

    async def actions(self, **how: Any) -> list[tuple[str, str]]:
        """What the report says of each orphan."""
        return [(orphan.agent_id, orphan.action) for orphan in (await self.sweep(**how)).orphans]

    async def start(self) -> Attempt:
        """The attempt is started; what becomes of its create is open."""
        attempt = await self.w.attempt()
        version = self.provider.version
        await self.w.do(
            StartAttempt(attempt_id=attempt.attempt_id, agent_id=OURS, api_version=version, branch_name=BRANCH)
        )
        return await self.w.attempt()

    async def give_up(self) -> Attempt:
        """The attempt is started, and ends without a trace of an agent."""
        attempt = await self.start()
        await self.w.do(RejectAttempt(attempt_id=attempt.attempt_id, failure=LOST))
        return await self.w.attempt()

    async def give_up_follow_up(self) -> Attempt:
        """The newest attempt, which was to go on with the agent of the first and ended without our knowing of a run."""
        await self.w.launch()
        first = await self.end()
        await self.w.do(FollowUp(attempt_id=first.attempt_id, prompt="More."))
        self.w.clock.advance(timedelta(minutes=30))
        second = await self.w.attempt()
        await self.w.do(
            StartAttempt(
                attempt_id=second.attempt_id,
                agent_id=first.agent_id or "",
                api_version=self.provider.version,
                branch_name=first.branch_name or "",
            )
        )
        await self.w.do(RejectAttempt(attempt_id=second.attempt_id, failure=LOST))
        return await self.w.attempt()

    async def end(self, status: AgentStatus = AgentStatus.FINISHED) -> Attempt:
        """The agent of the attempt is seen to have ended."""
        await self.w.observe(status)
        return await self.w.attempt()

    def show(
        self,
        agent_id: str = OURS,
        status: AgentStatus = AgentStatus.RUNNING,
        *,
        branch: str | None = None,
        **fields: Any,
    ) -> str:
        """The provider has this agent, the newest of its list, created now unless `created_at` says otherwise."""
        made: dict[str, Any] = {"run_id": "run-1" if self.provider.version == "v1" else None, "created_at": self.now}
        self.provider.agents[agent_id] = snapshot(agent_id, status, **{**made, **fields})
        if branch is not None:
            self.provider.branches_of[agent_id] = branch
        return agent_id

    def show_late(self, **fields: Any) -> str:
        """The agent of an attempt that was given up, as the version shows it."""
        return self.show(OURS if self.provider.version == "v1" else "bc_theirs", branch=BRANCH, **fields)

    @property
    def now(self) -> datetime:
        return self.w.clock.now()

    def takes_effect(self) -> None:
        """The next stop stops everything."""

        async def stop() -> None:
            for agent_id, agent in list(self.provider.agents.items()):
                if any(agent_id == told for told in self.stopped):
                    self.show(agent_id, AgentStatus.STOPPED, run_id=agent.run_id)

        self.provider.on_stop.append(stop)

    def said(self, *words: str) -> None:
        """What the user has told the agent so far, each answered."""
        self.provider.said = []
        for number, text in enumerate(words):
            self.provider.said += [Message(f"u{number}", "user", text), Message(f"a{number}", "assistant", "Done.")]


@asynccontextmanager
async def sweeping(version: ApiVersion = "v1", **task: Any) -> AsyncIterator[Sweeping]:
    """One attempt, queued."""
    async with world(version) as w:
        await w.create(make_task("a", **{"max_retries": 0, **task}))
        s = Sweeping(w, RowsOfTheLog(w.log), OnePerSubject())
        s.said("Task 1 of 1: Task a")
        yield s


def mark_of(attempt: Attempt) -> str:
    return f"Go on.\n\n{follow_up_mark(attempt)}"

"""A provider in a bad mood: calls fail before and after they take effect, and stops are taken and not carried out."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentRequest, AgentSnapshot, ApiVersion, Message
from shared.domain.events import AgentStatus
from shared.memory import ManualClock
from tests.unit.dispatcher.scripted import BUSY, FAILED, GONE, UNANSWERED, UNAVAILABLE, ScriptedProvider, snapshot


@dataclass
class Agent:
    """One agent. It works from `began` until `ends`; `spans` are the times in which it has worked before."""

    id: str
    began: datetime
    ends: datetime
    run: int = 1
    stopped: bool = False
    said: list[Message] = field(default_factory=list)
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)

    def is_at_work(self, now: datetime) -> bool:
        return now < self.ends


class MoodyProvider(ScriptedProvider):
    """`mood`: the part of calls that fail. The word for a stopped agent is `stop_word`."""

    def __init__(
        self,
        version: ApiVersion,
        sleep: Callable[[float], Awaitable[None]],
        clock: ManualClock,
        chance: random.Random,
    ) -> None:
        super().__init__(version)
        self.sleep = sleep
        self.clock = clock
        self.chance = chance
        self.mood = 0.3
        self.stop_word = AgentStatus.STOPPED
        self.made: dict[str, Agent] = {}
        self.by_branch: dict[str, str] = {}
        self.creates: Counter[str] = Counter()
        """Agents by branch: more than one would be two agents of one attempt."""

    @property
    def at_work(self) -> list[Agent]:
        return [agent for agent in self.made.values() if agent.is_at_work(self.clock.now())]

    async def create(self, request: AgentRequest) -> AgentSnapshot:
        self._may_fail(UNANSWERED)
        agent_id = request.agent_id if self.version == "v1" else f"bc_theirs-{len(self.made)}"
        if agent_id not in self.made:
            self.creates[request.branch_name] += 1
            self.by_branch[request.branch_name] = agent_id
            self.made[agent_id] = Agent(agent_id, *self._work(), said=[Message("1", "user", request.prompt)])
        await self.sleep(self.chance.uniform(1, 60))  # it answers when the machine has booted
        self._may_fail(UNANSWERED)
        return self._shown(self.made[agent_id])

    async def find(self, request: AgentRequest, *, since: datetime) -> AgentSnapshot | None:
        self._may_fail(UNAVAILABLE)
        agent_id = request.agent_id if self.version == "v1" else self.by_branch.get(request.branch_name, "")
        return self._shown(self.made[agent_id]) if agent_id in self.made else None

    async def get(self, agent_id: str, run_id: str | None) -> AgentSnapshot:
        self._may_fail(UNAVAILABLE)
        return self._shown(self._agent(agent_id))

    async def stop(self, agent_id: str, run_id: str | None) -> bool:
        """A stop may be refused, or taken and forgotten, or carried out some seconds later; the answer may be lost."""
        agent = self._agent(agent_id)
        self.stops.append((agent_id, run_id))
        self._may_fail(FAILED)
        is_meant = run_id in (None, f"run-{agent.run}")
        was_at_work = is_meant and agent.is_at_work(self.clock.now())
        if was_at_work and self.chance.random() >= self.mood:
            agent.stopped = True
            agent.ends = min(agent.ends, self.clock.now() + timedelta(seconds=self.chance.uniform(0, 3)))
        self._may_fail(FAILED)
        return was_at_work

    async def follow_up(self, agent_id: str, prompt: str, *, after_run: str | None) -> AgentSnapshot:
        agent = self._agent(agent_id)
        self._may_fail(UNANSWERED)
        if agent.is_at_work(self.clock.now()):
            raise BUSY
        agent.spans.append((agent.began, agent.ends))
        agent.began, agent.ends = self._work()
        agent.run, agent.stopped = agent.run + 1, False
        agent.said.append(Message(str(agent.run), "user", prompt))
        self._may_fail(UNANSWERED)
        return self._shown(agent)

    async def find_follow_up(
        self, agent_id: str, prompt: str, *, after_run: str | None, since: datetime
    ) -> AgentSnapshot | None:
        agent = self._agent(agent_id)
        self._may_fail(UNAVAILABLE)
        if self.version == "v1":
            return self._shown(agent) if f"run-{agent.run}" != after_run else None
        if not any(prompt in message.text for message in agent.said):
            return None
        return replace(self._shown(agent), status=AgentStatus.CREATING, provider_status="CREATING")

    async def conversation(self, agent_id: str) -> list[Message]:
        self._may_fail(UNAVAILABLE)
        agent = self._agent(agent_id)
        answered = not agent.is_at_work(self.clock.now()) and not agent.stopped
        return [*agent.said, *([Message("a", "assistant", "Done.")] if answered else [])]

    def _agent(self, agent_id: str) -> Agent:
        if agent_id not in self.made:
            raise GONE
        return self.made[agent_id]

    def _work(self) -> tuple[datetime, datetime]:
        now = self.clock.now()
        return now, now + timedelta(seconds=self.chance.choice([30.0, 300.0, 36_000.0]))

    def _shown(self, agent: Agent) -> AgentSnapshot:
        ended = self.stop_word if agent.stopped else AgentStatus.FINISHED
        status = AgentStatus.RUNNING if agent.is_at_work(self.clock.now()) else ended
        is_v1 = self.version == "v1"
        done = {"branch": "cursor/x", "pr_url": "https://github.com/acme/shop/pull/1", "summary": "Done."}
        return snapshot(
            agent.id,
            status,
            run_id=f"run-{agent.run}" if is_v1 else None,
            created_at=agent.began,
            **(done if status is AgentStatus.FINISHED else {}),
        )

    def _may_fail(self, error: ProviderError) -> None:
        if self.chance.random() < self.mood:
            raise error

"""A provider that does what a test tells it to, and remembers which agents it really made."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from shared.cursor.errors import ProviderError
from shared.cursor.provider import (
    Account,
    AgentPage,
    AgentRequest,
    AgentSnapshot,
    AgentUsage,
    ApiVersion,
    Artifact,
    ArtifactLink,
    ListedAgent,
    Message,
    Model,
    StreamEvent,
)
from shared.domain.events import AgentStatus

UNANSWERED = ProviderError("timeout", "no answer (ReadTimeout)", outcome_known=False, retryable=True)
THROTTLED = ProviderError("rate_limit_exceeded", "slow down", status=429, retryable=True, retry_after=7.0)
FAILED = ProviderError("internal_error", "", status=500, retryable=True, outcome_known=False)
LONG_THROTTLED = ProviderError("rate_limit_exceeded", "slow down", status=429, retryable=True, retry_after=900.0)
UNAVAILABLE = ProviderError("upstream_error", "try later", status=503, retryable=True)
MOVED = ProviderError("unknown", "a redirection", status=307, outcome_known=False)
LEFT_ALONE = ProviderError("provider_unavailable", "left alone for a while", retryable=True, retry_after=33.0)
GONE = ProviderError("agent_not_found", "no such agent", status=404)
ARCHIVED = ProviderError("agent_archived", "Agent is archived", status=409)
BUSY = ProviderError("agent_busy", "Agent already has an active run", status=409, retryable=True)
TAKEN = ProviderError("agent_id_conflict", "an agent for another repository holds this id", status=409)
NO_KEY = ProviderError("unauthorized", "Invalid User API Key", status=401)
KEY_GONE = ProviderError("api_key_not_found", "API key not found", status=404)
NO_MODEL = ProviderError("invalid_model", "Invalid model: o9", status=400)
NO_MONEY = ProviderError("usage_limit_exceeded", "Usage-based pricing required", status=400, billing=True)

Step = Callable[[], Awaitable[None]] | ProviderError | None
StreamStep = StreamEvent | ProviderError | Callable[[], Awaitable[None]]


async def _nothing() -> None:
    return


class ScriptedProvider:
    """`Provider` in memory.

    `before_create` and `after_create` hold what happens before and after a create takes effect, one step for each
    create: an error to raise, something to do, or None. `gets` holds answers to reads, the last one for ever; without
    any, an agent is shown as it is in `agents`. `hidden` agents exist, but neither lists nor reads show them.
    `before_follow_up`, `after_follow_up`, `on_find_follow_up`, `on_list`, `on_stop`, `on_delete`, `on_archive` and
    `on_unarchive` are such steps for further prompts, pages of the list, stops, deletes and archiving; an `archived`
    agent takes no prompt. `passing` is called at every point at which a process could die.
    """

    def __init__(self, version: ApiVersion = "v1") -> None:
        self.version: ApiVersion = version
        self.agents: dict[str, AgentSnapshot] = {}
        self.requests: list[AgentRequest] = []
        self.before_create: list[Step] = []
        self.after_create: list[Step] = []
        self.refused = 0  # creates that the provider is known to have refused
        self.finds: list[datetime] = []
        self.on_find: list[Step] = []
        self.reads: list[tuple[str, str | None]] = []
        self.gets: list[AgentSnapshot | ProviderError] = []
        self.page_size = 100
        self.pages = 0  # that were asked for
        self.on_list: list[Step] = []
        self.branches_of: dict[str, str] = {}  # of agents that nobody created here
        self.repositories_of: dict[str, str] = {}
        self.stops: list[tuple[str, str | None]] = []
        self.stop_error: ProviderError | None = None
        self.nothing_to_stop = False
        self.on_stop: list[Step] = []
        self.usages: list[AgentUsage | ProviderError | None] = []
        self.streams: list[list[StreamStep]] = []
        self.resumed_after: list[str | None] = []
        self.closed_streams = 0
        self.hidden: set[str] = set()
        self.passing: Callable[[], Awaitable[None]] = _nothing
        self._branches: dict[str, str] = {}
        self.before_follow_up: list[Step] = []
        self.after_follow_up: list[Step] = []
        self.told: list[tuple[str, str]] = []  # agent and prompt of every follow-up that took effect
        self.follow_ups = 0  # that were sent
        self.on_find_follow_up: list[Step] = []
        self.looked_for: list[tuple[str, str, str | None]] = []
        self.said: list[Message] = []
        self.conversation_error: ProviderError | None = None
        self.deletes: list[str] = []
        self.on_delete: list[Step] = []
        self.archived: set[str] = set()
        self.archives: list[str] = []
        self.on_archive: list[Step] = []
        self.unarchives: list[str] = []
        self.on_unarchive: list[Step] = []

    async def create(self, request: AgentRequest) -> AgentSnapshot:
        await self.passing()
        self.requests.append(request)
        step = self.before_create[0] if self.before_create else None
        self.refused += isinstance(step, ProviderError) and step.outcome_known
        await _do(self.before_create)
        agent_id = request.agent_id if self.version == "v1" else f"bc_provider-{len(self.requests)}"
        if agent_id not in self.agents:
            self.agents[agent_id] = snapshot(agent_id, run_id="run-1" if self.version == "v1" else None)
            self._branches[request.branch_name] = agent_id
        await _do(self.after_create)
        await self.passing()
        return self.agents[agent_id]

    async def find(self, request: AgentRequest, *, since: datetime) -> AgentSnapshot | None:
        await self.passing()
        self.finds.append(since)
        await _do(self.on_find)
        agent_id = request.agent_id if self.version == "v1" else self._branches.get(request.branch_name, "")
        return None if agent_id in self.hidden else self.agents.get(agent_id)

    async def get(self, agent_id: str, run_id: str | None) -> AgentSnapshot:
        self.reads.append((agent_id, run_id))
        if self.gets:
            answer = self.gets.pop(0) if len(self.gets) > 1 else self.gets[0]
            if isinstance(answer, ProviderError):
                raise answer
            return replace(answer, agent_id=agent_id)
        if agent_id not in self.agents or agent_id in self.hidden:
            raise GONE
        return self.agents[agent_id]

    async def list_agents(self, cursor: str | None = None) -> AgentPage:
        self.pages += 1
        await _do(self.on_list)
        newest = [agent for agent in reversed(self.agents.values()) if agent.agent_id not in self.hidden]
        start = int(cursor or 0)
        end = start + self.page_size
        shown = tuple(self._listed(agent) for agent in newest[start:end])
        return AgentPage(shown, str(end) if end < len(newest) else None)

    def _listed(self, agent: AgentSnapshot) -> ListedAgent:
        made = {agent_id: name for name, agent_id in self._branches.items()}
        branch = self.branches_of.get(agent.agent_id) or made.get(agent.agent_id)
        return ListedAgent(
            agent.agent_id,
            is_at_rest=agent.status.is_terminal,
            run_id=agent.run_id,
            url=agent.url,
            branch=branch if self.version == "v0" else None,
            repository=self.repositories_of.get(agent.agent_id),
            created_at=agent.created_at,
        )

    async def stop(self, agent_id: str, run_id: str | None) -> bool:
        self.stops.append((agent_id, run_id))
        await _do(self.on_stop)
        if self.stop_error is not None:
            raise self.stop_error
        return not self.nothing_to_stop

    async def follow_up(self, agent_id: str, prompt: str, *, after_run: str | None) -> AgentSnapshot:
        await self.passing()
        self.follow_ups += 1
        await _do(self.before_follow_up)
        if agent_id not in self.agents:
            raise GONE
        if agent_id in self.archived:
            raise ARCHIVED
        if self.version == "v1" and not self.agents[agent_id].status.is_terminal:
            raise BUSY
        self.told.append((agent_id, prompt))
        run_id = f"run-{len(self.told) + 1}" if self.version == "v1" else None
        self.agents[agent_id] = snapshot(agent_id, run_id=run_id)
        await _do(self.after_follow_up)
        await self.passing()
        return self.agents[agent_id]

    async def find_follow_up(
        self, agent_id: str, prompt: str, *, after_run: str | None, since: datetime
    ) -> AgentSnapshot | None:
        await self.passing()
        self.looked_for.append((agent_id, prompt, after_run))
        await _do(self.on_find_follow_up)
        agent = self.agents.get(agent_id)
        if agent is None:
            raise GONE
        if self.version == "v1":
            return agent if agent.run_id != after_run else None
        return agent if any(told == agent_id and prompt in said for told, said in self.told) else None

    async def delete(self, agent_id: str) -> None:
        await self.passing()
        self.deletes.append(agent_id)
        await _do(self.on_delete)
        self.agents.pop(agent_id, None)

    async def archive(self, agent_id: str) -> None:
        await self.passing()
        self._refuse_archive()
        self.archives.append(agent_id)
        await _do(self.on_archive)
        self.archived.add(agent_id)
        await self.passing()

    async def unarchive(self, agent_id: str) -> None:
        await self.passing()
        self._refuse_archive()
        self.unarchives.append(agent_id)
        await _do(self.on_unarchive)
        if agent_id not in self.agents:
            raise GONE
        self.archived.discard(agent_id)
        await self.passing()

    def _refuse_archive(self) -> None:
        if self.version == "v0":
            raise ProviderError("feature_unavailable", "no archive")

    async def artifacts(self, agent_id: str) -> list[Artifact]:
        return []

    async def artifact_link(self, agent_id: str, path: str) -> ArtifactLink:
        return ArtifactLink("https://files.example/1")

    async def usage(self, agent_id: str, run_id: str | None) -> AgentUsage | None:
        answer = self.usages.pop(0) if self.usages else None
        if isinstance(answer, ProviderError):
            raise answer
        return answer

    async def conversation(self, agent_id: str) -> list[Message]:
        if self.conversation_error is not None:
            raise self.conversation_error
        return self.said

    async def models(self) -> list[Model]:
        return []

    async def repositories(self) -> list[str]:
        return []

    async def me(self) -> Account:
        return Account("test")

    async def stream(
        self, agent_id: str, run_id: str, *, after: str | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """One list of `streams` for each time it is opened; it hangs when there is none left."""
        self.resumed_after.append(after)
        try:
            if not self.streams:
                await asyncio.Event().wait()
            for step in self.streams.pop(0):
                if isinstance(step, ProviderError):
                    raise step
                if isinstance(step, StreamEvent):
                    yield step
                else:
                    await step()
        finally:
            self.closed_streams += 1

    async def aclose(self) -> None:
        return


async def _do(steps: list[Step]) -> None:
    step = steps.pop(0) if steps else None
    if isinstance(step, ProviderError):
        raise step
    if step is not None:
        await step()


def snapshot(agent_id: str = "", status: AgentStatus = AgentStatus.CREATING, **fields: object) -> AgentSnapshot:
    """`provider_status` is the status itself unless it is given."""
    made = AgentSnapshot(agent_id=agent_id, status=status, provider_status=status.value)
    return replace(made, **fields)  # type: ignore[arg-type]

"""The port to the provider of cloud agents: what the orchestrator needs, in its own words."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from shared.domain.events import AgentStatus

ApiVersion = Literal["v0", "v1"]


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where the provider reports the end of an agent (v0 only); `secret` has 32 to 256 characters."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One agent to create.

    `agent_id` is chosen by the caller, `bc-<uuid>`, the same for every try of one attempt; v1 makes the
    create idempotent with it, v0 ignores it. `branch_name` is the marker by which v0 finds an agent again; v1
    has no such field. `model` None leaves the choice to the provider.
    """

    agent_id: str
    name: str
    prompt: str
    repository: str
    ref: str
    branch_name: str
    auto_create_pr: bool
    model: str | None = None
    webhook: WebhookTarget | None = None


@dataclass(frozen=True, slots=True)
class AgentSnapshot:
    """What the provider says of an agent at one moment. `provider_status` is its own word for `status`.

    `duration_ms` only once ended and where the provider reports it. Absent things are None.
    """

    agent_id: str
    status: AgentStatus
    provider_status: str
    run_id: str | None = None
    url: str | None = None
    branch: str | None = None
    pr_url: str | None = None
    summary: str | None = None
    duration_ms: int | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedAgent:
    """An agent as lists show it: enough to tell whose it is, not how it stands.

    `is_at_rest`: it certainly does nothing now. `run_id` is its latest run where the list tells it (v1); `branch` and
    `repository` are told by v0 only.
    """

    agent_id: str
    is_at_rest: bool
    run_id: str | None = None
    url: str | None = None
    branch: str | None = None
    repository: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AgentPage:
    """A part of the list of all agents. `next_cursor` gets the page behind it, None behind the last."""

    agents: tuple[ListedAgent, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """Tokens of one run, and its cost in dollars where the provider reports one."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    author: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    display_name: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that an agent left beside its work. `path` is how the provider names it."""

    path: str
    size_bytes: int | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ArtifactLink:
    """Where a file can be fetched by whoever has the link, until it expires.

    The address is signed and leads to somebody else than the provider: our key must never be sent there.
    """

    url: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Whose key it is."""

    api_key_name: str
    user_email: str | None = None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a run's stream. `id`, given back as `after`, resumes the stream behind it.

    Of an event that has none of its own it is the latest before it; None before the first.
    """

    id: str | None
    kind: str
    data: dict[str, object]


class Provider(Protocol):
    """The Cloud Agents API. Whatever goes wrong outside is a `ProviderError`, and nothing else."""

    version: ApiVersion

    async def create(self, request: AgentRequest) -> AgentSnapshot:
        """Create the agent, one POST. On v1 an agent that exists already under `agent_id` is read and given.

        A `ProviderError` with `outcome_known=False` means that the agent may or may not exist.
        """

    async def find(self, request: AgentRequest, *, since: datetime) -> AgentSnapshot | None:
        """The agent of an earlier create with this request, or None if there is no trace of it.

        v1 reads it by `agent_id`; v0 lists agents, newest first, back to `since`, and looks for
        `branch_name`. `since` needs no allowance for the provider's clock.
        """

    async def get(self, agent_id: str, run_id: str | None) -> AgentSnapshot:
        """The agent by one of its runs, the latest if None (v0 knows none). `agent_not_found` if it is gone.

        On v1 the `url` is told only where `run_id` is None.
        """

    async def list_agents(self, cursor: str | None = None) -> AgentPage:
        """A page of the agents of the account, whoever made them, newest first; from the newest on if `cursor` is None.

        The list goes on changing while it is read: an agent may come twice, or not at all.
        """

    async def stop(self, agent_id: str, run_id: str | None) -> bool:
        """Ask for the stop. Returns when the provider took the request or the agent had ended already;
        that it has stopped is known only by reading it again.

        False: the provider says that there is nothing at work that could be stopped.
        """

    async def follow_up(self, agent_id: str, prompt: str, *, after_run: str | None) -> AgentSnapshot:
        """Continue an agent that has stopped or finished with a further prompt, one POST, never repeated.

        Nothing makes it idempotent. A `ProviderError` with `outcome_known=False` means that the agent may or may
        not be at work again: `find_follow_up` tells. One that `refusals.cannot_continue` recognises means that
        this agent will take no further prompt; `agent_busy` that it is still at work.

        Args:
            prompt: unlike any other that the agent was given, so that it can be recognised.
            after_run: the run that this one follows, as far as it is known (v0 knows none).

        Returns:
            On v1 the new run. On v0 an agent that is being started again: reads of it may go on to show the end
            of what it did before for some seconds.
        """

    async def find_follow_up(
        self, agent_id: str, prompt: str, *, after_run: str | None, since: datetime
    ) -> AgentSnapshot | None:
        """The agent at work on an earlier `follow_up` of these arguments, or None if there is no trace of it.

        On v1 it is the agent's latest run, if that is not `after_run` and did not begin before `since`; on v0 the
        agent, if it is at work or was told `prompt`, or a part of it that no other prompt has. `agent_not_found` if
        the agent is gone. `since` must leave room for the provider's clock.
        """

    async def delete(self, agent_id: str) -> None:
        """Delete the agent for good; nothing to do if it is gone already. May be repeated."""

    async def archive(self, agent_id: str) -> None:
        """Put the agent away: it can be read, counts as running no longer, and takes no further prompt. May be
        repeated; nothing to do if it is gone. `feature_unavailable` on v0, which knows nothing of the kind."""

    async def unarchive(self, agent_id: str) -> None:
        """Let an archived agent take prompts again. May be repeated; `feature_unavailable` on v0."""

    async def artifacts(self, agent_id: str) -> list[Artifact]:
        """The files that the agent left, a hundred at most."""

    async def artifact_link(self, agent_id: str, path: str) -> ArtifactLink:
        """Where one of the `artifacts` can be fetched for some minutes; `artifact_not_found` if it is not there."""

    async def usage(self, agent_id: str, run_id: str | None) -> AgentUsage | None:
        """None where the provider does not report it (v0, or not enabled for the account)."""

    async def conversation(self, agent_id: str) -> list[Message]:
        """What was said, oldest first. `feature_unavailable` where the provider does not tell it of this agent."""

    async def models(self) -> list[Model]: ...

    async def repositories(self) -> list[str]:
        """The addresses of the repositories that the provider has access to, each once.

        It may take a minute, and the provider lets it be asked once a minute and thirty times an hour: to be kept.
        """

    async def me(self) -> Account: ...

    def stream(self, agent_id: str, run_id: str, *, after: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """Events of a run as they come, from the one after `after`; v0 has none: empty.

        Ends after the event `done`, or without it when the provider closes: then the run may go on. It may be
        left at any time. A failure says nothing about the run: read it.
        """

    async def aclose(self) -> None: ...

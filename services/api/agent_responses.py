"""The shapes of what is answered about cloud agents, for the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, Field

from shared.domain.events import AgentStatus, ApiVersion
from shared.sweeping import OrphanAction, SettledAction


class CloudAgentShape(BaseModel):
    """An agent with the attempt that it works for or, at rest, worked for last."""

    id: str
    run_id: str | None
    status: AgentStatus | None
    provider_status: str | None = Field(description="the provider's own word")
    url: str | None
    api_version: ApiVersion | None
    model: str | None
    branch: str | None
    orchestration_id: str
    task_id: str
    attempt_id: str
    attempt_number: int
    started_at: str | None
    ended_at: str | None


class AgentStatusShape(BaseModel):
    """What the provider says of an agent at `as_of`."""

    id: str
    status: AgentStatus
    provider_status: str = Field(description="the provider's own word")
    run_id: str | None
    url: str | None
    branch: str | None
    pr_url: str | None
    summary: str | None
    as_of: str


class MessageShape(BaseModel):
    id: str
    author: Literal["user", "assistant"]
    text: str


class ConversationShape(BaseModel):
    """What was said, oldest first."""

    id: str
    messages: list[MessageShape]


class ArtifactShape(BaseModel):
    path: str
    size_bytes: int | None
    updated_at: str | None


class ArtifactsShape(BaseModel):
    """The files that the agent left beside its work."""

    id: str
    items: list[ArtifactShape]


class ArtifactLinkShape(BaseModel):
    """Where a file can be fetched, without any key, until the link expires."""

    id: str
    path: str
    url: str
    expires_at: str | None


class AgentActionShape(BaseModel):
    """The outcome of an action on an agent; `status` is null where it is not known."""

    id: str
    status: AgentStatus | None
    message: str


class OrphanShape(BaseModel):
    """An agent at work that no attempt under way has."""

    agentId: str
    url: str | None
    status: str = Field(description="the provider's word")
    orchestrationId: str
    attemptId: str | None = Field(description="the last one that had it; null where the log does not have it")
    action: OrphanAction = Field(
        description="`stopping`: not seen to have stopped yet, it is told again; `left`: at work on what was not asked "
        "for here, such as what a person told it since, and left alone; `would_stop`: with `dryRun`"
    )


class SettledShape(BaseModel):
    """An attempt under way that had been without news for long, where anything came of looking at it."""

    attemptId: str
    orchestrationId: str
    agentId: str | None
    action: SettledAction = Field(
        description="`ended`: its end was seen now; `put_back`: what launches or follows it had been lost; `not_read`: "
        "the provider did not answer; `would_read`: with `dryRun`"
    )


class SweepShape(BaseModel):
    """The report of a sweep."""

    checked: int = Field(description="agents of the account that were looked through")
    ours: int = Field(description="those of them that may be at work and were launched here")
    unread: int = Field(description="those of ours that the provider did not tell enough of")
    dryRun: bool
    orphans: list[OrphanShape]
    settled: list[SettledShape]

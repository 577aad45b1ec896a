"""What the simulator remembers: agents, their runs and what was said."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from deploy.local.simulator.behaviour import Behaviour
from deploy.local.simulator.board import Subject
from deploy.local.simulator.clock import Timer
from deploy.local.simulator.content import branch_name, pull_request_url
from deploy.local.simulator.faults import Version
from deploy.local.simulator.journal import Entry

# What one agent may keep, so that a client that loops cannot fill the memory.
MAX_RUNS = 50
MAX_MESSAGES = 100
MAX_TEXT = 64 * 1024


class Status(StrEnum):
    """States of a run. The older version of the API shows an agent's latest run as the agent's state."""

    CREATING = "CREATING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    ERROR = "ERROR"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"

    @property
    def active(self) -> bool:
        return self in (Status.CREATING, Status.RUNNING)


Hidden = Literal["branch", "pr", "summary", "usage"]


@dataclass(frozen=True, slots=True)
class Repository:
    url: str
    ref: str | None = None
    pr_url: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    url: str
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewAgent:
    """A valid request to create an agent, from either version of the API."""

    prompt: str
    repositories: tuple[Repository, ...]
    version: Version = "v1"
    model: str | None = None
    agent_id: str | None = None
    name: str | None = None
    branch: str | None = None
    auto_create_pr: bool = False
    work_on_current_branch: bool = False
    webhook: Webhook | None = None
    # Fields that are only shown again (environment, subagents), under the API's own names.
    echo: dict[str, object] = field(default_factory=dict)

    @property
    def attempt(self) -> str | None:
        """What the caller has marked the agent with, to know it again: on v1 by its id, on v0 by the branch."""
        return self.agent_id if self.version == "v1" else self.branch


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    by_user: bool
    text: str


@dataclass(slots=True, eq=False)
class Run:
    """One prompt at work. `created`, `started` and `ended` are in seconds of the clock."""

    id: str
    title: str
    token: int
    subject: Subject
    behaviour: Behaviour
    created_at: datetime
    updated_at: datetime
    created: float
    started: float | None = None
    ended: float | None = None
    status: Status = Status.CREATING
    result: str | None = None
    cancelling: bool = False
    # Words shown in place of these states, and what is there already but not shown yet.
    words: dict[Status, str] = field(default_factory=dict)
    hidden: set[Hidden] = field(default_factory=set)
    timer: Timer | None = None
    watchers: set[asyncio.Event] = field(default_factory=set)

    @property
    def word(self) -> str:
        """The state as it is shown."""
        return self.words.get(self.status, self.status.value)

    def shown_result(self) -> str | None:
        return None if "summary" in self.hidden else self.result

    def seconds(self) -> float:
        """How long it was at work or about to be, once it has ended."""
        return 0.0 if self.ended is None else self.ended - self.created

    def duration_ms(self) -> int | None:
        return None if self.ended is None else round((self.ended - self.created) * 1000)


@dataclass(slots=True, eq=False)
class Agent:
    """A durable agent. `number` counts agents as created; `token` is what its content is made of."""

    number: int
    id: str
    name: str
    title: str
    line: str
    token: int
    request: NewAgent
    entry: Entry
    created_at: datetime
    updated_at: datetime
    old_form: bool = False  # of its webhooks
    early: bool = False  # its create is answered once `told` is set: when the webhook of its end was tried
    told: asyncio.Event = field(default_factory=asyncio.Event)
    archived: bool = False
    pushed: bool = False
    runs: list[Run] = field(default_factory=list)
    seen_before: Run | None = None  # what v0 showed when the latest run began
    messages: list[Message] = field(default_factory=list)
    message_count: int = 0

    @property
    def latest(self) -> Run:
        return self.runs[-1]

    @property
    def branch(self) -> str | None:
        """The branch that the agent works on, pushed or not; None without a repository."""
        return branch_of(self.request, self.title, self.token)

    @property
    def shows_branch(self) -> bool:
        """Whether the agent has pushed its branch, and that can be seen."""
        return self.pushed and "branch" not in self.latest.hidden

    def pr_url(self, repository: Repository) -> str | None:
        """The pull request, once there is one."""
        if repository.pr_url is not None:
            return repository.pr_url
        if self.shows_branch and self.request.auto_create_pr and "pr" not in self.latest.hidden:
            return pull_request_url(repository.url, self.token)
        return None

    def say(self, text: str, *, by_user: bool) -> None:
        self.message_count += 1
        self.messages.append(Message(f"msg-{self.id}-{self.message_count}", by_user, text[:MAX_TEXT]))
        del self.messages[:-MAX_MESSAGES]


def branch_of(request: NewAgent, title: str, token: int) -> str | None:
    """The branch that an agent with this request works on; None without a repository."""
    if not request.repositories:
        return None
    if request.work_on_current_branch:
        return request.repositories[0].ref or "main"
    return request.branch or branch_name(title, token)

"""Request bodies of the current version."""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from deploy.local.simulator.agents import NewAgent, Repository
from deploy.local.simulator.models import check_model
from deploy.local.simulator.schemas import (
    Dimension,
    PullRequestUrl,
    RepositoryUrl,
    Strict,
    Text,
    WebUrl,
    has_user,
)

_AGENT_ID = r"^bc-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

# Of base64: what 15 MB take.
_IMAGE_LIMIT = 20 * 1024**2
_BUILT_IN = frozenset({"explore", "shell", "debug", "computerUse", "cursorGuide"})


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_Named)


def _variable(name: str) -> str:
    if not 1 <= len(name.encode()) <= 255 or name.startswith("CURSOR_"):
        raise ValueError("must have 1 to 255 bytes and not start with CURSOR_")
    return name


def _secret(value: str) -> str:
    if not 1 <= len(value.encode()) <= 4096:
        raise ValueError("must have 1 to 4096 bytes")
    return value


def _without_user(url: str) -> str:
    if has_user(url):
        raise ValueError("must not hold a user or password")
    return url


def _not_built_in(name: str) -> str:
    if name in _BUILT_IN:
        raise ValueError("is the name of a built-in subagent")
    return name


def _unique(named: Sequence[Named]) -> Sequence[Named]:
    if len({one.name for one in named}) < len(named):
        raise ValueError("names must be unique")
    return named


Mode = Literal["agent", "plan"]
Variable = Annotated[str, AfterValidator(_variable)]
SecretValue = Annotated[str, AfterValidator(_secret)]


class Image(Strict):
    data: Annotated[str, Field(min_length=1, max_length=_IMAGE_LIMIT)] | None = None
    url: WebUrl | None = None
    mimeType: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] | None = None
    dimension: Dimension | None = None

    @model_validator(mode="after")
    def one_source(self) -> Self:
        if (self.data is None) == (self.url is None) or (self.data is None) != (self.mimeType is None):
            raise ValueError("either data with mimeType, or url")
        return self


class Prompt(Strict):
    text: Text
    images: list[Image] = Field(default=[], max_length=5)


class Parameter(Strict):
    id: Text
    value: Text


class ModelRef(Strict):
    id: Text
    params: list[Parameter] = Field(default=[])


class Repo(Strict):
    url: RepositoryUrl
    startingRef: Text | None = None
    prUrl: PullRequestUrl | None = None


class Environment(Strict):
    type: Literal["cloud", "pool", "machine"]
    name: Text | None = None


class McpAuth(Strict):
    CLIENT_ID: Text
    CLIENT_SECRET: str | None = None
    scopes: list[Text] = Field(default=[])


class McpServer(Strict):
    """A server started by command or reached by URL; only what belongs to its kind may be given."""

    name: Text
    type: Literal["stdio", "http", "sse"] | None = None
    command: Text | None = None
    args: list[str] = Field(default=[])
    env: dict[str, str] = Field(default={})
    url: Annotated[WebUrl, AfterValidator(_without_user)] | None = None
    headers: dict[str, str] = Field(default={})
    auth: McpAuth | None = None

    @model_validator(mode="after")
    def one_kind(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("either command or url")
        foreign = {"url", "headers", "auth"} if self.command is not None else {"command", "args", "env"}
        wrong_type = self.type is not None and (self.type == "stdio") != (self.command is not None)
        if wrong_type or foreign & self.model_fields_set:
            raise ValueError("fields of a stdio and of a remote server are mixed")
        return self


class Subagent(Strict):
    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_not_built_in)]
    description: str = Field(min_length=1, max_length=1000)
    prompt: str = Field(min_length=1, max_length=8192)
    model: Text | ModelRef | None = None

    def model_name(self) -> str | None:
        """None where it is that of the parent."""
        name = self.model.id if isinstance(self.model, ModelRef) else self.model
        return None if name == "inherit" else name


McpServers = Annotated[list[McpServer], Field(max_length=50), AfterValidator(_unique)]
Subagents = Annotated[list[Subagent], Field(max_length=20), AfterValidator(_unique)]


class CreateAgent(Strict):
    prompt: Prompt
    model: ModelRef | None = None
    name: str | None = Field(default=None, min_length=1, max_length=100)
    agentId: str | None = Field(default=None, pattern=_AGENT_ID)
    env: Environment | None = None
    repos: list[Repo] = Field(default=[], max_length=20)
    workOnCurrentBranch: bool = False
    autoCreatePR: bool = False
    skipReviewerRequest: bool = False
    envVars: dict[Variable, SecretValue] = Field(default={}, max_length=50)
    mcpServers: McpServers = Field(default=[])
    customSubagents: Subagents = Field(default=[])
    mode: Mode = "agent"

    @model_validator(mode="after")
    def fields_fit(self) -> Self:
        if self.agentId is not None and self.envVars:
            raise ValueError("envVars cannot be combined with agentId")
        if self.repos and self.env is not None and self.env.type == "cloud" and self.env.name is not None:
            raise ValueError("repos cannot be combined with a named cloud environment")
        return self

    def new_agent(self) -> NewAgent:
        """Raises:
        ApiError: `invalid_model`.
        """
        named = [self.model.id if self.model is not None else None, *(one.model_name() for one in self.customSubagents)]
        for model in named:
            if model is not None:
                check_model(model)
        shown = {"env", "skipReviewerRequest", "customSubagents"} & self.model_fields_set
        return NewAgent(
            prompt=self.prompt.text,
            repositories=tuple(Repository(repo.url, repo.startingRef, repo.prUrl) for repo in self.repos),
            model=self.model.id if self.model is not None else None,
            agent_id=self.agentId,
            name=self.name,
            auto_create_pr=self.autoCreatePR,
            work_on_current_branch=self.workOnCurrentBranch,
            echo=self.model_dump(include=shown, exclude_none=True) if shown else {},
        )


class CreateRun(Strict):
    prompt: Prompt
    mcpServers: McpServers = Field(default=[])
    mode: Mode | None = None

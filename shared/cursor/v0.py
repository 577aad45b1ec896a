"""The provider by version 0 of the API: no idempotent create, but the only one that reports by webhook."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import quote

from shared.cursor import answers
from shared.cursor.answers import JsonObject, bad_response, outcome_open, parse_object
from shared.cursor.artifacts import link_to_artifact, list_artifacts
from shared.cursor.conversation import read_conversation, was_told
from shared.cursor.errors import ProviderError
from shared.cursor.http import CursorHttp
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
from shared.cursor.refusals import (
    AGENT_NOT_FOUND,
    FEATURE_UNAVAILABLE,
    RUN_NOT_CANCELLABLE,
    gone_is_fine,
    is_conflict,
)
from shared.domain.events import AgentStatus

_PAGE = 100  # the most that the API gives at once
_PAGES = 100  # after this many the list has no end, or the caller asks for an impossible stretch of time
_CLOCK_SKEW = timedelta(minutes=5)  # between this machine and the provider, whose times the list shows


class CursorV0:
    """`Provider` on `/v0`. It knows no runs: `run_id` is always None and is taken no notice of."""

    version: ApiVersion = "v0"

    def __init__(self, http: CursorHttp) -> None:
        self._http = http

    async def aclose(self) -> None:
        await self._http.aclose()

    async def create(self, request: AgentRequest) -> AgentSnapshot:
        secrets = (request.webhook.secret,) if request.webhook else ()
        raw = await self._http.create("/v0/agents", _create_body(request), secrets=secrets)
        with outcome_open():
            return _snapshot(parse_object(raw))

    async def find(self, request: AgentRequest, *, since: datetime) -> AgentSnapshot | None:
        """See `Provider.find`. A page that cannot be read raises: "no trace" must be certain, since a second
        create follows from it."""
        oldest = since - _CLOCK_SKEW
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await self._page(cursor)
            agents = answers.children(page, "agents")
            for agent in agents:
                if _is_of(agent, request):
                    return _snapshot(agent)
            cursor = answers.next_cursor(page)
            if cursor is None or _all_older(agents, oldest):
                return None
        raise bad_response(f"the list of agents does not end within {_PAGES} pages")

    async def list_agents(self, cursor: str | None = None) -> AgentPage:
        page = await self._page(cursor)
        listed = (_listed(agent) for agent in answers.children(page, "agents") if answers.has_identifier(agent, "id"))
        return AgentPage(tuple(listed), answers.next_cursor(page))

    async def get(self, agent_id: str, run_id: str | None) -> AgentSnapshot:
        return _snapshot(await self._http.get(_path(agent_id), endpoint="get_agent", missing=AGENT_NOT_FOUND))

    async def stop(self, agent_id: str, run_id: str | None) -> bool:
        try:
            await self._http.tell(f"{_path(agent_id)}/stop", endpoint="stop_agent", missing=AGENT_NOT_FOUND)
        except ProviderError as error:
            # How the API refuses to stop what has ended is not documented, so the agent itself is asked.
            if error.status not in (400, 409) or error.billing:
                raise
            status = (await self.get(agent_id, run_id)).status
            is_unknown_end = status is AgentStatus.UNKNOWN and is_conflict(error, RUN_NOT_CANCELLABLE)
            if not status.is_terminal and not is_unknown_end:
                raise
            return False
        return True

    async def follow_up(self, agent_id: str, prompt: str, *, after_run: str | None) -> AgentSnapshot:
        body: JsonObject = {"prompt": {"text": prompt}}
        raw = await self._http.follow_up(f"{_path(agent_id)}/followup", body, missing=AGENT_NOT_FOUND)
        with outcome_open():
            answers.identifier(parse_object(raw), "id")  # an answer of something else in between says nothing
        return AgentSnapshot(agent_id, AgentStatus.CREATING, AgentStatus.CREATING.value)

    async def find_follow_up(
        self, agent_id: str, prompt: str, *, after_run: str | None, since: datetime
    ) -> AgentSnapshot | None:
        snapshot = await self.get(agent_id, None)
        if snapshot.status in (AgentStatus.CREATING, AgentStatus.RUNNING):
            return snapshot
        if not was_told(await self.conversation(agent_id), prompt):
            return None
        # The end that it still shows, or shows again, is for a later read to tell whose it is.
        return replace(snapshot, status=AgentStatus.CREATING, provider_status=AgentStatus.CREATING.value)

    async def delete(self, agent_id: str) -> None:
        with gone_is_fine():
            await self._http.delete(_path(agent_id), missing=AGENT_NOT_FOUND)

    async def archive(self, agent_id: str) -> None:
        raise _cannot_archive()

    async def unarchive(self, agent_id: str) -> None:
        raise _cannot_archive()

    async def artifacts(self, agent_id: str) -> list[Artifact]:
        return await list_artifacts(self._http, _path(agent_id))

    async def artifact_link(self, agent_id: str, path: str) -> ArtifactLink:
        return await link_to_artifact(self._http, _path(agent_id), path)

    async def usage(self, agent_id: str, run_id: str | None) -> AgentUsage | None:
        return None

    async def conversation(self, agent_id: str) -> list[Message]:
        return await read_conversation(self._http, agent_id)

    async def models(self) -> list[Model]:
        answer = await self._http.get("/v0/models", endpoint="models")
        names = answer.get("models")
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise bad_response("models is missing or not a list of names")
        return [Model(id=name, display_name=name) for name in names]

    async def repositories(self) -> list[str]:
        answer = await self._http.get_once("/v0/repositories", endpoint="repositories", limit="repositories")
        return answers.addresses(answers.children(answer, "repositories"), "repository")

    async def me(self) -> Account:
        answer = await self._http.get("/v0/me", endpoint="me")
        return Account(answers.required_text(answer, "apiKeyName"), answers.optional_text(answer, "userEmail"))

    async def stream(
        self, agent_id: str, run_id: str, *, after: str | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        return
        yield  # makes this an iterator: there is nothing to stream

    async def _page(self, cursor: str | None) -> JsonObject:
        params: dict[str, str | int] = {"limit": _PAGE}
        if cursor is not None:
            params["cursor"] = cursor
        return await self._http.get("/v0/agents", endpoint="list_agents", limit="list", params=params)


def _cannot_archive() -> ProviderError:
    return ProviderError(FEATURE_UNAVAILABLE, "version 0 of the provider's API has no archive")


def _path(agent_id: str) -> str:
    return f"/v0/agents/{quote(agent_id, safe='')}"


def _create_body(request: AgentRequest) -> JsonObject:
    """What is sent. No key is unknown to the API and none is null: it refuses both."""
    body: JsonObject = {
        "prompt": {"text": request.prompt},
        "source": {"repository": request.repository, "ref": request.ref},
        "target": {"autoCreatePr": request.auto_create_pr, "branchName": request.branch_name},
    }
    if request.model is not None:
        body["model"] = request.model
    if request.webhook is not None:
        body["webhook"] = {"url": request.webhook.url, "secret": request.webhook.secret}
    return body


def _snapshot(agent: JsonObject) -> AgentSnapshot:
    status, word = answers.status(agent)
    target = answers.child(agent, "target")
    return AgentSnapshot(
        agent_id=answers.identifier(agent, "id"),
        status=status,
        provider_status=word,
        url=answers.optional_url(target, "url"),
        branch=answers.optional_name(target, "branchName"),
        pr_url=answers.optional_url(target, "prUrl"),
        summary=answers.optional_text(agent, "summary", answers.SUMMARY_LIMIT),
        created_at=answers.optional_time(agent, "createdAt"),
    )


def _listed(agent: JsonObject) -> ListedAgent:
    """An agent without a status may be at work: it may be anybody's, so that nothing is expected of it."""
    target, source = answers.optional_child(agent, "target"), answers.optional_child(agent, "source")
    return ListedAgent(
        agent_id=answers.identifier(agent, "id"),
        is_at_rest=answers.optional_text(agent, "status") is not None and answers.status(agent)[0].is_terminal,
        url=answers.optional_url(target, "url"),
        branch=answers.optional_name(target, "branchName"),
        repository=answers.optional_text(source, "repository", answers.URL_LIMIT),
        created_at=answers.optional_time(agent, "createdAt"),
    )


def _is_of(agent: JsonObject, request: AgentRequest) -> bool:
    """Whether the agent carries the request's branch, in the request's repository as far as that is told."""
    target, source = agent.get("target"), agent.get("source")
    if not isinstance(target, dict) or target.get("branchName") != request.branch_name:
        return False
    repository = source.get("repository") if isinstance(source, dict) else None
    return not isinstance(repository, str) or answers.same_repository(repository, request.repository)


def _all_older(agents: list[JsonObject], oldest: datetime) -> bool:
    times = [answers.optional_time(agent, "createdAt") for agent in agents]
    return bool(times) and all(time is not None and time < oldest for time in times)

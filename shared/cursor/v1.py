"""The provider by version 1 of the API: a durable agent with an id of our choice, and one run per prompt."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote

from shared.cursor import answers
from shared.cursor.answers import JsonObject, outcome_open, parse_object
from shared.cursor.artifacts import link_to_artifact, list_artifacts
from shared.cursor.conversation import read_conversation
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
    AGENT_ARCHIVED,
    AGENT_ID_CONFLICT,
    AGENT_NOT_FOUND,
    FEATURE_UNAVAILABLE,
    RUN_NOT_CANCELLABLE,
    RUN_NOT_FOUND,
    gone_is_fine,
    is_conflict,
    is_gone,
    stream_failure,
)
from shared.domain.events import AgentStatus

_NAME_LIMIT = 100  # characters; the API refuses more
_PAGE = 100  # agents; the most that the API gives at once


class CursorV1:
    """`Provider` on `/v1`. The run's status is what counts; the agent's own says whether it is archived."""

    version: ApiVersion = "v1"

    def __init__(self, http: CursorHttp) -> None:
        self._http = http

    async def aclose(self) -> None:
        await self._http.aclose()

    async def create(self, request: AgentRequest) -> AgentSnapshot:
        try:
            raw = await self._http.create("/v1/agents", _create_body(request))
        except ProviderError as error:
            if not is_conflict(error, AGENT_ID_CONFLICT):
                raise
            return await self._adopt(request, error)
        with outcome_open():
            created = parse_object(raw)
            run = answers.child(created, "run")
            return _snapshot(answers.child(created, "agent"), run, request.repository)

    async def find(self, request: AgentRequest, *, since: datetime) -> AgentSnapshot | None:
        try:
            agent = await self._agent(request.agent_id)
        except ProviderError as error:
            if is_gone(error):
                return None
            raise
        _refuse_other_repository(agent, request)
        return await self._with_latest_run(agent, request.repository)

    async def list_agents(self, cursor: str | None = None) -> AgentPage:
        params: dict[str, str | int] = {"limit": _PAGE, **({} if cursor is None else {"cursor": cursor})}
        page = await self._http.get("/v1/agents", endpoint="list_agents", limit="list", params=params)
        listed = (_listed(agent) for agent in answers.children(page, "items") if answers.has_identifier(agent, "id"))
        return AgentPage(tuple(listed), answers.next_cursor(page))

    async def get(self, agent_id: str, run_id: str | None) -> AgentSnapshot:
        """See `Provider.get`. By `run_id` it is one call, but tells no `url`; else agent and latest run."""
        if run_id is None:
            agent = await self._agent(agent_id)
            return await self._with_latest_run(agent, _repository(agent))
        run = await self._run(agent_id, run_id)
        repository = None
        if _spans_repositories(run):
            repository = _repository(await self._agent(agent_id))
        return _run_snapshot(agent_id, run, repository)

    async def stop(self, agent_id: str, run_id: str | None) -> bool:
        run_id = run_id or answers.optional_name(await self._agent(agent_id), "latestRunId")
        if run_id is None:
            raise ProviderError(RUN_NOT_FOUND, "the agent has no run yet", retryable=True)
        try:
            path = f"{_run_path(agent_id, run_id)}/cancel"
            await self._http.tell(path, endpoint="stop_agent", missing=AGENT_NOT_FOUND)
        except ProviderError as error:
            if not is_conflict(error, RUN_NOT_CANCELLABLE):
                raise
            return False
        return True

    async def follow_up(self, agent_id: str, prompt: str, *, after_run: str | None) -> AgentSnapshot:
        body: JsonObject = {"prompt": {"text": prompt}}
        raw = await self._http.follow_up(f"{_agent_path(agent_id)}/runs", body, missing=AGENT_NOT_FOUND)
        with outcome_open():
            return _run_snapshot(agent_id, answers.child(parse_object(raw), "run"), None)

    async def find_follow_up(
        self, agent_id: str, prompt: str, *, after_run: str | None, since: datetime
    ) -> AgentSnapshot | None:
        agent = await self._agent(agent_id)
        if agent.get("latestRunId") in (None, after_run):
            return None
        run = await self._run(agent_id, answers.identifier(agent, "latestRunId"))
        # A person may have told the agent more in the meantime: that run is not ours. The agent is older in any case.
        created_at = answers.optional_time(run, "createdAt")
        is_older = created_at is not None and created_at < since
        return None if is_older else _snapshot(agent, run, _repository(agent))

    async def delete(self, agent_id: str) -> None:
        with gone_is_fine():
            await self._http.delete(_agent_path(agent_id), missing=AGENT_NOT_FOUND)

    async def archive(self, agent_id: str) -> None:
        try:
            with gone_is_fine():
                path = f"{_agent_path(agent_id)}/archive"
                await self._http.tell(path, endpoint="archive_agent", missing=AGENT_NOT_FOUND)
        except ProviderError as error:
            if error.code != AGENT_ARCHIVED:
                raise

    async def unarchive(self, agent_id: str) -> None:
        path = f"{_agent_path(agent_id)}/unarchive"
        await self._http.tell(path, endpoint="unarchive_agent", missing=AGENT_NOT_FOUND)

    async def artifacts(self, agent_id: str) -> list[Artifact]:
        return await list_artifacts(self._http, _agent_path(agent_id))

    async def artifact_link(self, agent_id: str, path: str) -> ArtifactLink:
        return await link_to_artifact(self._http, _agent_path(agent_id), path)

    async def usage(self, agent_id: str, run_id: str | None) -> AgentUsage | None:
        try:
            answer = await self._http.get(
                f"{_agent_path(agent_id)}/usage",
                endpoint="usage",
                missing=AGENT_NOT_FOUND,
                params={} if run_id is None else {"runId": run_id},
            )
        except ProviderError as error:
            if error.code == FEATURE_UNAVAILABLE:
                return None
            raise
        return _usage(answer)

    async def conversation(self, agent_id: str) -> list[Message]:
        """See `Provider.conversation`. v1 has no such endpoint of its own; agents made by it answer on v0's, which
        is not documented: where they do not, nothing else tells what they were told."""
        try:
            return await read_conversation(self._http, agent_id)
        except ProviderError as error:
            if error.status not in (404, 410, 501):
                raise
            await self._agent(agent_id)  # raises agent_not_found if it is the agent that is not there
            raise ProviderError(
                FEATURE_UNAVAILABLE, "the provider does not tell the conversation of this agent", status=error.status
            ) from error

    async def models(self) -> list[Model]:
        answer = await self._http.get("/v1/models", endpoint="models")
        return [_model(item) for item in answers.children(answer, "items")]

    async def repositories(self) -> list[str]:
        answer = await self._http.get_once("/v1/repositories", endpoint="repositories", limit="repositories")
        return answers.addresses(answers.children(answer, "items"), "url")

    async def me(self) -> Account:
        answer = await self._http.get("/v1/me", endpoint="me")
        return Account(answers.required_text(answer, "apiKeyName"), answers.optional_text(answer, "userEmail"))

    async def stream(
        self, agent_id: str, run_id: str, *, after: str | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        if after is not None and not (after.isascii() and after.isprintable()):
            raise ProviderError("invalid_last_event_id", "the id to resume after is not one of the provider's")
        path = f"{_run_path(agent_id, run_id)}/stream"
        async with aclosing(self._http.events(path, after=after, missing=AGENT_NOT_FOUND)) as events:
            async for event in events:
                if not event.data:
                    continue
                data = parse_object(event.data.encode())
                if event.event == "error":
                    raise stream_failure(data)
                yield StreamEvent(event.id or None, event.event, data)
                if event.event == "done":
                    return

    async def _adopt(self, request: AgentRequest, refusal: ProviderError) -> AgentSnapshot:
        """The agent that holds our id already. Whatever fails on the way, it exists, and the outcome is open; only
        where the refusal names no code may it have meant something else."""
        try:
            with outcome_open():
                agent = await self._agent(request.agent_id)
        except ProviderError as error:
            if is_gone(error) and refusal.code != AGENT_ID_CONFLICT:
                raise refusal from error
            raise
        _refuse_other_repository(agent, request)
        with outcome_open():
            return await self._with_latest_run(agent, request.repository)

    async def _agent(self, agent_id: str) -> JsonObject:
        return await self._http.get(_agent_path(agent_id), endpoint="get_agent", missing=AGENT_NOT_FOUND)

    async def _run(self, agent_id: str, run_id: str) -> JsonObject:
        return await self._http.get(_run_path(agent_id, run_id), endpoint="get_agent", missing=AGENT_NOT_FOUND)

    async def _with_latest_run(self, agent: JsonObject, repository: str | None) -> AgentSnapshot:
        if agent.get("latestRunId") is None:
            return _without_run(agent)
        agent_id, run_id = answers.identifier(agent, "id"), answers.identifier(agent, "latestRunId")
        return _snapshot(agent, await self._run(agent_id, run_id), repository)


def _agent_path(agent_id: str) -> str:
    return f"/v1/agents/{quote(agent_id, safe='')}"


def _run_path(agent_id: str, run_id: str) -> str:
    return f"{_agent_path(agent_id)}/runs/{quote(run_id, safe='')}"


def _create_body(request: AgentRequest) -> JsonObject:
    """What is sent. No key is unknown to the API and none is null: it refuses both."""
    body: JsonObject = {
        "prompt": {"text": request.prompt},
        "agentId": request.agent_id,
        "repos": [{"url": request.repository, "startingRef": request.ref}],
        "autoCreatePR": request.auto_create_pr,
    }
    if name := request.name.strip()[:_NAME_LIMIT]:
        body["name"] = name
    if request.model is not None:
        body["model"] = {"id": request.model}
    return body


def _repository(agent: JsonObject) -> str | None:
    """The address of the agent's first repository; "" if it has none, None if that is not said."""
    if agent.get("repos") is None:
        return None
    repositories = answers.children(agent, "repos")
    return answers.required_text(repositories[0], "url", answers.URL_LIMIT) if repositories else ""


def _refuse_other_repository(agent: JsonObject, request: AgentRequest) -> None:
    repository = _repository(agent)
    if repository is not None and not answers.same_repository(repository, request.repository):
        raise ProviderError(AGENT_ID_CONFLICT, "an agent for another repository holds this id", status=409)


def _listed(agent: JsonObject) -> ListedAgent:
    """Only IDLE says that no run is at work. ACTIVE is what older releases of the API say of every agent that is not
    archived, and nothing is known of the runs of those that are."""
    return ListedAgent(
        agent_id=answers.identifier(agent, "id"),
        is_at_rest=agent.get("status") == "IDLE",
        run_id=answers.identifier(agent, "latestRunId") if answers.has_identifier(agent, "latestRunId") else None,
        url=answers.optional_url(agent, "url"),
        created_at=answers.optional_time(agent, "createdAt"),
    )


def _without_run(agent: JsonObject) -> AgentSnapshot:
    """An agent without a run is one that is still being made, unless it has been put away."""
    word = answers.required_text(agent, "status", 64)
    return AgentSnapshot(
        agent_id=answers.identifier(agent, "id"),
        status=AgentStatus.CREATING if word == "ACTIVE" else AgentStatus.UNKNOWN,
        provider_status=word,
        url=answers.optional_url(agent, "url"),
        created_at=answers.optional_time(agent, "createdAt"),
    )


def _snapshot(agent: JsonObject, run: JsonObject, repository: str | None) -> AgentSnapshot:
    snapshot = _run_snapshot(answers.identifier(agent, "id"), run, repository)
    return replace(
        snapshot,
        url=answers.optional_url(agent, "url"),
        created_at=answers.optional_time(agent, "createdAt") or snapshot.created_at,
    )


def _run_snapshot(agent_id: str, run: JsonObject, repository: str | None) -> AgentSnapshot:
    status, word = answers.status(run)
    pushed = _pushed(run, repository)
    return AgentSnapshot(
        agent_id=agent_id,
        status=status,
        provider_status=word,
        run_id=answers.identifier(run, "id"),
        branch=answers.optional_name(pushed, "branch"),
        pr_url=answers.optional_url(pushed, "prUrl"),
        summary=answers.optional_text(run, "result", answers.SUMMARY_LIMIT),
        duration_ms=answers.optional_count(run, "durationMs"),
        created_at=answers.optional_time(run, "createdAt"),
    )


def _branches(run: JsonObject) -> list[JsonObject]:
    """What the agent has pushed; it is the agent's and not the run's, but every run shows it."""
    git = run.get("git")
    entries = git.get("branches") if isinstance(git, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _repo_url(entry: JsonObject) -> str:
    return answers.optional_text(entry, "repoUrl", answers.URL_LIMIT) or ""


def _spans_repositories(run: JsonObject) -> bool:
    entries = _branches(run)
    return any(not answers.same_repository(_repo_url(entries[0]), _repo_url(entry)) for entry in entries)


def _pushed(run: JsonObject, repository: str | None) -> JsonObject:
    """The entry for `repository` (any, if None): with a pull request before one without, else the first."""
    ours = [
        entry for entry in _branches(run) if repository is None or answers.same_repository(_repo_url(entry), repository)
    ]
    return next((entry for entry in ours if answers.optional_url(entry, "prUrl")), ours[0] if ours else {})


def _usage(answer: JsonObject) -> AgentUsage:
    """Tokens and cost of what was asked for, which the answer sums up over its runs."""
    total = answers.child(answer, "totalUsage")
    # Where the cost stands is in no specification: it has been seen beside the tokens, not within them.
    costs = [holder["cost"] for holder in (answer, total) if isinstance(holder.get("cost"), dict)]
    return AgentUsage(
        input_tokens=answers.count(total, "inputTokens"),
        output_tokens=answers.count(total, "outputTokens"),
        total_tokens=answers.count(total, "totalTokens"),
        cost=_dollars(costs[0]) if costs else None,
    )


def _dollars(cost: object) -> float | None:
    """What the account is charged; else, where that is not said, what it is worth."""
    if not isinstance(cost, dict):
        return None
    charged = answers.optional_amount(cost, "chargedCents")
    cents = answers.optional_amount(cost, "rawCostCents") if charged is None else charged
    return None if cents is None else cents / 100


def _model(item: JsonObject) -> Model:
    name = answers.required_text(item, "id")
    aliases = item.get("aliases")
    listed = aliases if isinstance(aliases, list) else []
    return Model(
        id=name,
        display_name=answers.optional_text(item, "displayName") or name,
        aliases=tuple(alias for alias in listed if isinstance(alias, str)),
    )

"""The current version of the API, `/v1`: a durable agent, one run per prompt."""

from functools import partial
from uuid import NAMESPACE_URL, uuid5

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from deploy.local.simulator.agents import Agent, Run
from deploy.local.simulator.artifacts import ArtifactLinks, artifacts_of
from deploy.local.simulator.calls import Calls
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.content import Usage, usage_of, without_scheme
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.http import Gate, json_response, page_of, read_body
from deploy.local.simulator.models import MODELS
from deploy.local.simulator.schemas_v1 import CreateAgent, CreateRun
from deploy.local.simulator.settings import SimulatorSettings
from deploy.local.simulator.store import AgentStore
from deploy.local.simulator.streams import RunStreams
from deploy.local.simulator.timestamps import KEY_CREATED, timestamp

Json = dict[str, object]


def summary_view(agent: Agent) -> Json:
    """An agent as lists show it."""
    return {
        "id": agent.id,
        "name": agent.name,
        "status": _lifecycle(agent),
        "env": agent.request.echo.get("env", {"type": "cloud"}),
        "url": f"https://cursor.com/agents/{agent.id}",
        "createdAt": timestamp(agent.created_at),
        "updatedAt": timestamp(agent.updated_at),
        "latestRunId": agent.latest.id,
    }


def agent_view(agent: Agent) -> Json:
    return {
        **summary_view(agent),
        "repos": [_repo(agent, index) for index in range(len(agent.request.repositories))],
        "workOnCurrentBranch": agent.request.work_on_current_branch,
        "autoCreatePR": agent.request.auto_create_pr,
        **agent.request.echo,
    }


def _lifecycle(agent: Agent) -> str:
    if agent.archived:
        return "ARCHIVED"
    return "ACTIVE" if agent.latest.status.active else "IDLE"


def _repo(agent: Agent, index: int) -> Json:
    repository = agent.request.repositories[index]
    given = {"url": repository.url, "startingRef": repository.ref, "prUrl": repository.pr_url}
    return {key: value for key, value in given.items() if value is not None}


def run_view(agent: Agent, run: Run, *, with_result: bool = True) -> Json:
    """A run; `git` is the agent's, the same on each of its runs, once it has pushed."""
    view: Json = {
        "id": run.id,
        "agentId": agent.id,
        "status": run.word,
        "createdAt": timestamp(run.created_at),
        "updatedAt": timestamp(run.updated_at),
    }
    if run.ended is not None:
        view["durationMs"] = run.duration_ms()
    result = run.shown_result()
    if with_result and result is not None:
        view["result"] = result
    git = git_view(agent)
    if git is not None:
        view["git"] = git
    return view


def git_view(agent: Agent) -> Json | None:
    """The branches that the agent has pushed, one per repository; None before any is seen."""
    if not agent.shows_branch:
        return None
    branches = []
    for repository in agent.request.repositories:
        branch: Json = {"repoUrl": without_scheme(repository.url), "branch": agent.branch}
        pr_url = agent.pr_url(repository)
        if pr_url is not None:
            branch["prUrl"] = pr_url
        branches.append(branch)
    return {"branches": branches}


def result_view(agent: Agent, run: Run) -> Json:
    """The data of the stream's `result` event."""
    view: Json = {"runId": run.id, "status": run.word, "durationMs": run.duration_ms()}
    result = run.shown_result()
    if result is not None:
        view["text"] = result
    git = git_view(agent)
    if git is not None:
        view["git"] = git
    return view


def usage_view(runs: list[Run]) -> Json:
    """Tokens and cost of the runs, each and together; zero for a run that has not ended."""
    each = [(run, _usage(run)) for run in runs]
    total = sum((usage for _, usage in each), Usage())
    return {
        "totalUsage": _tokens(total),
        "cost": _cost(total),
        "runs": [_run_usage(run, usage) for run, usage in each],
    }


def _usage(run: Run) -> Usage:
    worked = run.started is not None and run.ended is not None and "usage" not in run.hidden
    return usage_of(run.token) if worked else Usage()


def _run_usage(run: Run, usage: Usage) -> Json:
    view: Json = {"id": run.id, "usage": _tokens(usage), "cost": _cost(usage)}
    if usage != Usage():
        view["usageUuid"] = str(uuid5(NAMESPACE_URL, run.id))
    return view


def _tokens(usage: Usage) -> Json:
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cacheWriteTokens": usage.cache_write_tokens,
        "cacheReadTokens": usage.cache_read_tokens,
        "totalTokens": sum(usage.counts()),
    }


def _cost(usage: Usage) -> Json:
    return {"rawCostCents": usage.raw_cents(), "chargedCents": usage.charged_cents()}


class V1:
    """The handlers of `/v1`."""

    def __init__(
        self,
        store: AgentStore,
        calls: Calls,
        streams: RunStreams,
        links: ArtifactLinks,
        clock: Clock,
        settings: SimulatorSettings,
    ) -> None:
        self._store = store
        self._links = links
        self._repositories = settings.repositories
        self._calls = calls
        self._streams = streams
        self._blocks_create = partial(clock.sleep, settings.create_seconds)
        self._blocks_run = partial(clock.sleep, settings.follow_up_seconds)

    def routes(self, gate: Gate) -> list[BaseRoute]:
        agent, run = "/v1/agents/{id}", "/v1/agents/{id}/runs/{runId}"
        return [
            gate.route("POST", "/v1/agents", self.create_agent),
            gate.route("GET", "/v1/agents", self.list_agents),
            gate.route("GET", agent, self.get_agent),
            gate.route("DELETE", agent, self.delete_agent),
            gate.route("GET", f"{agent}/usage", self.usage),
            gate.route("GET", f"{agent}/artifacts", self.artifacts),
            gate.route("GET", f"{agent}/artifacts/download", self.download),
            gate.route("POST", f"{agent}/archive", self.archive),
            gate.route("POST", f"{agent}/unarchive", self.unarchive),
            gate.route("POST", f"{agent}/runs", self.create_run),
            gate.route("GET", f"{agent}/runs", self.list_runs),
            gate.route("GET", run, self.get_run),
            gate.route("GET", f"{run}/stream", self.stream),
            gate.route("POST", f"{run}/cancel", self.cancel),
            gate.route("GET", "/v1/me", self.me),
            gate.route("GET", "/v1/models", self.models),
            gate.route("GET", "/v1/repositories", self.repositories),
        ]

    async def create_agent(self, request: Request) -> Response:
        new = (await read_body(request, CreateAgent)).new_agent()
        subject = self._store.subject(new.prompt, new.repositories)

        def create() -> Response:
            agent = self._store.create(new, subject)
            return json_response({"agent": agent_view(agent), "run": run_view(agent, agent.latest)}, 201)

        return await self._calls.change(request, "create", subject, create, self._blocks_create)

    async def list_agents(self, request: Request) -> Response:
        pr_url = request.query_params.get("prUrl")
        archived_too = request.query_params.get("includeArchived", "true") != "false"

        def wanted(agent: Agent) -> bool:
            return (archived_too or not agent.archived) and (pr_url is None or pr_url in _pr_urls(agent))

        agents, cursor = self._store.page(*page_of(request), wanted)
        return _items([summary_view(agent) for agent in agents], cursor)

    async def get_agent(self, request: Request) -> Response:
        return json_response(agent_view(self._store.get(request.path_params["id"])))

    async def delete_agent(self, request: Request) -> Response:
        agent = self._store.get(request.path_params["id"])

        def delete() -> Response:
            self._store.delete(agent.id)
            return _id(request, "id")

        return await self._calls.change(request, "delete", agent.latest.subject, delete)

    async def archive(self, request: Request) -> Response:
        return await self._set_archived(request, True)

    async def unarchive(self, request: Request) -> Response:
        return await self._set_archived(request, False)

    async def _set_archived(self, request: Request, archived: bool) -> Response:
        agent = self._store.get(request.path_params["id"])

        def set_archived() -> Response:
            self._store.set_archived(agent.id, archived)
            return _id(request, "id")

        return await self._calls.change(request, "archive", agent.latest.subject, set_archived)

    async def usage(self, request: Request) -> Response:
        agent_id, run_id = request.path_params["id"], request.query_params.get("runId")
        if run_id is not None:
            return json_response(usage_view([self._store.get_run(agent_id, run_id)[1]]))
        return json_response(usage_view(self._store.get(agent_id).runs))

    async def artifacts(self, request: Request) -> Response:
        agent = self._store.get(request.path_params["id"])
        return json_response({"items": [artifact.view("v1") for artifact in artifacts_of(agent)]})

    async def download(self, request: Request) -> Response:
        return json_response(self._links.link(request, self._store.get(request.path_params["id"])))

    async def create_run(self, request: Request) -> Response:
        body = await read_body(request, CreateRun)
        agent, prompt = self._store.get(request.path_params["id"]), body.prompt.text
        subject = self._store.subject(prompt, agent.request.repositories)

        def start() -> Response:
            run = self._store.start_run(agent.id, prompt, subject, "v1")
            return json_response({"run": run_view(agent, run)}, 201)

        return await self._calls.change(request, "follow_up", subject, start, self._blocks_run)

    async def list_runs(self, request: Request) -> Response:
        limit, cursor = page_of(request)
        agent = self._store.get(request.path_params["id"])
        newest_first = agent.runs[::-1]
        ids = [run.id for run in newest_first]
        if cursor is not None and cursor not in ids:
            raise ApiError("validation_error", "cursor: not a cursor of this list")
        start = 0 if cursor is None else ids.index(cursor) + 1
        page = newest_first[start : start + limit]
        more = start + limit < len(ids)
        return _items([run_view(agent, run, with_result=False) for run in page], page[-1].id if more else None)

    async def get_run(self, request: Request) -> Response:
        return json_response(run_view(*self._run(request)))

    async def cancel(self, request: Request) -> Response:
        agent, run = self._run(request)

        def cancel() -> Response:
            self._store.cancel(agent.id, run.id)
            return _id(request, "runId")

        return await self._calls.change(request, "stop", run.subject, cancel)

    async def stream(self, request: Request) -> Response:
        agent, run = self._run(request)
        last_seen = request.headers.get("last-event-id")
        return self._streams.response(request, run, lambda: result_view(agent, run), last_seen)

    def _run(self, request: Request) -> tuple[Agent, Run]:
        return self._store.get_run(request.path_params["id"], request.path_params["runId"])

    async def me(self, request: Request) -> Response:
        return json_response(
            {
                "apiKeyName": "Simulator",
                "createdAt": KEY_CREATED,
                "userId": 42,
                "userEmail": "developer@example.com",
            }
        )

    async def models(self, request: Request) -> Response:
        items = [
            {
                "id": model.id,
                "displayName": model.display_name,
                "aliases": list(model.aliases),
                "variants": [{"params": [], "displayName": model.display_name, "isDefault": True}],
            }
            for model in MODELS
        ]
        return json_response({"items": items})

    async def repositories(self, _: Request) -> Response:
        return json_response({"items": [{"url": url} for url in self._repositories]})


def _pr_urls(agent: Agent) -> list[str | None]:
    return [agent.pr_url(repository) for repository in agent.request.repositories]


def _items(items: list[Json], cursor: str | None) -> Response:
    return json_response({"items": items} if cursor is None else {"items": items, "nextCursor": cursor})


def _id(request: Request, parameter: str) -> Response:
    return json_response({"id": request.path_params[parameter]})

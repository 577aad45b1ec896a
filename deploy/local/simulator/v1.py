"""The current version of the API, `/v1`: a durable agent, one run per prompt."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from deploy.local.simulator.agents import Agent, Run
from deploy.local.simulator.artifacts import ArtifactLinks, artifacts_of
from deploy.local.simulator.calls import Calls
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.http import Gate, flag_of, json_response, page_of, read_body
from deploy.local.simulator.models import MODELS
from deploy.local.simulator.schemas import repository_of_pull_request
from deploy.local.simulator.schemas_v1 import CreateAgent, CreateRun
from deploy.local.simulator.settings import SimulatorSettings
from deploy.local.simulator.store import AgentStore
from deploy.local.simulator.streams import RunStreams
from deploy.local.simulator.timestamps import KEY_CREATED
from deploy.local.simulator.views_v1 import Json, agent_view, result_view, run_view, summary_view, usage_view


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
        if pr_url is not None and repository_of_pull_request(pr_url) is None:
            raise ApiError("validation_error", "prUrl: must be the URL of a pull request")
        archived_too = flag_of(request, "includeArchived", True)

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
        self._calls.refuse_if(request, "usage_unavailable", "feature_unavailable")
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

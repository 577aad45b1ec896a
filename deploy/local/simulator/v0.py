"""The older version of the API, `/v0`: the state is the agent's, webhooks tell of its end."""

from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from deploy.local.simulator.agents import Agent, Run, Status
from deploy.local.simulator.artifacts import ArtifactLinks, artifacts_of
from deploy.local.simulator.calls import Calls
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.http import Gate, json_response, page_of, read_body
from deploy.local.simulator.models import DEFAULT, MODELS
from deploy.local.simulator.schemas_v0 import CreateAgent, FollowUp
from deploy.local.simulator.settings import SimulatorSettings
from deploy.local.simulator.store import AgentStore
from deploy.local.simulator.timestamps import KEY_CREATED, timestamp

Json = dict[str, object]


def agent_view(agent: Agent, run: Run) -> Json:
    """The agent with this run's state; what is not known yet is left out."""
    view: Json = {
        "id": agent.id,
        "name": agent.name,
        "status": status_word(run),
        "source": _source(agent),
        "target": _target(agent, run),
        "createdAt": timestamp(agent.created_at),
    }
    summary = run.shown_result()
    if summary is not None:
        view["summary"] = summary
    return view


def status_word(run: Run) -> str:
    """This version has no word for a cancelled run: it is one that was stopped."""
    return "STOPPED" if run.word == Status.CANCELLED else run.word


def _source(agent: Agent) -> Json:
    if not agent.request.repositories:
        return {}
    repository = agent.request.repositories[0]
    source: Json = {"repository": repository.url}
    if repository.ref is not None:
        source["ref"] = repository.ref
    if repository.pr_url is not None:
        source["prUrl"] = repository.pr_url
    return source


def _target(agent: Agent, run: Run) -> Json:
    target: Json = {
        "url": f"https://cursor.com/agents?id={agent.id}",
        "autoCreatePr": agent.request.auto_create_pr,
    }
    nothing_pushed = run.status is Status.FINISHED and not agent.shows_branch
    if agent.branch is not None and not nothing_pushed:
        target["branchName"] = agent.branch
    if agent.request.repositories:
        pr_url = agent.pr_url(agent.request.repositories[0])
        if pr_url is not None:
            target["prUrl"] = pr_url
    return target


def webhook_body(agent: Agent, run: Run, now: datetime) -> bytes:
    """What is posted when a run has ended FINISHED or ERROR."""
    target = _target(agent, run)
    del target["autoCreatePr"]
    body: Json = {
        "event": "statusChange",
        "timestamp": timestamp(now),
        "id": agent.id,
        "status": run.status.value,
        "source": _source(agent),
        "target": target,
    }
    summary = run.shown_result()
    if summary is not None:
        body["summary"] = summary
    return orjson.dumps(body)


class V0:
    """The handlers of `/v0`."""

    def __init__(
        self, store: AgentStore, calls: Calls, links: ArtifactLinks, clock: Clock, settings: SimulatorSettings
    ) -> None:
        self._store = store
        self._links = links
        self._repositories = settings.repositories
        self._calls = calls
        self._clock = clock
        self._create_seconds = settings.create_seconds
        self._blocks_follow_up = partial(clock.sleep, settings.follow_up_seconds)

    def routes(self, gate: Gate) -> list[BaseRoute]:
        agent = "/v0/agents/{id}"
        return [
            gate.route("POST", "/v0/agents", self.create_agent),
            gate.route("GET", "/v0/agents", self.list_agents),
            gate.route("GET", agent, self.get_agent),
            gate.route("DELETE", agent, self.delete_agent),
            gate.route("GET", f"{agent}/conversation", self.conversation),
            gate.route("GET", f"{agent}/artifacts", self.artifacts),
            gate.route("GET", f"{agent}/artifacts/download", self.download),
            gate.route("POST", f"{agent}/followup", self.follow_up),
            gate.route("POST", f"{agent}/stop", self.stop),
            gate.route("GET", "/v0/me", self.me),
            gate.route("GET", "/v0/models", self.models),
            gate.route("GET", "/v0/repositories", self.repositories),
        ]

    async def create_agent(self, request: Request) -> Response:
        new = (await read_body(request, CreateAgent)).new_agent()
        subject = self._store.subject(new.prompt, new.repositories)

        made: list[Agent] = []

        def create() -> Response:
            made.append(self._store.create(new, subject))
            return json_response(self._view(made[0]), 201)

        async def block() -> None:
            await self._clock.sleep(self._create_seconds)
            if made[0].early:
                await made[0].told.wait()

        return await self._calls.change(request, "create", subject, create, block)

    async def list_agents(self, request: Request) -> Response:
        agents, cursor = self._store.page(*page_of(request))
        answer: Json = {"agents": [self._view(agent) for agent in agents]}
        if cursor is not None:
            answer["nextCursor"] = cursor
        return json_response(answer)

    async def get_agent(self, request: Request) -> Response:
        return json_response(self._view(self._store.get(request.path_params["id"])))

    async def delete_agent(self, request: Request) -> Response:
        agent = self._store.get(request.path_params["id"])

        def delete() -> Response:
            self._store.delete(agent.id)
            return _id(request)

        return await self._calls.change(request, "delete", agent.latest.subject, delete)

    async def conversation(self, request: Request) -> Response:
        agent = self._store.get(request.path_params["id"])
        messages = [
            {
                "id": message.id,
                "type": "user_message" if message.by_user else "assistant_message",
                "text": message.text,
            }
            for message in agent.messages
        ]
        return json_response({"id": agent.id, "messages": messages})

    async def artifacts(self, request: Request) -> Response:
        agent = self._store.get(request.path_params["id"])
        return json_response({"artifacts": [artifact.view("v0") for artifact in artifacts_of(agent)]})

    async def download(self, request: Request) -> Response:
        return json_response(self._links.link(request, self._store.get(request.path_params["id"])))

    async def follow_up(self, request: Request) -> Response:
        body = await read_body(request, FollowUp)
        agent, prompt = self._store.get(request.path_params["id"]), body.prompt.text
        subject = self._store.subject(prompt, agent.request.repositories)

        def follow_up() -> Response:
            self._store.follow_up(agent.id, prompt, subject)
            return _id(request)

        return await self._calls.change(request, "follow_up", subject, follow_up, self._blocks_follow_up)

    async def stop(self, request: Request) -> Response:
        agent = self._store.get(request.path_params["id"])

        def stop() -> Response:
            self._store.stop(agent.id)
            return _id(request)

        return await self._calls.change(request, "stop", agent.latest.subject, stop)

    def _view(self, agent: Agent) -> Json:
        return agent_view(agent, self._store.shown(agent))

    async def me(self, request: Request) -> Response:
        return json_response(
            {"apiKeyName": "Simulator", "createdAt": KEY_CREATED, "userEmail": "developer@example.com"}
        )

    async def models(self, request: Request) -> Response:
        return json_response({"models": [DEFAULT, *(model.id for model in MODELS)]})

    async def repositories(self, _: Request) -> Response:
        return json_response({"repositories": [_repository(url) for url in self._repositories]})


def _repository(url: str) -> Json:
    owner, _, name = urlsplit(url).path.strip("/").removesuffix(".git").rpartition("/")
    return {"owner": owner, "name": name, "repository": url}


def _id(request: Request) -> Response:
    return json_response({"id": request.path_params["id"]})

"""The older version of the API, `/v0`: the state is the agent's, webhooks tell of its end."""

from datetime import datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from deploy.local.simulator.agents import Agent, Run, Status
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
        "status": _status(run.status),
        "source": _source(agent),
        "target": _target(agent, run),
        "createdAt": timestamp(agent.created_at),
    }
    if run.result is not None:
        view["summary"] = run.result
    return view


def _status(status: Status) -> str:
    """This version has no word for a cancelled run: it is one that was stopped."""
    return "STOPPED" if status is Status.CANCELLED else status.value


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
    nothing_pushed = run.status is Status.FINISHED and not agent.pushed
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
    if run.result is not None:
        body["summary"] = run.result
    return orjson.dumps(body)


class V0:
    """The handlers of `/v0`."""

    def __init__(self, store: AgentStore, clock: Clock, settings: SimulatorSettings) -> None:
        self._store = store
        self._clock = clock
        self._create_seconds = settings.create_seconds
        self._follow_up_seconds = settings.follow_up_seconds

    def routes(self, gate: Gate) -> list[BaseRoute]:
        agent = "/v0/agents/{id}"
        return [
            gate.route("POST", "/v0/agents", self.create_agent),
            gate.route("GET", "/v0/agents", self.list_agents),
            gate.route("GET", agent, self.get_agent),
            gate.route("DELETE", agent, self.delete_agent),
            gate.route("GET", f"{agent}/conversation", self.conversation),
            gate.route("POST", f"{agent}/followup", self.follow_up),
            gate.route("POST", f"{agent}/stop", self.stop),
            gate.route("GET", "/v0/me", self.me),
            gate.route("GET", "/v0/models", self.models),
        ]

    async def create_agent(self, request: Request) -> Response:
        body = await read_body(request, CreateAgent)
        answer = self._view(self._store.create(body.new_agent()))
        # The agent exists from here on, whether or not the caller waits for the answer.
        await self._clock.sleep(self._create_seconds)
        return json_response(answer, 201)

    async def list_agents(self, request: Request) -> Response:
        agents, cursor = self._store.page(*page_of(request))
        answer: Json = {"agents": [self._view(agent) for agent in agents]}
        if cursor is not None:
            answer["nextCursor"] = cursor
        return json_response(answer)

    async def get_agent(self, request: Request) -> Response:
        return json_response(self._view(self._store.get(request.path_params["id"])))

    async def delete_agent(self, request: Request) -> Response:
        self._store.delete(request.path_params["id"])
        return _id(request)

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

    async def follow_up(self, request: Request) -> Response:
        body = await read_body(request, FollowUp)
        self._store.follow_up(request.path_params["id"], body.prompt.text)
        # It has taken effect by now, whether or not the caller waits for the answer.
        await self._clock.sleep(self._follow_up_seconds)
        return _id(request)

    async def stop(self, request: Request) -> Response:
        self._store.stop(request.path_params["id"])
        return _id(request)

    def _view(self, agent: Agent) -> Json:
        return agent_view(agent, self._store.shown(agent))

    async def me(self, request: Request) -> Response:
        return json_response(
            {"apiKeyName": "Simulator", "createdAt": KEY_CREATED, "userEmail": "developer@example.com"}
        )

    async def models(self, request: Request) -> Response:
        return json_response({"models": [DEFAULT, *(model.id for model in MODELS)]})


def _id(request: Request) -> Response:
    return json_response({"id": request.path_params["id"]})

"""The simulator's own API, `/_sim`: what goes wrong, and what it saw. The real API has nothing of the kind."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self

from pydantic import model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.faults import read_switches
from deploy.local.simulator.http import json_response, read_body, read_json, validated
from deploy.local.simulator.limits import LimitValues
from deploy.local.simulator.schemas import Strict, Text

if TYPE_CHECKING:
    from deploy.local.simulator.app import Simulator


def control_routes(simulator: "Simulator") -> list[Route]:
    """Open to whoever reaches the port, and not counted among the calls."""
    control = _Control(simulator)
    return [
        _route("GET", "/_sim/stats", control.stats),
        _route("GET", "/_sim/agents", control.agents),
        _route("GET", "/_sim/faults", control.faults),
        _route("PUT", "/_sim/faults", control.replace_faults),
        _route("PATCH", "/_sim/faults", control.change_faults),
        _route("DELETE", "/_sim/faults", control.clear_faults),
        _route("POST", "/_sim/agents/{id}", control.change_agent),
        _route("GET", "/_sim/limits", control.limits),
        _route("PUT", "/_sim/limits", control.replace_limits),
        _route("PATCH", "/_sim/limits", control.change_limits),
        _route("POST", "/_sim/reset", control.reset),
    ]


def _route(method: str, path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ApiError as error:
            return json_response(error.body(), error.status)

    return Route(path, endpoint, methods=[method])


class _AgentChange(Strict):
    """What is to become of one agent: a state for its run, or none at all."""

    status: Text | None = None
    vanish: bool = False

    @model_validator(mode="after")
    def one_of_both(self) -> Self:
        if self.vanish == (self.status is not None):
            raise ValueError("either status, or vanish")
        return self


class _Control:
    """The handlers."""

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    async def stats(self, _: Request) -> Response:
        return json_response(self._simulator.stats.view())

    async def agents(self, _: Request) -> Response:
        return json_response({"agents": self._simulator.journal.view()})

    async def change_agent(self, request: Request) -> Response:
        wanted, agent_id = await read_body(request, _AgentChange), request.path_params["id"]
        if wanted.vanish:
            self._simulator.store.vanish(agent_id)
        if wanted.status is not None:
            self._simulator.store.settle(agent_id, wanted.status)
        return json_response({"id": agent_id})

    async def limits(self, _: Request) -> Response:
        return json_response(self._simulator.limits.values.model_dump())

    async def replace_limits(self, request: Request) -> Response:
        return await self._set_limits(request, self._simulator.limits.defaults)

    async def change_limits(self, request: Request) -> Response:
        return await self._set_limits(request, self._simulator.limits.values)

    async def _set_limits(self, request: Request, others: LimitValues) -> Response:
        given = await read_json(request)
        written = {**others.model_dump(), **given} if isinstance(given, dict) else given
        self._simulator.limits.values = validated(written, LimitValues)
        return await self.limits(request)

    async def faults(self, _: Request) -> Response:
        return json_response(self._simulator.board.view())

    async def replace_faults(self, request: Request) -> Response:
        self._simulator.board.replace(read_switches(await read_json(request)))
        return await self.faults(request)

    async def change_faults(self, request: Request) -> Response:
        self._simulator.board.change(read_switches(await read_json(request)))
        return await self.faults(request)

    async def clear_faults(self, request: Request) -> Response:
        self._simulator.board.replace({})
        return await self.faults(request)

    async def reset(self, _: Request) -> Response:
        self._simulator.reset()
        return json_response({"reset": True})

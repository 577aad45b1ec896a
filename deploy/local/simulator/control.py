"""The simulator's own API, `/_sim`: what goes wrong, and what it saw. The real API has nothing of the kind."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.faults import read_switches
from deploy.local.simulator.http import json_response, read_json

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
        _route("POST", "/_sim/reset", control.reset),
    ]


def _route(method: str, path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ApiError as error:
            return json_response(error.body(), error.status)

    return Route(path, endpoint, methods=[method])


class _Control:
    """The handlers."""

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    async def stats(self, _: Request) -> Response:
        return json_response(self._simulator.stats.view())

    async def agents(self, _: Request) -> Response:
        return json_response({"agents": self._simulator.journal.view()})

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

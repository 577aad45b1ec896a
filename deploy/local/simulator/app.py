"""Puts the simulator together as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.local.simulator.agents import Agent, Run
from deploy.local.simulator.clock import Clock, LoopClock
from deploy.local.simulator.http import Gate, json_response, no_such_route
from deploy.local.simulator.settings import SimulatorSettings
from deploy.local.simulator.stats import Stats
from deploy.local.simulator.store import AgentStore
from deploy.local.simulator.streams import RunStreams
from deploy.local.simulator.v0 import V0, webhook_body
from deploy.local.simulator.v1 import V1
from deploy.local.simulator.webhooks import WebhookSender


class Simulator:
    """The parts of one simulated provider. Nothing is opened before the first request."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.stats = Stats()
        self.webhooks = WebhookSender(clock, self.stats, settings.webhook_backoff_seconds)
        self.store = AgentStore(settings, clock, self.stats, self._report)
        self.streams = RunStreams(clock, settings.heartbeat_seconds)

    def _report(self, agent: Agent, run: Run) -> None:
        webhook = agent.request.webhook
        if webhook is not None:
            self.webhooks.send(webhook, webhook_body(agent, run, self.clock.now()))

    def reset(self) -> None:
        """Forget all agents, drop all webhooks under way, and count from zero again."""
        self.store.clear()
        self.webhooks.clear()
        self.stats.clear()

    async def aclose(self) -> None:
        self.streams.close()
        await self.webhooks.aclose()


def create_app(settings: SimulatorSettings | None = None, clock: Clock | None = None) -> Starlette:
    """The simulator as an application; `app.state.simulator` is the `Simulator` behind it.

    Settings come from the environment and time from the event loop when they are not given.
    """
    simulator = Simulator(settings or SimulatorSettings(), clock or LoopClock())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await simulator.aclose()

    gate = Gate(simulator.settings, simulator.stats)
    v0 = V0(simulator.store, simulator.clock, simulator.settings)
    v1 = V1(simulator.store, simulator.streams, simulator.clock, simulator.settings)
    app = Starlette(
        routes=[*v1.routes(gate), *v0.routes(gate), *_control_routes(simulator)],
        exception_handlers={404: no_such_route, 405: no_such_route},
        lifespan=lifespan,
    )
    app.state.simulator = simulator
    return app


def _control_routes(simulator: Simulator) -> list[Route]:
    """What the real API does not have; open to whoever reaches the port, and not counted among the calls."""

    async def stats(_: Request) -> Response:
        return json_response(simulator.stats.view())

    async def reset(_: Request) -> Response:
        simulator.reset()
        return json_response({"reset": True})

    return [Route("/_sim/stats", stats), Route("/_sim/reset", reset, methods=["POST"])]

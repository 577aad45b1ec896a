"""Puts the simulator together as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from deploy.local.simulator.artifacts import ArtifactLinks
from deploy.local.simulator.board import Board
from deploy.local.simulator.calls import Calls
from deploy.local.simulator.clock import Clock, LoopClock
from deploy.local.simulator.connection import Droppable
from deploy.local.simulator.control import control_routes
from deploy.local.simulator.http import Gate, no_such_route
from deploy.local.simulator.journal import Journal
from deploy.local.simulator.limits import Limits
from deploy.local.simulator.reports import Reports
from deploy.local.simulator.settings import SimulatorSettings
from deploy.local.simulator.stats import Stats
from deploy.local.simulator.store import AgentStore
from deploy.local.simulator.streams import RunStreams
from deploy.local.simulator.v0 import V0
from deploy.local.simulator.v1 import V1
from deploy.local.simulator.webhooks import WebhookSender


class Simulator:
    """The parts of one simulated provider. Nothing is opened before the first request."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.stats = Stats()
        self.journal = Journal()
        self.board = Board(settings.seed, self.stats)
        self.board.replace(settings.switches())
        self.calls = Calls(self.board, clock)
        self.limits = Limits(settings, clock)
        self.webhooks = WebhookSender(clock, self.stats, settings.webhook_backoff_seconds)
        self.reports = Reports(self.webhooks, self.board, clock, self.stats)
        self.store = AgentStore(settings, clock, self.stats, self.board, self.journal, self.limits, self.reports.turned)
        self.streams = RunStreams(clock, self.board, settings)
        self.links = ArtifactLinks(self.store, clock, settings.seed)

    def reset(self) -> None:
        """Forget all agents, drop all webhooks under way, and count from zero again; the faults stay on."""
        self.store.clear()
        self.reports.clear()
        self.webhooks.clear()
        self.limits.clear()
        self.journal.clear()
        self.stats.clear()
        self.board.clear_counts()

    async def aclose(self) -> None:
        self.streams.close()
        await self.webhooks.aclose()


def create_app(settings: SimulatorSettings | None = None, clock: Clock | None = None) -> Starlette:
    """The simulator as an application; `app.state.simulator` is the `Simulator` behind it.

    Settings come from the environment and time from the event loop when they are not given.
    """
    settings = settings or SimulatorSettings()
    simulator = Simulator(settings, clock or LoopClock(settings.speed))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await simulator.aclose()

    store, calls, links = simulator.store, simulator.calls, simulator.links
    gate = Gate(settings, simulator.stats, calls, simulator.limits, store.subject_of)
    v0 = V0(store, calls, links, simulator.clock, settings)
    v1 = V1(store, calls, simulator.streams, links, simulator.clock, settings)
    app = Droppable(
        routes=[*v1.routes(gate), *v0.routes(gate), links.route(), *control_routes(simulator)],
        exception_handlers={404: no_such_route, 405: no_such_route},
        lifespan=lifespan,
    )
    # The live router has no path with a slash at its end, and sends nobody elsewhere.
    app.router.redirect_slashes = False
    app.state.simulator = simulator
    return app

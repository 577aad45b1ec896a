"""Serves the simulator until SIGTERM or Ctrl-C."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from pydantic import ValidationError

from deploy.local.simulator.app import Simulator, create_app
from deploy.local.simulator.settings import SimulatorSettings

_GRACE_SECONDS = 2
# Longer than clients keep connections that are idle: else a request now and then meets one that is being closed.
_KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """Says when it is ready, and takes SIGTERM as the regular end: exit code 0."""

    def __init__(self, config: uvicorn.Config, simulator: Simulator, port: int) -> None:
        super().__init__(config)
        self._simulator = simulator
        self._port = port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"simulator ready http://{self._simulator.settings.host}:{self._port}", flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.should_exit = True
        self._simulator.streams.close()


def serve(**given: Any) -> int:
    """Settings that are not given come from the environment.

    Exit code 0 after a signal, 2 when the settings are wrong or the port is taken.
    """
    try:
        settings = SimulatorSettings(**given)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            print(f"SIMULATOR_{problem['loc'][0]!s}".upper() + f": {problem['msg']}", file=sys.stderr)
        return 2
    for name in SimulatorSettings.unknown(os.environ):
        print(f"{name}: no such setting, ignored", file=sys.stderr)
    try:
        listener = socket.create_server((settings.host, settings.port), backlog=2048)
    except OSError as error:
        print(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 2
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    _Server(config, app.state.simulator, listener.getsockname()[1]).run(sockets=[listener])
    return 0

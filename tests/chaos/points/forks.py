"""Services that start at once: forked from one process that has imported them all."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest.mock import patch

from deploy.local.simulator.serve import serve as simulator
from services.api.app import build as api
from services.api.settings import ApiSettings
from services.dispatcher.app import main as dispatcher
from services.monitor import sweep
from services.monitor.app import main as monitor
from services.notifier.app import build as notifier
from services.notifier.settings import NotifierSettings
from shared.process import run

# A try whose process died counts, and nobody is to wait minutes for the one after it.
_SCHEDULE = [timedelta(seconds=1)] * 9


def _monitor() -> None:
    # Of an agent that is nobody's nobody is to wait for the second look.
    with patch.multiple(sweep, _APART_SECONDS=0.2, _LOOK_PAUSE_SECONDS=0.2):
        monitor()


_MAINS: dict[str, Callable[[], object]] = {
    "simulator": simulator,
    "api": lambda: run("api", ApiSettings, api),
    "dispatcher": dispatcher,
    "monitor": _monitor,
    "notifier": lambda: run("notifier", NotifierSettings, partial(notifier, schedule=_SCHEDULE)),
}

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload([__name__])


class Fork:
    """One process of a service, `name`, with exactly this environment; what it says is appended to `log`."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._process = _forking.Process(target=_become, args=(name, dict(environment), str(log)))
        self._process.start()
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._process.sentinel, self._on_end)

    @property
    def is_alive(self) -> bool:
        return not self._ended.is_set()

    async def ended(self) -> int:
        """Its exit code, once it has ended; minus the signal that ended it."""
        await self._ended.wait()
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        return code

    async def kill(self) -> None:
        """Kill it, unless it has ended."""
        self._process.kill()
        await self.ended()

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._ended.set()


def _become(name: str, environment: Mapping[str, str], log: str) -> None:
    """In the child: be the service."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    _MAINS[name]()


def _die_with_parent() -> None:
    """However the sweep ends: not to be left behind, for each that is left keeps the forking process, too."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)

"""Keeps processes running: starts them in groups, restarts what dies, stops them in reverse order."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.local.child import Child, ChildFailedError, ProcessSpec

_GLANCE_SECONDS = 0.05  # how often a child is looked at; asking costs one system call


@dataclass(frozen=True)
class BackOff:
    """How long to wait before a process that died is started again, in seconds."""

    first: float = 0.2
    longest: float = 5.0
    forgiven_after: float = 30.0
    """One that lived this long starts over with the first wait."""

    def next(self, previous: float | None, lived: float) -> float:
        """The wait after a life of `lived` seconds that followed a wait of `previous` (None: the first)."""
        if previous is None or lived >= self.forgiven_after:
            return self.first
        return min(previous * 2, self.longest)


class _Watched:
    """One supervised process with what is told about it."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.restarts = 0
        self.started_at = datetime.now(UTC)
        self.watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.child.start()
        self.started_at = datetime.now(UTC)

    def entry(self) -> dict[str, Any]:
        spec = self.child.spec
        return {
            "pid": self.child.pid,
            "port": spec.port,
            "health_url": spec.health_url,
            "log": str(spec.log),
            "restarts": self.restarts,
            "started_at": self.started_at.isoformat(),
        }


class Supervisor:
    """Runs processes until `stop`. Every change is written to `record`, a JSON file, replaced in one step:

    `{"pid": <ours>, "processes": {<name>: {"pid", "port", "health_url", "log", "restarts", "started_at"}}}`.
    It holds no secrets. `say` takes sentences for people. `keep_open` are file descriptors the children
    inherit.
    """

    def __init__(
        self,
        record: Path,
        *,
        say: Callable[[str], None],
        back_off: BackOff | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._record_file = record
        self._say = say
        self._back_off = back_off or BackOff()
        self._keep_open = keep_open
        self._groups: list[list[_Watched]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Supervisor"]:
        """Stops everything in the end, come what may."""
        try:
            yield self
        finally:
            await asyncio.shield(asyncio.ensure_future(self.stop()))

    async def start(self, *specs: ProcessSpec, ready_seconds: float) -> None:
        """Starts a group, waits until all of it is ready, and keeps it running from then on.

        Raises ChildFailedError, with the end of the log, when one ends or is not ready in time: what does not
        work the first time is not tried again.
        """
        group = [_Watched(Child(spec, keep_open=self._keep_open)) for spec in specs]
        self._groups.append(group)
        for watched in group:
            watched.start()
        self._record()
        await _together(_ready(watched.child, ready_seconds) for watched in group)
        for watched in group:
            watched.watch = asyncio.create_task(self._keep(watched), name=f"keep {watched.child.spec.name}")

    async def run_once(self, *specs: ProcessSpec, timeout: float) -> None:
        """Runs programs side by side to their end. Raises ChildFailedError unless each exits 0 in time."""
        children = [Child(spec, keep_open=self._keep_open) for spec in specs]
        try:
            for child in children:
                child.start()
            await _together(_finished(child, timeout) for child in children)
        finally:
            for child in children:
                child.kill()

    async def stop(self) -> None:
        """Stops the groups, the last started first; the members of one together."""
        for group in reversed(self._groups):
            watches = [watched.watch for watched in group if watched.watch is not None]
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await asyncio.gather(*(_stopped(watched.child) for watched in group))
        self._groups.clear()
        self._record()

    async def _keep(self, watched: _Watched) -> None:
        child, name = watched.child, watched.child.spec.name
        wait: float | None = None
        while True:
            born = time.monotonic()
            await _ended(child)
            wait = self._back_off.next(wait, time.monotonic() - born)
            self._say(f"{name} ended (exit code {child.exit_code}), starting it again in {wait:g} s")
            await asyncio.sleep(wait)
            try:
                watched.start()
                watched.restarts += 1
                self._record()
            except OSError as error:
                # A full disk passes; a process that nobody looks after any more would stay away for good.
                self._say(f"{name} could not be started again: {error}")
                continue
            if await _ready_or_ended(child):
                self._say(f"{name} is ready again")

    def _record(self) -> None:
        entries = {w.child.spec.name: w.entry() for group in self._groups for w in group}
        building = self._record_file.with_name(f"{self._record_file.name}.new")
        building.write_text(json.dumps({"pid": os.getpid(), "processes": entries}, indent=2) + "\n")
        building.replace(self._record_file)


async def _together(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs the steps side by side; the first that fails cancels the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _ended(child: Child) -> None:
    while child.alive:  # noqa: ASYNC110 - no event tells of a child's end on every system that we run on
        await asyncio.sleep(_GLANCE_SECONDS)


async def _is_ready(child: Child) -> bool:
    # A probe may block for a second, and the loop has other children to look after.
    return await asyncio.to_thread(child.is_ready)


async def _ready(child: Child, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await _is_ready(child):
        if not child.alive:
            raise ChildFailedError(child.why("ended while starting"), child.exit_code)
        if time.monotonic() > deadline:
            raise ChildFailedError(child.why(f"was not ready after {seconds:g} s"))
        await asyncio.sleep(_GLANCE_SECONDS)


async def _ready_or_ended(child: Child) -> bool:
    while child.alive:
        if await _is_ready(child):
            return True
        await asyncio.sleep(_GLANCE_SECONDS)
    return False


async def _finished(child: Child, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await _ended(child)
    except TimeoutError as exc:
        raise ChildFailedError(child.why(f"took longer than {seconds:g} s")) from exc
    if child.exit_code != 0:
        raise ChildFailedError(child.why("failed"), child.exit_code)


async def _stopped(child: Child) -> None:
    """Like Child.stop, without blocking the loop."""
    child.signal(child.spec.stop_signal)
    deadline = time.monotonic() + child.spec.stop_seconds
    while child.alive and time.monotonic() < deadline:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)
    child.kill()

"""The projector: follows the log and writes the read side; one leads, the others stand by.

Alone: `python -m services.api.projector`.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from pydantic import SecretStr

from services.api.archive import UnreadableArchiveError
from services.api.guard import JetStreamProbe, LogMismatchError, LogProbe
from services.api.projections import BrokenHistoryError
from services.api.read_side import FencedError
from services.api.source import JetStreamSource, Source
from services.api.term import Term
from shared.ending import end
from shared.jetstream.errors import UnreadableCommitError
from shared.jetstream.topology import EVENTS
from shared.observability.health import Check
from shared.ports import LogUnavailableError
from shared.postgres.pool import session
from shared.process import Runtime, run
from shared.settings import ServiceSettings

_log = logging.getLogger(__name__)

LEADER_LOCK: Final = 0x70726F6A  # any number that no other advisory lock of the product has

_MAX_BACKOFF_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 10.0

# Nothing is lost by any of these, and time alone may mend them.
_PASSING: Final = (psycopg.Error, FencedError, LogUnavailableError, OSError)
# These need a person: to go on would leave something out.
_STANDING: Final = (LogMismatchError, BrokenHistoryError, UnreadableCommitError, UnreadableArchiveError)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are looked at, in seconds."""

    check: float = 5.0
    """Whether this process still leads, and whether the log is still the one that was read; also the age of `lag`."""
    standby: float = 0.5
    """Whether the leader is gone."""
    halted: float = 15.0
    """Whether what needs a person has been mended."""


class Projector:
    """Keeps the read side up to date for as long as it runs; safe to be killed anywhere, and to run many times.

    Args:
        dsn: of the database; a connection of its own is used, for its session's lock says who leads.
        log, probe: the log to follow, with its bytes, and what is asked about it.
        on_advance: told each new checkpoint once it is committed.
    """

    def __init__(
        self,
        dsn: str,
        log: Source,
        probe: LogProbe,
        *,
        on_advance: Callable[[int], None] | None = None,
        stream: str = EVENTS,
        pace: Pace | None = None,
    ) -> None:
        self._dsn = dsn
        self._log = log
        self._probe = probe
        self._on_advance = on_advance
        self._stream = stream
        self._pace = pace or Pace()
        self._term: Term | None = None
        self._standing_by = False
        self._problem: str | None = "not started"
        self._failures = 0

    @property
    def ready(self) -> bool:
        """Whether it leads or stands by, and nothing is wrong."""
        return self._problem is None and (self._term is not None or self._standing_by)

    @property
    def problem(self) -> str | None:
        """What is wrong, for people; None when nothing is."""
        return self._problem

    @property
    def leading(self) -> bool:
        return self._term is not None

    @property
    def lag(self) -> int | None:
        """Commits of the log that are not shown yet, as of the last look; None while another process leads."""
        return self._term.lag if self._term else None

    async def check(self) -> Check:
        """For readiness, which is open to everybody: the kind of problem alone. The log says what it is about."""
        return Check(self.ready, (self._problem or "").partition(":")[0])

    async def run(self, stop: asyncio.Event) -> None:
        """Project until `stop` is set; what is in hand is finished first. Cancelling is safe at any time."""
        while not stop.is_set():
            try:
                await self._session(stop)
            except _STANDING as exc:
                self._say(exc)
                await _pause(stop, self._pace.halted)
            except _PASSING as exc:
                self._say(exc)
                await _pause(stop, self._backoff())

    async def _session(self, stop: asyncio.Event) -> None:
        """One connection to the database, for as long as it lasts."""
        async with session(self._dsn, name="projector", autocommit=True) as connection:
            if await self._elected(connection, stop):
                await self._lead(connection, stop)

    async def _elected(self, connection: AsyncConnection[Any], stop: asyncio.Event) -> bool:
        """Wait until this session has the lock. The lock ends with the session, and so does leadership."""
        try:
            while not stop.is_set():
                row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,))).fetchone()
                if row is not None and row[0]:
                    return True
                if not self._standing_by:
                    _log.info("Another process leads the projection, standing by")
                self._standing_by, self._problem = True, None
                await _pause(stop, self._pace.standby * random.uniform(0.5, 1.5))
            return False
        finally:
            self._standing_by = False

    async def _lead(self, connection: AsyncConnection[Any], stop: asyncio.Event) -> None:
        term = Term(connection, self._log, self._probe, self._stream, self._advanced)
        await term.open()
        start = term.checkpoint.sequence
        _log.info("Leading the projection, from %d", start)
        self._term = term
        if term.lag == 0:
            self._problem = None
        if self._on_advance:
            self._on_advance(start)
        try:
            await term.project(stop, check_every=self._pace.check)
        finally:
            self._term = None

    def _advanced(self, sequence: int) -> None:
        """What went wrong counts as mended only now: the next batch may be what it was about."""
        self._failures, self._problem = 0, None
        if self._on_advance:
            self._on_advance(sequence)

    def _backoff(self) -> float:
        self._failures += 1
        limit = min(0.1 * 2 ** min(self._failures, 10), _MAX_BACKOFF_SECONDS)
        return random.uniform(limit / 2, limit)

    def _say(self, exc: Exception) -> None:
        problem = _text(exc)
        if isinstance(exc, _STANDING):
            _log.error("The projection stopped: %s", problem)
        else:
            _log.warning("The projection is interrupted, trying again: %s", problem)
        self._problem = problem


def _text(exc: Exception) -> str:
    """For people, and without the database's details, which hold whole rows."""
    if isinstance(exc, psycopg.Error) and exc.diag.message_primary:
        return f"{type(exc).__name__}: {exc.diag.message_primary}"
    return f"{type(exc).__name__}: {exc}"


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


@asynccontextmanager
async def running(projector: Projector) -> AsyncIterator[asyncio.Task[None]]:
    """The projector at work; gives its task, to be supervised. At the end it finishes what it has in hand."""
    stop = asyncio.Event()
    task = asyncio.create_task(projector.run(stop), name="projector")
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait({task}, timeout=_STOP_SECONDS)
        await end(task)


class ProjectorSettings(ServiceSettings):
    """For the projector as a process of its own."""

    database_url: SecretStr


@asynccontextmanager
async def build(settings: ProjectorSettings, runtime: Runtime) -> AsyncIterator[None]:
    """The projector's process."""
    dsn = settings.database_url.get_secret_value()
    projector = Projector(dsn, JetStreamSource(runtime.nc), JetStreamProbe(runtime.nc))
    runtime.readiness.checks["projection"] = projector.check
    async with running(projector) as task:
        with runtime.supervising(task):
            yield


def main() -> None:
    """Run the projector alone."""
    run("projector", ProjectorSettings, build)


if __name__ == "__main__":
    main()

"""What one orchestration looks like now: from the rows, or from the log where the rows are behind."""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from services.api.checkpoint import CheckpointWatcher
from services.api.projections import apply
from services.api.queries import Queries
from shared.domain.state import Orchestration
from shared.ports import EventLog
from shared.views import View, orchestration_view, statistics, task_views

_log = logging.getLogger(__name__)

_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Shown:
    """An orchestration with its tasks, as of the sequence of a commit."""

    sequence: int
    orchestration: View
    tasks: list[View]

    def detail(self, now: datetime) -> View:
        return {
            "orchestration": self.orchestration,
            "tasks": self.tasks,
            "statistics": statistics(self.orchestration, self.tasks, now),
        }


def shown(state: Orchestration, sequence: int) -> Shown:
    return Shown(sequence, orchestration_view(state), task_views(state))


class Newest:
    """The newest commit of each orchestration that changed of late, as heard from the log."""

    def __init__(self) -> None:
        self._sequences: OrderedDict[tuple[str, str], int] = OrderedDict()

    def note(self, team: str, orchestration_id: str, sequence: int) -> None:
        key = (team, orchestration_id)
        self._sequences[key] = max(sequence, self._sequences.pop(key, 0))
        if len(self._sequences) > _REMEMBERED:
            self._sequences.popitem(last=False)

    def of(self, team: str, orchestration_id: str) -> int:
        """Its sequence, 0 when it has not changed of late."""
        return self._sequences.get((team, orchestration_id), 0)


class OrchestrationReader:
    """Reads one orchestration so that every write that was answered is seen, whoever answered it.

    Args:
        newest: what this process knows of the log. Rows that are older than that are not shown.
        visible_seconds: how long a write waits for its rows.
    """

    def __init__(
        self,
        queries: Queries,
        log: EventLog,
        checkpoint: CheckpointWatcher,
        newest: Newest,
        *,
        visible_seconds: float,
    ) -> None:
        self._queries = queries
        self._log = log
        self._checkpoint = checkpoint
        self._newest = newest
        self._visible_seconds = visible_seconds

    async def find(self, team: str, orchestration_id: str) -> Shown | None:
        """The orchestration, None if the team has none of this id.

        Raises:
            LogUnavailableError: the rows are behind or away, and so is the log.
        """
        try:
            found = await self._queries.orchestration(team, orchestration_id)
        except psycopg.OperationalError as exc:
            _log.warning("Reading from the log, for the database is away: %s", type(exc).__name__)
            return await self.fold(team, orchestration_id)
        if (found.sequence if found else 0) < self._newest.of(team, orchestration_id):
            return await self.fold(team, orchestration_id)
        return Shown(found.sequence, found.orchestration, found.tasks) if found else None

    async def exists(self, team: str, orchestration_id: str) -> Shown | None:
        """Like `find`, but does not take the rows' word for it that there is none."""
        return await self.find(team, orchestration_id) or await self.fold(team, orchestration_id)

    async def fold(self, team: str, orchestration_id: str) -> Shown | None:
        """The orchestration as the log has it now."""
        state: Orchestration | None = None
        sequence = 0
        for stored in await self._log.read(team, orchestration_id):
            state = apply(state, stored)
            sequence = stored.sequence
        return shown(state, sequence) if state else None

    async def wait_visible(self, team: str, orchestration_id: str, sequence: int) -> None:
        """Return once everybody's reads show the commit `sequence`, or after the time for it.

        Late rows are no reason to fail: reads through this class fall back on the log.
        """
        self._newest.note(team, orchestration_id, sequence)
        if not await self._checkpoint.wait_for(sequence, self._visible_seconds):
            _log.warning("The rows are behind the log", extra={"sequence": sequence})

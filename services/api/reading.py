"""What one orchestration looks like now: from the rows, or from the log where the rows are behind."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import psycopg

from services.api.agent_view import agent_in, agent_view, is_real
from services.api.checkpoint import CheckpointWatcher
from services.api.errors import unavailable
from services.api.newest import Newest, read_up_to
from services.api.projections import apply
from services.api.queries import AgentRow, Queries
from services.api.storable import storable
from shared.domain.state import Orchestration
from shared.ports import EventLog
from shared.views import View, orchestration_view, statistics, task_view, task_views

_log = logging.getLogger(__name__)


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
    return Shown(sequence, storable(orchestration_view(state)), storable(task_views(state)))


@dataclass(frozen=True, slots=True)
class ShownTask:
    """A task, as of the sequence of a commit of its orchestration."""

    sequence: int
    orchestration_id: str
    task: View


@dataclass(frozen=True, slots=True)
class ShownAgent:
    """An agent as its newest attempt has it, as of the sequence of a commit of its orchestration."""

    sequence: int
    orchestration_id: str
    task_id: str
    attempt_id: str
    agent: View


class _Row(Protocol):
    """A row that belongs to an orchestration, as of the sequence of that one's last commit."""

    @property
    def sequence(self) -> int: ...

    @property
    def orchestration_id(self) -> str: ...


_RowT = TypeVar("_RowT", bound=_Row)


class OrchestrationReader:
    """Reads one orchestration so that every write that was answered is seen, whoever answered it.

    Args:
        newest: what this process knows of the log. Rows that may be older than that are not shown.
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
        shown_to = self._checkpoint.current  # before the question: what comes after it is not in the answer
        try:
            found = await self._queries.orchestration(team, orchestration_id)
        except psycopg.OperationalError as exc:
            _log.warning("Reading from the log, for the database is away: %s", type(exc).__name__)
            return await self.fold(team, orchestration_id)
        if self._may_be_old(team, orchestration_id, found.sequence if found else 0, shown_to):
            return await self.fold(team, orchestration_id)
        return Shown(found.sequence, found.orchestration, found.tasks) if found else None

    async def exists(self, team: str, orchestration_id: str) -> Shown | None:
        """Like `find`, but does not take the rows' word for it that there is none."""
        return await self.find(team, orchestration_id) or await self.fold(team, orchestration_id)

    async def fold(self, team: str, orchestration_id: str, *, until: int | None = None) -> Shown | None:
        """The orchestration as the log has it now; with `until`, as the commit of that sequence left it."""
        state, sequence = await self._state(team, orchestration_id, until=until)
        return shown(state, sequence) if state else None

    async def find_task(self, team: str, task_id: str) -> ShownTask | None:
        """The task, None if the team has none of this id.

        Raises:
            LogUnavailableError: the row is behind or away, and so is the log.
            ApiError: 503, the row may be still to come.
            psycopg.OperationalError: the database is away, and the task is not a new one.
        """
        found, owner = await self._look_up(self._queries.task, team, task_id)
        if found is not None:
            return ShownTask(found.sequence, found.orchestration_id, found.task)
        return await self._fold_task(team, owner, task_id) if owner else None

    async def find_agent(self, team: str, agent_id: str) -> ShownAgent | None:
        """The agent with the attempt that it works or worked for, None if the team has none of this id.

        Raises as `find_task` does.
        """
        found, owner = await self._look_up(self._queries.team_agent, team, agent_id)
        if found is not None:
            return _shown_agent(found)
        return await self._fold_agent(team, owner, agent_id) if owner else None

    async def _look_up(
        self, query: Callable[[str, str], Awaitable[_RowT | None]], team: str, part: str
    ) -> tuple[_RowT | None, str | None]:
        """The row of a task or agent if it is as new as what this process has heard, else its orchestration.

        Neither if there is no such thing.
        """
        owner = self._newest.owner(team, part)
        shown_to = self._checkpoint.current
        try:
            row = await query(team, part)
            if row is None and owner is None and await self._was_behind(team, part, shown_to):
                row, owner = await query(team, part), self._newest.owner(team, part)
        except psycopg.OperationalError:
            if owner is None:
                raise
            return None, owner
        if row is None:
            return None, owner
        is_old = self._may_be_old(team, row.orchestration_id, row.sequence, shown_to)
        return (None if is_old else row), row.orchestration_id

    def _may_be_old(self, team: str, orchestration_id: str, sequence: int, shown_to: int) -> bool:
        """Whether the rows of the orchestration may lack a commit that somebody was told of.

        `sequence`: of the last commit in them; `shown_to`: up to where rows were known to show everything.
        """
        if sequence < self._newest.of(team, orchestration_id):
            return True
        return max(sequence, shown_to) < self._newest.floor

    async def wait_current(self, team: str) -> None:
        """Return once the rows show all that this process has heard of the team, or after the time for it."""
        newest = self._newest.of_team(team)
        if newest > self._checkpoint.current and not await self._checkpoint.wait_for(newest, self._visible_seconds):
            _log.warning("The rows are behind the log", extra={"sequence": newest})

    async def _fold_task(self, team: str, orchestration_id: str, task_id: str) -> ShownTask | None:
        state, sequence = await self._state(team, orchestration_id)
        task = state.tasks.get(task_id) if state else None
        return ShownTask(sequence, orchestration_id, storable(task_view(state, task))) if state and task else None

    async def _fold_agent(self, team: str, orchestration_id: str, agent_id: str) -> ShownAgent | None:
        state, sequence = await self._state(team, orchestration_id)
        return _shown_agent(agent_in(state, agent_id, sequence) if state else None)

    async def _was_behind(self, team: str, part: str, shown_to: int) -> bool:
        """Whether the rows, which showed everything up to `shown_to`, were behind what the team may have; if so, they
        no longer are, or the part has been heard of meanwhile.

        Raises:
            ApiError: 503, neither is so after the time for it: what the rows lack may be there.
        """
        newest = self._newest.of_team(team)
        if newest <= shown_to:
            return False
        is_shown = await self._checkpoint.wait_for(newest, self._visible_seconds)
        if not is_shown and self._newest.owner(team, part) is None:
            raise unavailable("the rows are behind the log, so it is not known whether this exists")
        return True

    async def _state(
        self, team: str, orchestration_id: str, *, until: int | None = None
    ) -> tuple[Orchestration | None, int]:
        """The state that the log has now, None if it has none or was deleted, and the sequence of its last commit."""
        newest = self._newest.of(team, orchestration_id)
        heard = newest if until is None else min(until, newest)
        state: Orchestration | None = None
        sequence = 0
        for stored in await read_up_to(heard, lambda: self._log.read(team, orchestration_id)):
            if until is not None and stored.sequence > until:
                break
            state = apply(state, stored)
            sequence = stored.sequence
        return (None, sequence) if state is None or state.deleted else (state, sequence)

    async def wait_visible(self, team: str, orchestration_id: str, sequence: int) -> None:
        """Return once everybody's reads show the commit `sequence`, or after the time for it.

        Late rows are no reason to fail: reads through this class fall back on the log.
        """
        self._newest.note(team, orchestration_id, sequence)
        if not await self._checkpoint.wait_for(sequence, self._visible_seconds):
            _log.warning("The rows are behind the log", extra={"sequence": sequence})


def _shown_agent(found: AgentRow | None) -> ShownAgent | None:
    if found is None or not is_real(found):
        return None
    return ShownAgent(found.sequence, found.orchestration_id, found.task_id, found.attempt_id, agent_view(found))

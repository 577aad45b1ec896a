"""What the API reads: plain SQL over the rows of the read side."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.postgres.pool import Pool, transact
from shared.views import View

_ORCHESTRATION: Final = """
SELECT o.seq, o.view::text,
       (SELECT coalesce(json_agg(t.view ORDER BY t.position), '[]')::text
        FROM tasks AS t WHERE t.team_id = o.team_id AND t.orchestration_id = o.id)
FROM orchestrations AS o WHERE o.team_id = %s AND o.id = %s"""
_TASKS: Final = "SELECT view::text FROM tasks WHERE team_id = %s AND orchestration_id = %s ORDER BY position"
# With the sequence of the orchestration, not the row's own: it tells whether the row is as new as the orchestration.
_TASK: Final = """
SELECT o.seq, o.id, t.view::text FROM tasks AS t
JOIN orchestrations AS o ON o.team_id = t.team_id AND o.id = t.orchestration_id
WHERE t.team_id = %s AND t.id = %s"""
_AGENT: Final = """
SELECT team_id AS team, agent_id, attempt_id, task_id, orchestration_id, number, status, provider_status, api_version,
       run_id, url, model, branch, started_at, ended_at, seq AS sequence
FROM agents WHERE agent_id = %s ORDER BY seq DESC LIMIT 1"""
_TEAM_AGENT: Final = """
SELECT a.team_id AS team, a.agent_id, a.attempt_id, a.task_id, a.orchestration_id, a.number, a.status,
       a.provider_status, a.api_version, a.run_id, a.url, a.model, a.branch, a.started_at, a.ended_at,
       o.seq AS sequence, bool_or(a.provider_status IS NOT NULL) OVER () AS is_known
FROM agents AS a JOIN orchestrations AS o ON o.team_id = a.team_id AND o.id = a.orchestration_id
WHERE a.agent_id = %s AND a.team_id = %s
ORDER BY a.ended_at IS NULL DESC, a.provider_status IS NOT NULL DESC, a.number DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Found:
    """An orchestration with its tasks in order, as of the sequence of the last commit that changed it."""

    sequence: int
    orchestration: View
    tasks: list[View]


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task, as of the sequence of the last commit that changed its orchestration."""

    sequence: int
    orchestration_id: str
    task: View


@dataclass(frozen=True, slots=True)
class Page:
    """Some items of a list. `next_cursor` gets the ones behind them, None on the last page."""

    items: list[View]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One attempt's agent."""

    team: str
    agent_id: str
    attempt_id: str
    task_id: str
    orchestration_id: str
    number: int
    status: str | None
    provider_status: str | None
    api_version: str | None
    run_id: str | None
    url: str | None
    model: str | None
    branch: str | None
    started_at: datetime | None
    ended_at: datetime | None
    sequence: int
    is_known: bool = True
    """Whether the provider is known to have had this agent, for this attempt or an earlier one."""


class Queries:
    """Reads on a pool of connections. Every call may raise psycopg.OperationalError: the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def orchestration(self, team: str, orchestration_id: str) -> Found | None:
        """The orchestration and its tasks, None if the team has none of this id."""
        rows = await self._rows(_ORCHESTRATION, (team, orchestration_id))
        if not rows:
            return None
        sequence, view, tasks = rows[0]
        return Found(sequence, orjson.loads(view), orjson.loads(tasks))

    async def tasks(self, team: str, orchestration_id: str) -> list[View]:
        """The tasks of an orchestration in order; empty also if the team has none of this id."""
        return [orjson.loads(view) for (view,) in await self._rows(_TASKS, (team, orchestration_id))]

    async def task(self, team: str, task_id: str) -> FoundTask | None:
        """The task, None if the team has none of this id."""
        rows = await self._rows(_TASK, (team, task_id))
        if not rows:
            return None
        sequence, orchestration_id, view = rows[0]
        return FoundTask(sequence, orchestration_id, orjson.loads(view))

    async def find_agent(self, agent_id: str) -> AgentRow | None:
        """The agent of this id, whatever its team; the newest attempt, should several have had it."""
        return await self._agent(_AGENT, (agent_id,))

    async def team_agent(self, team: str, agent_id: str) -> AgentRow | None:
        """The team's agent of this id as the attempt has it that it works for or, at rest, worked for last.

        `sequence` is that of the orchestration.
        """
        return await self._agent(_TEAM_AGENT, (agent_id, team))

    async def ping(self) -> None:
        """Whether the database answers; raises psycopg.OperationalError when it does not."""
        await self._rows("SELECT 1", ())

    async def _agent(self, statement: str, values: tuple[object, ...]) -> AgentRow | None:
        async def work(connection: AsyncConnection[Any]) -> AgentRow | None:
            async with connection.cursor(row_factory=class_row(AgentRow)) as cursor:
                await cursor.execute(statement, values)
                return await cursor.fetchone()

        return await transact(self._pool, work)

    async def _rows(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        async def work(connection: AsyncConnection[Any]) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall()

        return await transact(self._pool, work)

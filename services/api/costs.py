"""What attempts cost: sums over all that have ended, those included that failed or whose orchestration is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from psycopg import AsyncConnection

from services.api.cursors import pack, text, unpack
from services.api.problems import InvalidRequestError, problem
from shared.postgres.pool import Pool, transact

GroupBy = Literal["team", "month", "repository", "orchestration", "model"]

AUTO: Final = "auto"
"""Stands for the attempts whose model the provider chose."""

_COLUMNS: Final[dict[GroupBy, str]] = {
    "team": "team_id",
    "month": "date_trunc('month', ended_at AT TIME ZONE 'UTC')",
    "repository": "repository",
    "orchestration": "orchestration_id",
    "model": "model",
}
_KEYS: Final[dict[GroupBy, str]] = {
    "team": "part",
    "month": "to_char(part, 'YYYY-MM')",
    "repository": "part",
    "orchestration": "part",
    "model": f"coalesce(part, '{AUTO}')",
}
_SUMS: Final = """
    coalesce(sum(cost), 0) AS cost, count(*) AS attempts, count(*) FILTER (WHERE failed) AS failed,
    coalesce(sum(duration_ms), 0)::bigint AS duration"""
_IN_TIME: Final = """
FROM attempt_costs WHERE team_id = %(team)s
AND ended_at >= coalesce(%(since)s::timestamptz, '-infinity')
AND ended_at < coalesce(%(until)s::timestamptz, 'infinity')"""
_TOTAL: Final = f"SELECT {_SUMS} {_IN_TIME}"


@dataclass(frozen=True, slots=True)
class Span:
    """The time in which the attempts ended; `since` is inclusive, `until` is not. None is without end."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sums:
    """Over some attempts: what they cost in dollars, how many they are, and how long they ran in milliseconds."""

    cost: Decimal
    attempts: int
    failed_attempts: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Costs:
    """The sums over a span and over some of its groups, by key; `next_cursor` gets the groups behind them."""

    total: Sums
    groups: Sequence[tuple[str, Sums]]
    next_cursor: str | None


class CostQueries:
    """Reads on a pool of connections. Every call may raise psycopg.OperationalError: the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def sums(
        self, team: str, span: Span, *, by: GroupBy | None = None, limit: int = 100, cursor: str | None = None
    ) -> Costs:
        """What the team's attempts cost.

        Args:
            by: make groups of them, in the order of their keys; None makes none.
            limit: how many groups at most.
            cursor: the `next_cursor` of an answer to the same question.

        Raises:
            BadCursorError: it is none; InvalidRequestError: it is of another question.
        """
        after = _read_cursor(cursor, span, by) if cursor is not None else ""
        values = {"team": team, "since": span.since, "until": span.until, "after": after, "limit": limit + 1}

        async def work(connection: AsyncConnection[Any]) -> tuple[list[Any], list[Any]]:
            total = await (await connection.execute(_TOTAL, values)).fetchall()
            groups = await (await connection.execute(_grouped(by), values)).fetchall() if by else []
            return total, groups

        (total,), groups = await transact(self._pool, work)
        keyed = [(key, Sums(*sums)) for key, *sums in groups[:limit]]
        more = len(groups) > limit
        return Costs(Sums(*total), keyed, _make_cursor(keyed[-1][0], span, by) if more else None)


def _grouped(by: GroupBy) -> str:
    # There may be as many orchestrations as attempts: they are summed no further than the page goes, by their index.
    onward = "AND orchestration_id > %(after)s" if by == "orchestration" else ""
    page = "ORDER BY part LIMIT %(limit)s" if by == "orchestration" else ""
    return f"""
SELECT {_KEYS[by]} AS key, cost, attempts, failed, duration
FROM (SELECT {_COLUMNS[by]} AS part, {_SUMS} {_IN_TIME} {onward} GROUP BY part {page}) AS sums
WHERE {_KEYS[by]} > %(after)s ORDER BY key LIMIT %(limit)s"""


def _make_cursor(key: str, span: Span, by: GroupBy | None) -> str:
    return pack([*_question(span, by), key])


def _question(span: Span, by: GroupBy | None) -> list[str | None]:
    return [by, *(moment.isoformat() if moment else None for moment in (span.since, span.until))]


def _read_cursor(cursor: str, span: Span, by: GroupBy | None) -> str:
    *question, key = unpack(cursor, 4)
    if question != _question(span, by):
        raise InvalidRequestError([problem("cursor", "belongs to other groups or another time; begin without it")])
    return text(key)

"""Lists of orchestrations: filtered, sorted, and page by page, each page at the same cost however many there are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from psycopg import AsyncConnection

from services.api import listing_sql as sql
from services.api.listing_cursor import make_cursor, read_cursor
from services.api.listing_plan import Group, Plan, Wanted, make_plan
from services.api.queries import Page
from shared.postgres.pool import Pool, transact


class Listing:
    """Reads lists on a pool of connections."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, team: str, wanted: Wanted, *, limit: int, cursor: str | None = None) -> Page:
        """The team's orchestrations.

        Where what is wanted is rare among what the filters have in common, a page may hold less than `limit`, even
        nothing, and still have a `next_cursor`: it has looked at as many as one page may look at.

        Args:
            limit: how many at most.
            cursor: the `next_cursor` of a page of the same list.

        Raises:
            BadCursorError: it is none; InvalidRequestError: it is another list's.
            psycopg.OperationalError: the database is away.
        """
        after = read_cursor(cursor, team, wanted) if cursor is not None else None
        plan = make_plan(team, wanted, limit, after)

        async def work(connection: AsyncConnection[Any]) -> list[tuple[Any, ...]]:
            statement = await choose(connection, plan)
            return await (await connection.execute(statement, plan.values)).fetchall()

        return _page(await transact(self._pool, work), team, wanted, limit)


async def choose(connection: AsyncConnection[Any], plan: Plan) -> str:
    """The statement for the page that gets furthest: all that a rare filter has, or along the list."""
    rare = await _rare(connection, plan)
    if rare is not None:
        return sql.gather(rare.source, plan.sort, rare.within, plan.belongs)
    along = await _furthest(connection, plan) if plan.by_creation else plan.along
    return sql.walk(along.source, plan.sort, along.within, plan.belongs)


async def _rare(connection: AsyncConnection[Any], plan: Plan) -> Group | None:
    """The candidates that are not in the order of the list but are so few that they need not be."""
    groups = [] if plan.by_creation else list(plan.groups)
    if plan.beginning is not None:
        groups.append(plan.beginning)
    if not groups:
        return None
    counting = sql.count([(group.source, group.within) for group in groups])
    rows = await (await connection.execute(counting, plan.values)).fetchall()
    few, place = min((number, place) for place, number in rows)
    return groups[place] if few <= sql.REACH else None


async def _furthest(connection: AsyncConnection[Any], plan: Plan) -> Group:
    """The candidates with which one page gets furthest along the list, for they are the fewest there."""
    groups = list(plan.groups)
    if plan.beginning is not None and (begun := await _under_begun(connection, plan)):
        groups.append(begun)
    if len(groups) < 2:
        return groups[0] if groups else plan.along
    statement = sql.reached([group.source for group in groups], plan.sort, plan.along.within)
    rows: list[tuple[int, datetime | None]] = await (await connection.execute(statement, plan.values)).fetchall()
    ends: dict[int, datetime] = {}
    for place, end in rows:
        if end is None:
            return groups[place]  # these are all of them
        ends[place] = end
    furthest = min if plan.sort.descending else max
    return groups[furthest(ends, key=ends.__getitem__)]


async def _under_begun(connection: AsyncConnection[Any], plan: Plan) -> Group | None:
    """The candidates of every word that begins as wanted, None if these are too many words, or none any more."""
    rows = await (await connection.execute(sql.words_begun(), plan.values)).fetchall()
    if not 0 < len(rows) <= sql.MOST_BEGUN:
        return None
    names = [f"begun{place}" for place in range(len(rows))]
    plan.values.update(zip(names, (term for (term,) in rows), strict=True))
    return Group(sql.under_terms(names, repeats=True), plan.along.within)


def _page(rows: Sequence[tuple[Any, ...]], team: str, wanted: Wanted, limit: int) -> Page:
    shown = [row for row in rows if row[2] is not None]
    end = next((row for row in rows if row[2] is None), None)
    if len(shown) > limit:
        end = shown[limit - 1]
    items = [orjson.loads(view) for _, _, view in shown[:limit]]
    return Page(items, make_cursor(end[0], end[1], team, wanted) if end else None)

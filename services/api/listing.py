"""Lists of orchestrations: filtered, sorted, and page by page, each page at the same cost however many there are."""

from collections.abc import Sequence
from typing import Any

import orjson
from psycopg import AsyncConnection

from services.api import listing_sql as sql
from services.api.listing_cursor import make_cursor, read_cursor
from services.api.listing_plan import Group, Plan, Wanted, make_plan
from services.api.listing_sql import MOST_BEGUN, REACH
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
    """The statement for the page that has to look at the least: all that a rare filter has, or along the list."""
    sort, belongs, along = plan.sort, plan.belongs, plan.along
    if plan.groups:
        counting = sql.count([(group.source, group.within) for group in plan.groups])
        rows = await (await connection.execute(counting, plan.values)).fetchall()
        few, place = min((number, place) for place, number in rows)
        if few <= REACH:
            rare = plan.groups[place]
            return sql.gather(rare.source, sort, rare.within, belongs)
    if plan.begun is not None:
        along = await _under_begun(connection, plan, plan.begun) or along
    return sql.walk(along.source, sort, along.within, belongs)


async def _under_begun(connection: AsyncConnection[Any], plan: Plan, within: str) -> Group | None:
    """The candidates of every word that begins as wanted, None if these are too many words, or none any more."""
    rows = await (await connection.execute(sql.BEGUN, plan.values)).fetchall()
    if not 0 < len(rows) <= MOST_BEGUN:
        return None
    names = [f"begun{place}" for place in range(len(rows))]
    plan.values.update(zip(names, (term for (term,) in rows), strict=True))
    return Group(sql.under_terms(names, repeats=True), within)


def _page(rows: Sequence[tuple[Any, ...]], team: str, wanted: Wanted, limit: int) -> Page:
    shown = [row for row in rows if row[2] is not None]
    end = next((row for row in rows if row[2] is None), None)
    if len(shown) > limit:
        end = shown[limit - 1]
    items = [orjson.loads(view) for _, _, view in shown[:limit]]
    return Page(items, make_cursor(end[0], end[1], team, wanted) if end else None)

"""Lists of orchestrations: filtered, sorted, and page by page, each page at the same cost however many there are."""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import orjson
from psycopg import AsyncConnection

from services.api import listing_sql as sql
from services.api.listing_sql import REACH, Sort, Source, Values
from services.api.problems import InvalidRequestError, problem
from services.api.queries import BadCursorError, Page
from services.api.terms import (
    Phrase,
    author_term,
    read_search,
    repository_term,
    status_term,
    tag_term,
    word_term,
)
from shared.postgres.pool import Pool, transact

SortName = Literal["-created_at", "created_at", "-updated_at", "updated_at"]

_LAST: Final = "\U0010ffff"
"""Above every character that a word may have."""
_MOST_ANCHORS: Final = 10
"""Words that are looked up; any one of them is enough to find what has them all."""
_OTHER_LIST: Final = "belongs to a list with other filters or another sort; begin without it"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be on the list; what is absent does not matter. `since` is inclusive, `until` is not."""

    statuses: tuple[str, ...] = ()
    repository: str | None = None
    tags: tuple[str, ...] = ()
    created_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None
    sort: SortName = "-created_at"


@dataclass(frozen=True, slots=True)
class _Group:
    """Candidates by one filter.

    `within` is the range of them that can be on the page, as far as the index has it as one; `column` is the row's
    column that says the same.
    """

    source: Source
    within: str = ""
    column: str | None = None
    in_order: bool = True


@dataclass(frozen=True, slots=True)
class _Request:
    """A page as it is put to the database."""

    sort: Sort
    belongs: str
    groups: list[_Group]
    in_order: _Group
    """The best of what is in the order of the list."""
    values: Values = field(repr=False)


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
        request = _request(team, wanted, limit, after)

        async def work(connection: AsyncConnection[Any]) -> list[tuple[Any, ...]]:
            statement = await _best(connection, request)
            return await (await connection.execute(statement, request.values)).fetchall()

        return _page(await transact(self._pool, work), team, wanted, limit)


async def _best(connection: AsyncConnection[Any], request: _Request) -> str:
    """The statement that reaches furthest: all that a rare filter has, else along the list."""
    sort, belongs, along = request.sort, request.belongs, request.in_order
    if request.groups:
        counting = sql.count([(group.source, group.within) for group in request.groups])
        rows = await (await connection.execute(counting, request.values)).fetchall()
        few, place = min((number, place) for place, number in rows)
        if few <= REACH:
            rare = request.groups[place]
            return sql.gather(rare.source, sort, rare.within, belongs)
    return sql.walk(along.source, sort, along.within, belongs)


def _page(rows: Sequence[tuple[Any, ...]], team: str, wanted: Wanted, limit: int) -> Page:
    shown = [row for row in rows if row[2] is not None]
    end = next((row for row in rows if row[2] is None), None)
    if len(shown) > limit:
        end = shown[limit - 1]
    items = [orjson.loads(view) for _, _, view in shown[:limit]]
    return Page(items, make_cursor(end[0], end[1], team, wanted) if end else None)


def _request(team: str, wanted: Wanted, limit: int, after: tuple[datetime, str] | None) -> _Request:
    sort = Sort(wanted.sort.removeprefix("-"), wanted.sort.startswith("-"))
    values: Values = {"team": team, "limit": limit + 1}
    conditions = list(_conditions(wanted, values))
    created = "".join(f" AND {condition}" for condition in _created(wanted, values))
    beyond = ""
    if after is not None:
        values["at"], values["id"] = after
        beyond = f" AND {sort.beyond}"
    belongs = " AND ".join(conditions or ["true"]) + created + beyond
    if sort.column == "created_at":
        groups = list(_groups(wanted, values, created + beyond))
        along = next((group for group in groups if group.in_order), _Group(sql.everything(), created + beyond))
        return _Request(sort, belongs, [] if groups == [along] else groups, along, values)
    groups = list(_groups(wanted, values, created))
    if created:
        groups.append(_Group(sql.everything(), created))
    columns = [group.column for group in groups if group.column]
    along = _Group(_by_update(columns, wanted), beyond)
    return _Request(sort, belongs, [] if len(groups) == len(columns) == 1 else groups, along, values)


def _by_update(columns: Sequence[str], wanted: Wanted) -> Source:
    """The index by the last change that has the least besides what is wanted, as far as that can be told."""
    if not columns:
        return sql.everything()
    names = [f"status{place}" for place in range(len(wanted.statuses))] if columns[0] == "status" else [columns[0]]
    return sql.with_column(columns[0], names)


def _conditions(wanted: Wanted, values: Values) -> Iterator[str]:
    """What a row must fulfil to be on the list, but for when it was made."""
    if wanted.statuses:
        values["statuses"] = list(wanted.statuses)
        yield "o.status = ANY(%(statuses)s)"
    if wanted.repository is not None:
        values["repository"] = wanted.repository
        yield "o.repository = %(repository)s"
    if wanted.created_by is not None:
        values["created_by"] = wanted.created_by
        yield "o.created_by = %(created_by)s"
    if wanted.tags:
        values["tags"] = list(wanted.tags)
        yield "o.tags @> %(tags)s::text[]"
    for place, phrase in enumerate(_phrases(wanted)):
        values[f"phrase{place}"] = phrase.pattern
        yield f"strpos(o.words, %(phrase{place})s) {'=' if phrase.negated else '>'} 0"


def _created(wanted: Wanted, values: Values) -> Iterator[str]:
    if wanted.since is not None:
        values["since"] = wanted.since
        yield "created_at >= %(since)s"
    if wanted.until is not None:
        values["until"] = wanted.until
        yield "created_at < %(until)s"


def _groups(wanted: Wanted, values: Values, within: str) -> Iterator[_Group]:
    """Candidates by each filter; the ones that are likely to have the fewest come first."""
    words, beginning = _anchors(wanted)
    named: list[tuple[str, str, str | None]] = [("word", word_term(word), None) for word in words]
    named += [("tag", tag_term(tag), None) for tag in wanted.tags]
    if wanted.repository is not None:
        named.append(("of_repository", repository_term(wanted.repository), "repository"))
    if wanted.created_by is not None:
        named.append(("of_author", author_term(wanted.created_by), "created_by"))
    for place, (name, term, column) in enumerate(named):
        values[f"{name}{place}"] = term
        yield _Group(sql.under_terms([f"{name}{place}"]), within, column)
    if wanted.statuses:
        values |= {f"status{place}": status for place, status in enumerate(wanted.statuses)}
        values |= {f"of_status{place}": status_term(status) for place, status in enumerate(wanted.statuses)}
        names = [f"of_status{place}" for place in range(len(wanted.statuses))]
        yield _Group(sql.under_terms(names), within, "status")
    if beginning is not None:
        values["lowest"], values["highest"] = word_term(beginning), word_term(beginning) + _LAST
        yield _Group(sql.under_beginning(), in_order=False)


def _anchors(wanted: Wanted) -> tuple[list[str], str | None]:
    """The words that every match has, and the beginning of one that every match has."""
    words: dict[str, None] = {}
    beginning = None
    for phrase in _phrases(wanted):
        if not phrase.negated:
            whole = phrase.words[:-1] if phrase.begins else phrase.words
            words |= dict.fromkeys(whole)
            beginning = phrase.words[-1] if phrase.begins else beginning
    return list(words)[:_MOST_ANCHORS], beginning


def _phrases(wanted: Wanted) -> tuple[Phrase, ...]:
    return read_search(wanted.search) if wanted.search is not None else ()


def make_cursor(at: datetime, orchestration_id: str, team: str, wanted: Wanted) -> str:
    """Stands for a place on this one list: behind the orchestration."""
    return base64.urlsafe_b64encode(orjson.dumps([at, orchestration_id, _digest(team, wanted)])).decode().rstrip("=")


def read_cursor(cursor: str, team: str, wanted: Wanted) -> tuple[datetime, str]:
    """The moment and the id of the place.

    Raises:
        BadCursorError: it is no cursor.
        InvalidRequestError: it belongs to another list.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        moment, orchestration_id, digest = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        at = datetime.fromisoformat(moment)
    except (ValueError, TypeError, binascii.Error) as exc:
        raise BadCursorError("not a cursor that a page gave") from exc
    if at.tzinfo is None or not isinstance(orchestration_id, str) or "\0" in orchestration_id:
        raise BadCursorError("not a cursor that a page gave")
    if digest != _digest(team, wanted):
        raise InvalidRequestError([problem("cursor", _OTHER_LIST)])
    return at, orchestration_id


def _digest(team: str, wanted: Wanted) -> str:
    """Of what makes the list what it is, however its filters were ordered."""
    parts = [
        team,
        wanted.sort,
        sorted(set(wanted.statuses)),
        wanted.repository,
        sorted(set(wanted.tags)),
        wanted.created_by,
        wanted.since,
        wanted.until,
        wanted.search,
    ]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:16]

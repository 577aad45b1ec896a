"""The statements that lists are read with. Whatever the filters, each looks at no more than `REACH` candidates.

Candidates come from an index in the order of the list, as many as are needed, and each is then decided on its own row.
The shape is forced by `LATERAL … LIMIT 1`, for the planner cannot know how rare a combination of filters is, and where
it guesses wrong it reads a table from end to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

REACH: Final = 2000
"""Candidates that one page looks at, at most: some 10 ms of work."""

MOST_BEGUN: Final = 20
"""Words that begin in the same way and are followed side by side; with more of them, nearly every text has one."""

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of a list: by a moment, then by the id."""

    column: str
    descending: bool

    @property
    def by(self) -> str:
        way = "DESC" if self.descending else "ASC"
        return f"{self.column} {way}, id {way}"

    @property
    def beyond(self) -> str:
        return f"({self.column}, id) {'<' if self.descending else '>'} (%(at)s, %(id)s)"


@dataclass(frozen=True, slots=True)
class Source:
    """Where candidates come from: one table, by conditions that each stand for one range of its index.

    With `repeats` the same one may come from several parts.
    """

    table: str
    parts: tuple[str, ...]
    repeats: bool = False


def everything() -> Source:
    return Source("orchestrations", ("true",))


def under_terms(names: Sequence[str], *, repeats: bool = False) -> Source:
    """`names`: of the parameters that hold the terms."""
    return Source("orchestration_terms", tuple(f"term = %({name})s" for name in names), repeats)


def under_beginning() -> Source:
    """All terms that begin with the parameter `lowest`; in no order."""
    return Source("orchestration_terms", ("term >= %(lowest)s AND term < %(highest)s",))


def with_column(column: str, names: Sequence[str]) -> Source:
    return Source("orchestrations", tuple(f"{column} = %({name})s" for name in names))


def count(groups: Sequence[tuple[Source, str]]) -> str:
    """How many candidates each source has within a condition, `REACH` + 1 standing for more than `REACH`."""
    return "\nUNION ALL ".join(
        f"SELECT {place}, (SELECT count(*) FROM (SELECT 1 FROM {source.table}"
        f" WHERE team_id = %(team)s AND ({' OR '.join(source.parts)}){within} LIMIT {REACH + 1}) AS few)"
        for place, (source, within) in enumerate(groups)
    )


def reached(sources: Sequence[Source], sort: Sort, within: str) -> str:
    """How far the first `REACH` candidates of each source get: a moment, null where they are fewer."""
    return "\nUNION ALL ".join(
        f"SELECT {place}, (SELECT {sort.column} FROM ({_nearest(source, sort, within)}) AS near OFFSET {REACH - 1})"
        for place, source in enumerate(sources)
    )


def walk(source: Source, sort: Sort, within: str, belongs: str) -> str:
    """A page along a source that is in the order of the list.

    Gives `(moment, id, view)` for at most `%(limit)s` rows. If there are fewer because `REACH` candidates have been
    looked at, one more row without a view tells where the last of them stands.

    Args:
        within: a condition on candidates that stands for a range of the index: ` AND …`, or nothing.
        belongs: the condition on the row `o` for being on the list.
    """
    near = _nearest(source, sort, within)
    once = f"SELECT DISTINCT {sort.column}, id FROM ({near}) AS near ORDER BY {sort.by}" if source.repeats else near
    return f"""
WITH page AS MATERIALIZED (
  SELECT near.{sort.column}, near.id, found.view
  FROM ({once}) AS near CROSS JOIN LATERAL (
    SELECT o.view::text AS view FROM orchestrations AS o
    WHERE o.team_id = %(team)s AND o.id = near.id AND {belongs} LIMIT 1) AS found
  ORDER BY near.{sort.by.replace(" id", " near.id")} LIMIT %(limit)s
)
SELECT {sort.column}, id, view FROM page
UNION ALL
SELECT {sort.column}, id, NULL FROM ({near} OFFSET {REACH - 1}) AS last
WHERE (SELECT count(*) FROM page) < %(limit)s
ORDER BY {sort.by}"""


def _nearest(source: Source, sort: Sort, within: str) -> str:
    """The first `REACH` candidates in the order of the list; of several parts they are merged as they are read."""
    parts = "\n  UNION ALL\n  ".join(
        f"(SELECT {sort.column}, id FROM {source.table} WHERE team_id = %(team)s AND {part}{within}"
        f" ORDER BY {sort.by} LIMIT {REACH})"
        for part in source.parts
    )
    return f"SELECT {sort.column}, id FROM ({parts}) AS parts ORDER BY {sort.by} LIMIT {REACH}"


def gather(source: Source, sort: Sort, within: str, belongs: str) -> str:
    """A page out of all candidates of a source that has few; gives what `walk` gives."""
    return f"""
SELECT found.{sort.column}, found.id, found.view
FROM (SELECT DISTINCT id FROM {source.table}
      WHERE team_id = %(team)s AND ({" OR ".join(source.parts)}){within}) AS near
CROSS JOIN LATERAL (
  SELECT o.created_at, o.updated_at, o.id, o.view::text AS view FROM orchestrations AS o
  WHERE o.team_id = %(team)s AND o.id = near.id AND {belongs} LIMIT 1) AS found
ORDER BY {sort.by} LIMIT %(limit)s"""


def words_begun() -> str:
    """The terms from `lowest` to `highest` one by one, each found by jumping over all candidates of the one before.

    Gives one more than `MOST_BEGUN` where there are more.
    """
    return f"""
WITH RECURSIVE begun AS (
  (SELECT term FROM orchestration_terms
   WHERE team_id = %(team)s AND term >= %(lowest)s AND term < %(highest)s ORDER BY term LIMIT 1)
  UNION ALL
  SELECT (SELECT term FROM orchestration_terms
          WHERE team_id = %(team)s AND term > begun.term AND term < %(highest)s ORDER BY term LIMIT 1)
  FROM begun WHERE begun.term IS NOT NULL
)
SELECT term FROM begun WHERE term IS NOT NULL LIMIT {MOST_BEGUN + 1}"""

"""How a list is read: where its candidates come from, and what a row must fulfil to be on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from services.api import listing_sql as sql
from services.api.listing_sql import Sort, Source, Values
from services.api.terms import (
    Phrase,
    author_term,
    read_search,
    repository_term,
    status_term,
    tag_term,
    word_term,
)

SortName = Literal["-created_at", "created_at", "-updated_at", "updated_at"]

_LAST: Final = "\U0010ffff"
"""Above every character that a word may have."""
_MOST_ANCHORS: Final = 10
"""Words that are looked up; any one of them is enough to find what has them all."""


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
class Group:
    """Candidates by one filter.

    `within` is the range of them that can be on the page, as far as the index has it as one; `column` is the column
    of the row that says the same.
    """

    source: Source
    within: str = ""
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A page as it can be put to the database.

    Args:
        belongs: the condition on a row for being on the page.
        groups: candidates by each filter. They are in the order of the list if that is by creation.
        beginning: candidates by the beginning of a word, in no order.
        along: what is in the order of the list whatever the filters.
    """

    sort: Sort
    belongs: str
    groups: list[Group]
    beginning: Group | None
    along: Group
    values: Values = field(repr=False)

    @property
    def by_creation(self) -> bool:
        return self.sort.column == "created_at"


def make_plan(team: str, wanted: Wanted, limit: int, after: tuple[datetime, str] | None) -> Plan:
    """How to read the page of `limit` items behind the place `after`, or the first one."""
    sort = Sort(wanted.sort.removeprefix("-"), wanted.sort.startswith("-"))
    values: Values = {"team": team, "limit": limit + 1}
    conditions = list(_conditions(wanted, values)) or ["true"]
    created = "".join(f" AND {condition}" for condition in _created(wanted, values))
    beyond = ""
    if after is not None:
        values["at"], values["id"] = after
        beyond = f" AND {sort.beyond}"
    belongs = " AND ".join(conditions) + created + beyond
    words, begun = _anchors(wanted)
    beginning = _beginning(begun, values) if begun is not None else None
    if sort.column == "created_at":
        groups = list(_named(wanted, words, created + beyond, values))
        return Plan(sort, belongs, groups, beginning, Group(sql.everything(), created + beyond), values)
    groups = list(_named(wanted, words, created, values))
    if created:
        groups.append(Group(sql.everything(), created))
    columns = [group.column for group in groups if group.column]
    if len(groups) == len(columns) == 1 and beginning is None:
        groups = []  # the column's own order has them and nothing else
    return Plan(sort, belongs, groups, beginning, Group(_by_column(columns, wanted), beyond), values)


def _by_column(columns: Sequence[str], wanted: Wanted) -> Source:
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


def _named(wanted: Wanted, words: Sequence[str], within: str, values: Values) -> Iterator[Group]:
    """Candidates by each filter that names its terms; the ones that are likely to have the fewest come first."""
    terms: list[tuple[str, str | None]] = [(word_term(word), None) for word in words]
    terms += [(tag_term(tag), None) for tag in wanted.tags]
    if wanted.repository is not None:
        terms.append((repository_term(wanted.repository), "repository"))
    if wanted.created_by is not None:
        terms.append((author_term(wanted.created_by), "created_by"))
    for place, (term, column) in enumerate(terms):
        values[f"term{place}"] = term
        yield Group(sql.under_terms([f"term{place}"]), within, column)
    for place, status in enumerate(wanted.statuses):
        values[f"status{place}"], values[f"of_status{place}"] = status, status_term(status)
    if wanted.statuses:
        names = [f"of_status{place}" for place in range(len(wanted.statuses))]
        yield Group(sql.under_terms(names), within, "status")


def _beginning(begun: str, values: Values) -> Group:
    """Candidates by the words that begin so; in no order, so only to be used where there are few."""
    values["lowest"], values["highest"] = word_term(begun), word_term(begun) + _LAST
    return Group(sql.under_beginning())


def _anchors(wanted: Wanted) -> tuple[list[str], str | None]:
    """The words that every match has, and the beginning of one that every match has."""
    words: dict[str, None] = {}
    beginning = None
    for phrase in _phrases(wanted):
        if not phrase.negated:
            words |= dict.fromkeys(phrase.words[:-1] if phrase.begins else phrase.words)
            beginning = phrase.words[-1] if phrase.begins else beginning
    return list(words)[:_MOST_ANCHORS], beginning


def _phrases(wanted: Wanted) -> tuple[Phrase, ...]:
    return read_search(wanted.search) if wanted.search is not None else ()

"""Pages of lists on a real database, held against a plain filter over everything that is there."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import psycopg
import pytest
import pytest_asyncio

from deploy.local.postgres import PostgresServer
from services.api import listing_sql
from services.api.listing import Listing, choose
from services.api.listing_plan import SortName, Wanted, make_plan
from services.api.projections import Change
from services.api.terms import read_search, words_in
from shared.domain.events import OrchestrationStatus
from shared.domain.state import Orchestration
from shared.postgres.migrate import migrate
from shared.postgres.pool import Pool, make_pool, session
from tests.support.rows import (
    PEOPLE,
    REPOSITORIES,
    START,
    TAGS,
    WORDS,
    analyze,
    random_orchestration,
    write_changes,
    write_states,
)
from tests.support.servers import fresh_database

TEAM = "red"


@pytest.fixture(scope="module")
def template(postgres: PostgresServer) -> Iterator[str]:
    """The address of an empty database with the newest schema."""
    with fresh_database(postgres) as address:
        migrate(address)
        yield address


@pytest.fixture
def dsn(postgres: PostgresServer, template: str) -> Iterator[str]:
    with fresh_database(postgres, template=template.rsplit("/", 1)[1]) as address:
        yield address


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with make_pool(dsn, name="test", max_size=2) as opened:
        yield opened


@pytest.fixture
def short_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few hundred rows are as hard as a million."""
    monkeypatch.setattr(listing_sql, "REACH", 7)
    monkeypatch.setattr(listing_sql, "MOST_BEGUN", 2)


def some_orchestrations(chance: random.Random, count: int) -> list[Orchestration]:
    return [
        random_orchestration(chance, number, team=TEAM if chance.random() < 0.8 else "blue") for number in range(count)
    ]


def some_wanted(chance: random.Random) -> Wanted:
    """Any combination of filters, most of them with few."""

    def sometimes(value: Any, otherwise: Any = None) -> Any:
        return value if chance.random() < 0.25 else otherwise

    return Wanted(
        statuses=sometimes(tuple(chance.sample([s.value for s in OrchestrationStatus], k=chance.randrange(1, 4))), ()),
        repository=sometimes(chance.choice(REPOSITORIES)),
        tags=sometimes(tuple(chance.sample(TAGS, k=chance.randrange(1, 3))), ()),
        created_by=sometimes(chance.choice((*PEOPLE, "nobody"))),
        since=sometimes(START + timedelta(seconds=chance.randrange(100))),
        until=sometimes(START + timedelta(seconds=chance.randrange(100))),
        search=some_search(chance) if chance.random() < 0.5 else None,
        sort=chance.choice(get_args(SortName)),
    )


def some_search(chance: random.Random) -> str:
    words = chance.choices([*WORDS, "nothing"], k=chance.randrange(1, 4))
    tokens = [f'"{word} {chance.choice(WORDS)}"' if chance.random() < 0.2 else word for word in words]
    tokens = [f"-{token}" if chance.random() < 0.2 else token for token in tokens]
    return " ".join([*tokens[:-1], tokens[-1][: chance.randrange(1, 12)].strip('"') or "f"])


def expected(states: list[Orchestration], wanted: Wanted) -> list[str]:
    """The ids of the list, by going through all there are."""
    belong = [state for state in states if state.team == TEAM and belongs(state, wanted)]
    column = wanted.sort.removeprefix("-")
    belong.sort(key=lambda state: (getattr(state, column), state.id), reverse=wanted.sort.startswith("-"))
    return [state.id for state in belong]


def belongs(state: Orchestration, wanted: Wanted) -> bool:
    return (
        (not wanted.statuses or state.status in wanted.statuses)
        and wanted.repository in (None, state.spec.repository)
        and set(wanted.tags) <= set(state.spec.tags)
        and wanted.created_by in (None, state.created_by)
        and (wanted.since is None or wanted.since <= state.created_at)
        and (wanted.until is None or state.created_at < wanted.until)
        and (wanted.search is None or says(state, wanted.search))
    )


def says(state: Orchestration, search: str) -> bool:
    texts = [state.spec.name, state.spec.description, *(task.spec.title for task in state.tasks.values())]
    said = [words_in(text) for text in texts if text]
    for phrase in read_search(search):
        size = len(phrase.words)
        runs = [tuple(words[at : at + size]) for words in said for at in range(len(words))]
        if phrase.begins:
            has = any(run[:-1] == phrase.words[:-1] and run[-1].startswith(phrase.words[-1]) for run in runs
                      if len(run) == size)  # fmt: skip
        else:
            has = phrase.words in runs
        if has == phrase.negated:
            return False
    return True


async def every_page(
    pool: Pool, wanted: Wanted, limit: int, between: Callable[[], Any] | None = None
) -> tuple[list[str], int]:
    """The ids on all pages, and how many pages there were."""
    listing, ids, pages = Listing(pool), [], 0
    cursor: str | None = None
    while True:
        page = await listing.page(TEAM, wanted, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        ids += [item["id"] for item in page.items]
        pages += 1
        cursor = page.next_cursor
        if cursor is None:
            return ids, pages
        if between is not None:
            await between()


@pytest.mark.parametrize("seed", range(2))
async def test_pages_hold_what_a_plain_filter_finds_in_its_order_without_gap_or_repeat(
    dsn: str, pool: Pool, seed: int
) -> None:
    chance = random.Random(seed)
    states = some_orchestrations(chance, 200)
    await write_states(dsn, states)
    for _ in range(30):
        wanted, limit = some_wanted(chance), chance.choice((1, 3, 20, 100))
        ids, pages = await every_page(pool, wanted, limit)
        assert ids == expected(states, wanted), wanted
        assert pages <= len(ids) // limit + 1, "no page is short where everything is within reach"


@pytest.mark.usefixtures("short_reach")
@pytest.mark.parametrize("seed", range(2))
async def test_pages_may_be_short_where_matches_are_rare_but_leave_nothing_out(dsn: str, pool: Pool, seed: int) -> None:
    chance = random.Random(100 + seed)
    states = some_orchestrations(chance, 200)
    await write_states(dsn, states)
    lists = [some_wanted(chance) for _ in range(30)]
    lists += [Wanted(search="fi", sort=sort) for sort in get_args(SortName)]  # "fix" and "fixes", often both
    for wanted in lists:
        limit = chance.choice((1, 3, 20))
        ids, pages = await every_page(pool, wanted, limit)
        assert ids == expected(states, wanted), wanted
        assert pages <= len(states) // listing_sql.REACH + len(ids) // limit + 1


@pytest.mark.usefixtures("short_reach")
@pytest.mark.parametrize("sort", ["-created_at", "created_at"])
async def test_what_was_there_is_listed_once_while_more_is_added(dsn: str, pool: Pool, sort: SortName) -> None:
    chance = random.Random(sort)
    states = some_orchestrations(chance, 90)
    await write_states(dsn, states)
    late = iter(random_orchestration(chance, number, team=TEAM) for number in range(90, 400))
    added = []

    async def add() -> None:
        added.append(next(late))
        await write_states(dsn, added[-1:])

    for wanted in (
        Wanted(sort=sort),
        Wanted(sort=sort, search="fix"),
        Wanted(sort=sort, statuses=("ACTIVE", "FAILED")),
    ):
        there = expected(states, wanted)
        ids, _ = await every_page(pool, wanted, 4, between=add)
        assert len(set(ids)) == len(ids)
        assert [seen for seen in ids if seen in set(there)] == there
        states += added
        added.clear()


@pytest.mark.usefixtures("short_reach")
@pytest.mark.parametrize(("sort", "said"), [("-created_at", range(30)), ("created_at", range(60, 90))])
async def test_a_page_begins_where_all_filters_have_something(
    dsn: str, pool: Pool, sort: SortName, said: range
) -> None:
    chance = random.Random(3)
    states = [random_orchestration(chance, number, team=TEAM) for number in range(90)]
    texts = ["everywhere elsewhere" if number in said else "everywhere" for number in range(90)]
    states = [
        replace(state, spec=state.spec.model_copy(update={"name": text}))
        for state, text in zip(states, texts, strict=True)
    ]
    await write_states(dsn, states)
    page = await Listing(pool).page(TEAM, Wanted(search='"elsewhere" everywhere', sort=sort), limit=5)
    assert len(page.items) == 5, "it is not looked for in the two thirds that do not say it"


async def test_a_list_follows_what_changes(dsn: str, pool: Pool) -> None:
    before = random_orchestration(random.Random(1), 1, team=TEAM)
    before = replace(
        before, status=OrchestrationStatus.PENDING, spec=before.spec.model_copy(update={"name": "Old one"})
    )
    spec = before.spec.model_copy(update={"name": "New one", "tags": ("kept",)})
    after = replace(before, status=OrchestrationStatus.ACTIVE, spec=spec, version=2)
    gone = replace(after, deleted=True, version=3)
    lists = [
        Wanted(search='"old one"'),
        Wanted(statuses=("PENDING",)),
        Wanted(search='"new one"'),
        Wanted(statuses=("ACTIVE",)),
        Wanted(tags=("kept",)),
    ]
    seen = []
    async with session(dsn, name="rows") as connection:
        for old, new in ((None, before), (before, after), (after, gone)):
            await write_changes(connection, [Change((TEAM, before.id), new, new.version, old)])
            seen.append([bool((await every_page(pool, wanted, 10))[0]) for wanted in lists])
        left = await (await connection.execute("SELECT term FROM orchestration_terms")).fetchall()
    assert seen == [[True, True, False, False, False], [False, False, True, True, True], [False] * 5]
    assert left == [], "the terms of what is deleted are gone too"


LISTS = {
    "everything": Wanted(),
    "oldest first": Wanted(sort="created_at"),
    "last changed first": Wanted(sort="-updated_at"),
    "a status": Wanted(statuses=("ACTIVE",)),
    "two statuses": Wanted(statuses=("ACTIVE", "FAILED")),
    "two statuses, last changed first": Wanted(statuses=("ACTIVE", "FAILED"), sort="-updated_at"),
    "a repository": Wanted(repository=REPOSITORIES[0]),
    "a repository, last changed first": Wanted(repository=REPOSITORIES[0], sort="-updated_at"),
    "a tag": Wanted(tags=("nightly",)),
    "two tags": Wanted(tags=("nightly", "once")),
    "a tag, last changed first": Wanted(tags=("nightly",), sort="-updated_at"),
    "a person": Wanted(created_by="ann"),
    "a time": Wanted(since=START + timedelta(minutes=5), until=START + timedelta(minutes=50)),
    "a time, last changed first": Wanted(since=START, until=START + timedelta(minutes=5), sort="-updated_at"),
    "a word": Wanted(search="checkout"),
    "a rare word": Wanted(search='"nothing"'),
    "two words": Wanted(search="overflow checkout"),
    "a beginning": Wanted(search="f"),
    "a word, last changed first": Wanted(search="checkout", sort="-updated_at"),
    "not a word": Wanted(search="-checkout"),
    "all at once": Wanted(("ACTIVE",), REPOSITORIES[0], ("nightly",), "ann", search="fix", sort="-created_at"),
}


@pytest.fixture(scope="module")
def large(postgres: PostgresServer, template: str) -> Iterator[str]:
    """The address of a database with 20,000 orchestrations, copied from 400."""
    with fresh_database(postgres, template=template.rsplit("/", 1)[1]) as address:
        _fill(address)
        analyze(address)
        yield address


def _fill(dsn: str) -> None:

    asyncio.run(write_states(dsn, some_orchestrations(random.Random(5), 400)))
    with psycopg.connect(dsn) as connection:
        for statement in (
            "CREATE TEMPORARY TABLE copies AS SELECT n, substr(md5(o.id || n), 1, 32) AS new_id, o.*"
            " FROM orchestrations AS o, generate_series(1, 49) AS n",
            "INSERT INTO orchestrations SELECT team_id, new_id, seq, version, status, name, repository, ref, tags,"
            " created_by, created_at + n * interval '3 minutes', updated_at + n * interval '3 minutes', completed_at,"
            " view, words FROM copies",
            "INSERT INTO orchestration_terms SELECT c.team_id, t.term, c.created_at + c.n * interval '3 minutes',"
            " c.new_id FROM copies AS c JOIN orchestration_terms AS t ON t.team_id = c.team_id AND t.id = c.id",
        ):
            connection.execute(statement.encode())


@pytest.mark.parametrize("name", LISTS)
async def test_a_page_is_read_from_an_index_in_its_order(large: str, name: str) -> None:
    async with make_pool(large, name="test", max_size=1) as pool:
        page = await Listing(pool).page(TEAM, LISTS[name], limit=20)
        after = (START + timedelta(minutes=60), "8")
        for plan in (make_plan(TEAM, LISTS[name], 20, None), make_plan(TEAM, LISTS[name], 20, after)):
            async with pool.connection() as connection:
                statement = await choose(connection, plan)
                cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", plan.values)
                explained = (await cursor.fetchall())[0][0][0]["Plan"]
            nodes = list(_nodes(explained))
            assert not [node for node in nodes if node["Node Type"] == "Seq Scan"], statement
            read = sum(_rows(node) for node in nodes if "Scan" in node["Node Type"] and "Index Name" in node)
            assert read <= 3 * listing_sql.REACH + 100, (read, statement)
    assert page.items or page.next_cursor or name == "a rare word"


def _rows(node: dict[str, Any]) -> float:
    removed: float = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)

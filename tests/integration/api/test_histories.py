"""Reading the commits of one orchestration, from the archive and from the log behind it."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from services.api.history import _COMMITS, History
from services.api.newest import Newest
from shared.envelope import Commit, Stored, decode, encode
from shared.jetstream.topology import EVENTS
from shared.memory import MemoryEventLog
from shared.postgres.migrate import migrate
from shared.postgres.pool import Pool, make_pool
from tests.unit.projections.histories import TEAM, partly_completed, stored

COMMITS = stored(partly_completed("orc-1"), partly_completed("orc-2"))
OURS = [(entry.sequence, encode(entry.commit)) for entry in COMMITS if entry.commit.aggregate == "orc-1"]

_ROW = """
INSERT INTO event_archive VALUES (%(stream)s, %(seq)s, %(commit)s, %(team)s, %(aggregate)s, %(version)s, %(last)s,
    'subject', '{}', %(body)s, sha256(''), sha256(''), now())"""


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    migrate(database_url)
    async with make_pool(database_url, name="test", max_size=2) as opened:
        yield opened


def archive(dsn: str, entries: list[Stored]) -> None:
    """Put them where the projector would."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(_ROW, [_row(entry) for entry in entries])


def _row(entry: Stored) -> dict[str, Any]:
    commit = entry.commit
    return {
        "stream": EVENTS,
        "seq": entry.sequence,
        "commit": commit.commit_id,
        "team": commit.team,
        "aggregate": commit.aggregate,
        "version": commit.version,
        "last": commit.last_version,
        "body": encode(commit),
    }


async def filled_log(commits: list[Commit]) -> MemoryEventLog:
    log = MemoryEventLog()
    last: dict[str, int] = {}
    for commit in commits:
        last[commit.aggregate] = await log.append(commit, expected=last.get(commit.aggregate, 0))
    return log


async def read_whole(history: History, **place: int) -> list[tuple[int, bytes]]:
    return [(kept.sequence, kept.body) async for kept in history.commits(TEAM, "orc-1", **place)]


@pytest.mark.parametrize("archived", [0, 1, 7, 20, len(COMMITS)])
async def test_a_history_is_whole_however_far_the_archive_is(database_url: str, pool: Pool, archived: int) -> None:
    archive(database_url, COMMITS[:archived])
    log = await filled_log([entry.commit for entry in COMMITS])
    newest = Newest()
    for entry in COMMITS:
        newest.hear(entry)
    history = History(pool, log, newest)
    assert await read_whole(history) == OURS
    for sequence in (1, 2, 9, 24, OURS[-1][0]):  # sequences of ours and of the other
        expected = [kept for kept in OURS if kept[0] > sequence]
        assert await read_whole(history, after=sequence) == expected
        page = await history.page(TEAM, "orc-1", after=sequence, limit=2)
        assert [(kept.sequence, kept.body) for kept in page] == expected[:2]
    assert await history.page("another team", "orc-1", after=0, limit=10) == []


async def test_what_nobody_heard_of_is_asked_for_where_it_is_known_to_be(database_url: str, pool: Pool) -> None:
    archive(database_url, COMMITS[:7])
    history = History(pool, await filled_log([entry.commit for entry in COMMITS]), Newest())
    assert await read_whole(history) == [kept for kept in OURS if kept[0] <= 7]
    assert await read_whole(history, known=OURS[-1][0]) == OURS


async def test_without_a_database_the_log_tells_all(database_url: str) -> None:
    migrate(database_url)
    async with make_pool(database_url, name="test", max_size=1) as closed:
        pass
    history = History(closed, await filled_log([entry.commit for entry in COMMITS]), Newest())
    assert await read_whole(history) == OURS


async def test_a_replica_of_the_broker_that_lags_behind_is_asked_again(pool: Pool) -> None:
    log = await filled_log([entry.commit for entry in COMMITS])
    newest = Newest()
    for entry in COMMITS:
        newest.hear(entry)
    lagging = Lagging(log, answers=3)
    assert await read_whole(History(pool, lagging, newest)) == OURS
    assert lagging.answers == 0


class Lagging(MemoryEventLog):
    """Lacks the last commit for so many answers."""

    def __init__(self, log: MemoryEventLog, *, answers: int) -> None:
        super().__init__()
        self._whole = log
        self.answers = answers

    async def page(self, team: str, aggregate: str, *, after: int, limit: int) -> list[Stored]:
        page = await self._whole.page(team, aggregate, after=after, limit=limit)
        if page and self.answers:
            self.answers -= 1
            return page[:-1]
        return page


async def test_a_page_is_read_from_the_index_wherever_it_begins(database_url: str, pool: Pool) -> None:
    archive(database_url, COMMITS)
    with psycopg.connect(database_url) as connection:
        connection.execute("SET enable_seqscan = off")
        values = {"team": TEAM, "id": "orc-1", "after": OURS[5][0], "stream": EVENTS, "limit": 10}
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {_COMMITS}", values).fetchall())
    conditions = [line for line in plan.splitlines() if "Index Cond" in line]
    assert len(conditions) == 2, plan
    assert "seq = " in conditions[0]
    assert "version > " in conditions[1]
    assert "Sort" not in plan


async def test_a_commit_of_a_newer_release_is_kept_as_it_is(database_url: str, pool: Pool) -> None:
    archive(database_url, COMMITS[:1])
    body = encode(COMMITS[0].commit).replace(b'"orchestration.created"', b'"orchestration.imagined"')
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE event_archive SET body = %s", (body,))
    (kept,) = await History(pool, MemoryEventLog(), Newest()).page(TEAM, "orc-1", after=0, limit=10)
    assert kept.body == body
    with pytest.raises(Exception, match="imagined"):
        kept.decoded()
    assert decode(OURS[0][1]) == COMMITS[0].commit

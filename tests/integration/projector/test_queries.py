"""What the API reads."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest
import pytest_asyncio
from nats.aio.client import Client

from services.api.projections import replay
from services.api.queries import BadCursorError, Queries
from shared.postgres.pool import make_pool
from shared.views import orchestration_view, task_views
from tests.integration.projector.logs import append, project
from tests.unit.projections.histories import START, TEAM, every_event, failed_fast, in_turn, stored

STATES = replay(stored(every_event()))


@pytest_asyncio.fixture
async def queries(dsn: str) -> AsyncIterator[Queries]:
    async with make_pool(dsn, name="test", max_size=2) as pool:
        yield Queries(pool)


@pytest_asyncio.fixture
async def filled(dsn: str, nc: Client) -> None:
    """The read side shows `every_event`."""
    await append(nc, every_event())
    await project(dsn, nc)


@pytest.mark.usefixtures("filled")
async def test_an_orchestration_comes_with_its_tasks_in_order(queries: Queries) -> None:
    found = await queries.orchestration(TEAM, "orc-1")
    assert found is not None
    state = STATES[TEAM, "orc-1"]
    assert found.orchestration == orchestration_view(state)
    assert found.tasks == task_views(state) == await queries.tasks(TEAM, "orc-1")
    assert found.sequence == max(entry.sequence for entry in stored(every_event()) if entry.commit.aggregate == "orc-1")


@pytest.mark.usefixtures("filled")
async def test_another_teams_orchestration_is_not_there(queries: Queries) -> None:
    assert await queries.orchestration("team-2", "orc-1") is None
    assert await queries.tasks("team-2", "orc-1") == []
    assert {item["id"] for item in (await queries.orchestrations("team-2", limit=10)).items} == {"orc-3", "orc-4"}


async def test_pages_give_each_orchestration_once_newest_first(dsn: str, nc: Client, queries: Queries) -> None:
    # Three of the same moment at each of three moments: the id decides among them.
    histories = [
        failed_fast(f"orc-{number}", start=START + timedelta(microseconds=number // 3))[:1] for number in range(9)
    ]
    await append(nc, in_turn(*histories))
    await project(dsn, nc)
    for size in (1, 2, 4, 9, 100):
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await queries.orchestrations(TEAM, limit=size, cursor=cursor)
            assert 0 < len(page.items) <= size
            seen += [item["id"] for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [f"orc-{number}" for number in (8, 7, 6, 5, 4, 3, 2, 1, 0)]


async def test_a_page_of_nothing_is_empty(queries: Queries) -> None:
    page = await queries.orchestrations("nobody", limit=10)
    assert (page.items, page.next_cursor) == ([], None)


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "é",
        encoded("nonsense"),
        encoded("[]"),
        encoded("7"),
        encoded("{}"),
        encoded('["2026-11-01T12:00:00+00:00"]'),
        encoded('["yesterday", "orc-1"]'),
        encoded('["2026-11-01T12:00:00", "orc-1"]'),
        encoded('["2026-11-01T12:00:00+00:00", 7]'),
        encoded('["2026-11-01T12:00:00+00:00", "\\u0000"]'),
        encoded('[7, "orc-1"]'),
    ],
)
async def test_a_cursor_that_no_page_gave_is_refused(queries: Queries, cursor: str) -> None:
    with pytest.raises(BadCursorError):
        await queries.orchestrations(TEAM, limit=10, cursor=cursor)


@pytest.mark.usefixtures("filled")
async def test_an_agent_is_found_by_its_id_alone(queries: Queries) -> None:
    agent = await queries.find_agent("bc-orc-2-t1-a1")
    assert agent is not None
    assert (agent.team, agent.orchestration_id, agent.task_id) == (TEAM, "orc-2", "orc-2-t1")
    assert await queries.find_agent("bc-unknown") is None


async def test_a_connection_that_broke_is_not_noticed_by_who_asks(dsn: str, queries: Queries) -> None:
    await queries.ping()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'test' AND datname = current_database()"
        )
    await queries.ping()


@pytest.mark.usefixtures("filled")
async def test_the_first_page_is_read_from_the_index_in_order(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT view FROM orchestrations WHERE team_id = 'a' AND (created_at, id) < (now(), 'x')"
            " ORDER BY created_at DESC, id DESC LIMIT 10"
        ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "orchestrations_newest" in text
    assert "Sort" not in text

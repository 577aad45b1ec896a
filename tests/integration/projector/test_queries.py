"""What the API reads."""

from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from nats.aio.client import Client

from services.api.projections import replay
from services.api.queries import Queries
from shared.postgres.pool import make_pool
from shared.views import orchestration_view, task_views
from tests.integration.projector.logs import append, project
from tests.unit.projections.histories import TEAM, every_event, stored

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

"""An api for each test, or one that the tests of a module share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.local.postgres import PostgresServer
from services.api import middleware
from tests.integration.api.holders import make_key
from tests.integration.api.system import Running, running_api
from tests.support.servers import fresh_database, nats_server


@pytest.fixture(name="api")
async def _api(nats_url: str, database_url: str) -> AsyncIterator[Running]:
    async with running_api(nats_url, database_url) as running:
        yield running


@pytest_asyncio.fixture(name="shared_api", scope="module", loop_scope="module")
async def _shared_api(postgres: PostgresServer) -> AsyncIterator[Running]:
    """For tests that only look at what they made themselves; they run in the loop of their module."""
    with nats_server() as nats, fresh_database(postgres) as database_url:
        async with running_api(nats.url, database_url) as running:
            yield running


@pytest.fixture
def bodies_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a body that is too large the rest is read, however slowly it comes: else the answer may be lost with it."""
    monkeypatch.setattr(middleware, "_DRAIN_SECONDS", 60.0)


@pytest_asyncio.fixture(name="keys", scope="module", loop_scope="module")
async def _keys(shared_api: Running) -> dict[str, str]:
    """Keys of the own team that may only read (`reader`), and of another team that may do everything (`stranger`)."""
    reader = await make_key(shared_api, permissions=["orchestrations:read"])
    return {"reader": reader["key"], "stranger": (await make_key(shared_api, "blue"))["key"]}

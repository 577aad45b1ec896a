"""A migrated database and an empty log for each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.aio.client import Client

from deploy.local.nats import NatsServer
from shared.postgres.migrate import migrate
from tests.integration.projector.logs import connected_log


@pytest.fixture
def dsn(database_url: str) -> str:
    """The address of an empty database with the newest schema."""
    migrate(database_url)
    return database_url


@pytest_asyncio.fixture
async def nc(nats: NatsServer) -> AsyncIterator[Client]:
    """A connection to a broker that has an empty log."""
    async with connected_log(nats.url) as connection:
        yield connection

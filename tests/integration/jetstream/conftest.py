"""A broker with everything that the topology declares."""

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from deploy.local.nats import NatsServer
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import close, connect
from shared.jetstream.topology import TopologySettings


@pytest.fixture
async def nc(nats: NatsServer) -> AsyncIterator[Client]:
    """A connection to a broker on which the bootstrap has run."""
    connection = await connect(nats.url, "test", within=10)
    await bootstrap(connection, TopologySettings())
    yield connection
    await close(connection)

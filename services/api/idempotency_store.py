"""Requests that carry an Idempotency-Key, kept in Postgres: what is to be done, then what was answered."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from shared.postgres.pool import Pool, transact

KEPT: Final = timedelta(hours=25)
"""A day is promised. The hour more covers clocks that differ, and a repeat that is under way when the day ends."""
_PURGED: Final = 20
"""Expired ones that each new one takes away, so that the table shrinks faster than it grows."""

_COLUMNS: Final = "fingerprint, plan, status, body, location"
_FIND: Final = f"SELECT {_COLUMNS} FROM idempotency WHERE team_id = %s AND key = %s AND created_at > now() - %s"
_EXPIRE: Final = "DELETE FROM idempotency WHERE team_id = %s AND key = %s AND created_at <= now() - %s"
# The update changes nothing; without one the row that is there would not be returned. A row that was inserted has no
# xmax yet, one that was updated has the transaction's own.
_CLAIM: Final = f"""
INSERT INTO idempotency (team_id, key, fingerprint, plan) VALUES (%s, %s, %s, %s)
ON CONFLICT (team_id, key) DO UPDATE SET key = excluded.key RETURNING {_COLUMNS}, xmax = 0"""
_PURGE: Final = """
DELETE FROM idempotency WHERE (team_id, key) IN (
    SELECT team_id, key FROM idempotency WHERE created_at <= now() - %s
    ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED)"""
_SETTLE: Final = """
INSERT INTO idempotency AS held (team_id, key, fingerprint, status, body, location) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (team_id, key) DO UPDATE
SET status = excluded.status, body = excluded.body, location = excluded.location, plan = NULL
WHERE held.fingerprint = excluded.fingerprint AND held.status IS NULL"""
_FORGET: Final = """
DELETE FROM idempotency WHERE team_id = %s AND key = %s AND fingerprint = %s AND status IS NULL"""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is given again: its status, the bytes of its body, and `Location`."""

    status: int
    body: bytes
    location: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The request that holds a key. `plan` says what it is to do; `answer` is None until it is known for good.

    `is_new`: it has only just taken the key.
    """

    fingerprint: bytes
    plan: bytes | None
    answer: Answer | None
    is_new: bool = False


class IdempotencyStore(Protocol):
    """Remembers, for a day, which request of a team came first under a key. Every method may be repeated."""

    async def find(self, team: str, key: str) -> Claim | None:
        """The request that holds the key."""

    async def claim(self, team: str, key: str, fingerprint: bytes, plan: bytes) -> Claim:
        """Take a key that nobody holds. Answers who holds it now: this request, or the one that came first."""

    async def settle(self, team: str, key: str, fingerprint: bytes, answer: Answer) -> Answer:
        """Store the answer. Answers the one that is given from now on: the first that was stored."""

    async def forget(self, team: str, key: str, fingerprint: bytes) -> None:
        """Give the key back, unless there is an answer."""


class PostgresIdempotency:
    """`IdempotencyStore` in the table `idempotency`.

    Every method raises psycopg.OperationalError when the database is away.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, team: str, key: str) -> Claim | None:
        async def work(connection: AsyncConnection[Any]) -> Claim | None:
            return await _one(connection, _FIND, team, key, KEPT)

        return await transact(self._pool, work)

    async def claim(self, team: str, key: str, fingerprint: bytes, plan: bytes) -> Claim:
        async def work(connection: AsyncConnection[Any]) -> Claim:
            await connection.execute(_EXPIRE, (team, key, KEPT))
            holder = await _one(connection, _CLAIM, team, key, fingerprint, plan)
            await connection.execute(_PURGE, (KEPT, _PURGED))
            assert holder is not None  # the statement inserts or updates
            return holder

        return await transact(self._pool, work)

    async def settle(self, team: str, key: str, fingerprint: bytes, answer: Answer) -> Answer:
        async def work(connection: AsyncConnection[Any]) -> Answer:
            given = (team, key, fingerprint, answer.status, answer.body, answer.location)
            await connection.execute(_SETTLE, given)
            holder = await _one(connection, _FIND, team, key, KEPT)
            first = holder.answer if holder and holder.fingerprint == fingerprint else None
            return first or answer

        return await transact(self._pool, work)

    async def forget(self, team: str, key: str, fingerprint: bytes) -> None:
        async def work(connection: AsyncConnection[Any]) -> None:
            await connection.execute(_FORGET, (team, key, fingerprint))

        await transact(self._pool, work)


async def _one(connection: AsyncConnection[Any], query: str, *values: object) -> Claim | None:
    row = await (await connection.cursor(row_factory=tuple_row).execute(query.encode(), values)).fetchone()
    if row is None:
        return None
    fingerprint, plan, status, body, location, *inserted = row
    return Claim(fingerprint, plan, None if status is None else Answer(status, body, location), inserted == [True])

"""The record of every delivery and every try at it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from psycopg import AsyncConnection

from services.notifier.channels.webhook import host_of
from services.notifier.notification import Notification
from services.notifier.outcome import Outcome
from shared import failpoints
from shared.postgres.pool import Pool, transact

_UPSERT: Final = """
INSERT INTO webhook_deliveries AS old (
    team_id, id, orchestration_id, channel, event, host, status, tries, occurred_at, updated_at, message)
VALUES (%s, %s, %s, %s, %s, %s, 'PENDING', 1, %s, %s, %s)
ON CONFLICT (team_id, id) DO UPDATE SET
    status = 'PENDING', tries = old.tries + 1, updated_at = excluded.updated_at, next_try_at = NULL
RETURNING tries"""
_BEGIN: Final = "INSERT INTO webhook_tries (team_id, delivery_id, number, started_at) VALUES (%s, %s, %s, %s)"
_END: Final = """
UPDATE webhook_tries SET duration_ms = %s, outcome = %s, detail = %s
WHERE team_id = %s AND delivery_id = %s AND number = %s"""
_JUDGE: Final = """
UPDATE webhook_deliveries SET status = %s, next_try_at = %s, error = %s, updated_at = %s
WHERE team_id = %s AND id = %s AND tries = %s"""


@dataclass(frozen=True, slots=True)
class Try:
    """One try at a delivery; `number` counts from 1 over all of them, also those that were asked for by hand."""

    notification: Notification
    number: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a try came to: done, again at `next_at`, or given up."""

    outcome: Outcome
    duration_ms: int
    ended_at: datetime
    status: str
    """DELIVERED, PENDING or FAILED."""
    next_at: datetime | None = None
    error: str | None = None


class Records(Protocol):
    async def begin(self, notification: Notification, channel: str, now: datetime) -> Try:
        """Write down that a try is about to be made.

        Raises:
            psycopg.OperationalError: the database is away; nothing was sent yet.
        """

    async def end(self, made: Try, verdict: Verdict) -> None:
        """Write down what it came to.

        Raises:
            psycopg.OperationalError: the database is away; the try stays without an outcome.
        """


@dataclass(slots=True)
class MemoryRecords:
    """`Records` in memory."""

    tries: dict[str, list[tuple[Try, Verdict | None]]] = field(default_factory=dict)

    async def begin(self, notification: Notification, channel: str, now: datetime) -> Try:
        made = self.tries.setdefault(notification.delivery_id, [])
        begun = Try(notification, len(made) + 1, now)
        made.append((begun, None))
        return begun

    async def end(self, made: Try, verdict: Verdict) -> None:
        self.tries[made.notification.delivery_id][made.number - 1] = (made, verdict)


class PostgresRecords:
    """`Records` in the tables `webhook_deliveries` and `webhook_tries`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @failpoints.around("record.begin")
    async def begin(self, notification: Notification, channel: str, now: datetime) -> Try:
        values = (
            notification.team,
            notification.delivery_id,
            notification.orchestration_id,
            channel,
            notification.event_type,
            host_of(notification.url),
            notification.occurred_at,
            now,
            notification.encode(),
        )

        async def work(connection: AsyncConnection[Any]) -> int:
            row = await (await connection.execute(_UPSERT, values)).fetchone()
            assert row is not None
            number: int = row[0]
            await connection.execute(_BEGIN, (notification.team, notification.delivery_id, number, now))
            return number

        return Try(notification, await transact(self._pool, work), now)

    @failpoints.around("record.end")
    async def end(self, made: Try, verdict: Verdict) -> None:
        of = (made.notification.team, made.notification.delivery_id, made.number)
        told = (verdict.duration_ms, verdict.outcome.kind.value, verdict.outcome.detail)
        judged = (verdict.status, verdict.next_at, verdict.error, verdict.ended_at)

        async def work(connection: AsyncConnection[Any]) -> None:
            await connection.execute(_END, (*told, *of))
            # A later try, in another process, has the say.
            await connection.execute(_JUDGE, (*judged, *of))

        await transact(self._pool, work)

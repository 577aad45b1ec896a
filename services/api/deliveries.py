"""Deliveries of notifications, as the notifier writes them down: to be listed, looked at, and asked for once more."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from services.api.cursors import read_cursor, write_cursor
from shared.domain.ids import derive_id
from shared.jetstream.publish import Publisher
from shared.jetstream.topology import DELIVERIES, delivery_subject
from shared.moments import written
from shared.postgres.pool import Pool, transact
from shared.views import View

DeliveryStatus = Literal["PENDING", "DELIVERED", "FAILED"]
STATUSES: Final[tuple[DeliveryStatus, ...]] = get_args(DeliveryStatus)

_COLUMNS: Final = """
id, orchestration_id, channel, event, host, status, tries, occurred_at, updated_at, next_try_at, error"""
_ONE: Final = f"SELECT {_COLUMNS} FROM webhook_deliveries WHERE team_id = %s AND id = %s"
_TRIES: Final = """
SELECT number, started_at, duration_ms, outcome, detail FROM webhook_tries
WHERE team_id = %s AND delivery_id = %s ORDER BY number DESC LIMIT 100"""
_MESSAGE: Final = """
SELECT status = 'PENDING' AND (next_try_at IS NOT NULL OR updated_at > %s) AS is_tried, tries, channel, message
FROM webhook_deliveries WHERE team_id = %s AND id = %s"""
# Where the notifier has begun another try meanwhile, that says more of it already.
_AGAIN: Final = """
UPDATE webhook_deliveries SET status = 'PENDING', redeliveries = redeliveries + 1, updated_at = %s, error = NULL
WHERE team_id = %s AND id = %s AND tries = %s"""
_UNKNOWN_AFTER: Final = timedelta(minutes=5)
"""A try takes seconds. One that tells nothing for so long has ended, while the database could not be told how."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries; None takes all."""

    orchestration_id: str | None = None
    status: DeliveryStatus | None = None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    items: list[View]
    next_cursor: str | None


class StillTriedError(Exception):
    """The delivery is under way; it needs no second one beside it."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Reads and asks again. Every call may raise psycopg.OperationalError: the database is away."""

    pool: Pool
    publisher: Publisher

    async def page(self, team: str, wanted: Wanted, *, limit: int, cursor: str | None) -> DeliveryPage:
        """The newest first.

        Raises:
            BadCursorError: `cursor` is not one that a page gave.
        """
        after = read_cursor(cursor) if cursor is not None else None
        rows = await self._rows(*_page(team, wanted, limit + 1, after))
        last = rows[limit - 1] if len(rows) > limit else None
        return DeliveryPage([_view(row) for row in rows[:limit]], _cursor(last) if last else None)

    async def find(self, team: str, delivery_id: str) -> View | None:
        """One with its last hundred tries, newest first; None if the team has none of this id."""
        rows = await self._rows(_ONE, (team, delivery_id))
        if not rows:
            return None
        tries = await self._rows(_TRIES, (team, delivery_id))
        return {**_view(rows[0]), "attempts": [_view(made) for made in tries]}

    async def redeliver(self, team: str, delivery_id: str, now: datetime) -> bool:
        """Have it sent once more, with all its tries; False if the team has none of this id.

        Asked twice at once, it is sent once: the message's id follows from how many tries there were before.

        Raises:
            StillTriedError: it has not been delivered or given up yet.
            PublishUnavailableError: the broker did not confirm it; it may be sent.
        """
        rows = await self._rows(_MESSAGE, (now - _UNKNOWN_AFTER, team, delivery_id))
        if not rows:
            return False
        row = rows[0]
        if row["is_tried"]:
            raise StillTriedError
        message = {**orjson.loads(row["message"]), "redelivered_at": now.isoformat()}
        await self.publisher.publish(
            delivery_subject(row["channel"]),
            orjson.dumps(message),
            stream=DELIVERIES,
            msg_id=derive_id("redelivery", team, delivery_id, row["tries"]),
        )

        async def work(connection: AsyncConnection[Any]) -> None:
            await connection.execute(_AGAIN, (now, team, delivery_id, row["tries"]))

        await transact(self.pool, work)
        return True

    async def _rows(self, statement: str, values: Any) -> list[dict[str, Any]]:
        async def work(connection: AsyncConnection[Any]) -> list[dict[str, Any]]:
            async with connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(statement, values)
                return await cursor.fetchall()

        return await transact(self.pool, work)


def _page(team: str, wanted: Wanted, limit: int, after: tuple[datetime, str] | None) -> tuple[str, list[object]]:
    """Only the conditions that are asked for, so that the index for them is the one that is used."""
    conditions: list[tuple[str, tuple[object, ...]]] = [("team_id = %s", (team,))]
    if wanted.orchestration_id is not None:
        conditions.append(("orchestration_id = %s", (wanted.orchestration_id,)))
    if wanted.status is not None:
        conditions.append(("status = %s", (wanted.status,)))
    if after is not None:
        conditions.append(("(occurred_at, id) < (%s, %s)", after))
    where = " AND ".join(condition for condition, _ in conditions)
    values = [value for _, given in conditions for value in given]
    order = "ORDER BY occurred_at DESC, id DESC LIMIT %s"
    return f"SELECT {_COLUMNS} FROM webhook_deliveries WHERE {where} {order}", [*values, limit]


def _view(row: dict[str, Any]) -> View:
    return {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> Any:
    return written(value) if isinstance(value, datetime) else value


def _cursor(row: dict[str, Any]) -> str:
    return write_cursor(row["occurred_at"], row["id"])

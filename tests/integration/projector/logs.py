"""Filling a real log, running the projector on it, and looking at all that it wrote."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import nats
import psycopg
from nats.aio.client import Client

from services.api.guard import JetStreamProbe
from services.api.projector import Pace, Projector, running
from services.api.source import JetStreamSource
from shared.envelope import Commit, encode
from shared.jetstream.topology import EVENTS, TopologySettings, event_subject, streams
from tests.support.eventually import eventually

PACE = Pace(check=0.2, standby=0.05, halted=0.2)
"""Looks at everything often, so that no test has to wait for it."""

_TABLES = {
    "event_archive": "stream, seq",
    "projection_checkpoints": "name",
    "orchestrations": "team_id, id",
    "tasks": "team_id, id",
    "agents": "team_id, attempt_id",
    "orchestration_terms": "team_id, term, created_at, id",
    "attempt_costs": "team_id, attempt_id",
}


@asynccontextmanager
async def connected_log(url: str) -> AsyncIterator[Client]:
    """A connection to a broker with the log, which is made if it is not there."""

    async def quiet(_: Exception) -> None:
        """Tests take brokers away on purpose."""

    connection = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, ping_interval=10, error_cb=quiet
    )
    try:
        await make_log(connection)
        yield connection
    finally:
        await connection.close()


async def make_log(nc: Client) -> None:
    settings = TopologySettings(events_max_bytes=256 * 1024**2)
    (config,) = (config for config in streams(settings) if config.name == EVENTS)
    await nc.jetstream().add_stream(config)


async def append(nc: Client, commits: Iterable[Commit]) -> int:
    """Put the commits at the end of the log; answers the last one's sequence."""
    sequence = 0
    for commit in commits:
        sequence = await append_raw(nc, commit, encode(commit))
    return sequence


async def append_raw(nc: Client, commit: Commit, body: bytes) -> int:
    """Put `body` at the end of the log as if it was `commit`."""
    headers = {"Nats-Msg-Id": commit.commit_id}
    ack = await nc.jetstream().publish(event_subject(commit.team, commit.aggregate), body, timeout=30, headers=headers)
    return ack.seq


def make_projector(dsn: str, nc: Client, *, on_advance: Callable[[int], None] | None = None) -> Projector:
    return Projector(dsn, JetStreamSource(nc), JetStreamProbe(nc), on_advance=on_advance, pace=PACE)


async def project(dsn: str, nc: Client) -> None:
    """Project everything that is in the log, then stop."""
    last = (await nc.jetstream().stream_info(EVENTS)).state.last_seq
    async with running(make_projector(dsn, nc)):
        await shown(dsn, last)


async def shown(dsn: str, sequence: int) -> None:
    """Wait until the read side shows everything up to `sequence`."""
    await eventually(lambda: _reached(dsn, sequence))


async def _reached(dsn: str, sequence: int) -> bool:
    return await asyncio.to_thread(checkpoint, dsn) >= sequence


def checkpoint(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT max(seq) FROM projection_checkpoints").fetchone()
    return int(row[0] or 0) if row else 0


def dump(dsn: str, *, but: Iterable[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of the read side, but for the tables `but`."""
    tables: dict[str, list[dict[str, Any]]] = {}
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        # All of it as of one moment, also while a commit is still being carried out.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for table, order in _TABLES.items():
            if table not in but:
                tables[table] = connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()
    return tables


def forget(dsn: str, *tables: str) -> None:
    """Empty these tables of the read side, all of them when none is named."""
    with psycopg.connect(dsn) as connection:
        connection.execute(f"TRUNCATE {', '.join(tables or _TABLES)}")

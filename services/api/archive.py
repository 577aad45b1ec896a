"""The second copy of the log in Postgres: the bytes of every commit, each row chained to the one before by hash."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from services.api.projections import Key
from shared.catalogue import UnknownEventError
from shared.envelope import Commit, Stored, decode, encode
from shared.jetstream.topology import event_subject

GENESIS: Final = bytes(32)
"""What the first row has in place of the hash of the one before."""

_COPY: Final = """
COPY event_archive (stream, seq, commit_id, team_id, aggregate_id, version, last_version,
                    subject, headers, body, sha256, prev_sha256, recorded_at)
FROM STDIN (FORMAT BINARY)"""
_TYPES: Final = [
    *("text", "int8", "text", "text", "text", "int8", "int8"),
    *("text", "jsonb", "bytea", "bytea", "bytea", "timestamptz"),
]
_TIP: Final = "SELECT sha256 FROM event_archive WHERE stream = %s AND seq = %s"
_HISTORIES: Final = """
SELECT a.seq, a.body
FROM unnest(%s::text[], %s::text[]) AS wanted (team_id, aggregate_id)
JOIN event_archive AS a USING (team_id, aggregate_id)
WHERE a.stream = %s AND a.seq <= %s
ORDER BY a.seq"""


class UnreadableArchiveError(Exception):
    """A row of the archive is not a commit that this release can read."""


@dataclass(frozen=True, slots=True)
class ArchiveRow:
    """One commit as it is kept, in the order of the table's columns."""

    stream: str
    sequence: int
    commit_id: str
    team: str
    aggregate: str
    version: int
    last_version: int
    subject: str
    headers: dict[str, str]
    body: bytes
    sha256: bytes
    prev_sha256: bytes
    recorded_at: datetime


def link(previous: bytes, sequence: int, subject: str, body: bytes) -> bytes:
    """The hash of a row: SHA-256 of the hash before, the sequence (8 bytes, big-endian), the subject, NUL, the body."""
    return hashlib.sha256(previous + sequence.to_bytes(8) + subject.encode() + b"\0" + body).digest()


def archive_rows(stream: str, batch: Iterable[Stored], previous: bytes) -> list[ArchiveRow]:
    """The rows of `batch`, chained behind the hash `previous`."""
    rows = []
    for stored in batch:
        row = _row(stream, stored, previous)
        rows.append(row)
        previous = row.sha256
    return rows


def _row(stream: str, stored: Stored, previous: bytes) -> ArchiveRow:
    commit = stored.commit
    subject = event_subject(commit.team, commit.aggregate)
    body = encode(commit) if stored.raw is None else stored.raw
    return ArchiveRow(
        stream=stream,
        sequence=stored.sequence,
        commit_id=commit.commit_id,
        team=commit.team,
        aggregate=commit.aggregate,
        version=commit.version,
        last_version=commit.last_version,
        subject=subject,
        headers=_headers(commit),
        body=body,
        sha256=link(previous, stored.sequence, subject, body),
        prev_sha256=previous,
        recorded_at=commit.recorded_at,
    )


def _headers(commit: Commit) -> dict[str, str]:
    """What the message must carry when it is put back; the other headers are conditions of its one append."""
    return {"Nats-Msg-Id": commit.commit_id}


async def write_archive(connection: AsyncConnection[Any], rows: Sequence[ArchiveRow]) -> None:
    """Add `rows`, in the caller's transaction.

    Raises:
        psycopg.errors.UniqueViolation: a commit, or a version of an aggregate, is there already.
    """
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            await copy.write_row(
                (
                    *(row.stream, row.sequence, row.commit_id, row.team, row.aggregate, row.version, row.last_version),
                    *(row.subject, Jsonb(row.headers, orjson.dumps), row.body, row.sha256, row.prev_sha256),
                    row.recorded_at,
                )
            )


async def archive_tip(connection: AsyncConnection[Any], stream: str, sequence: int) -> bytes | None:
    """The hash of the row `sequence`, None if there is no such row."""
    row = await (await connection.execute(_TIP, (stream, sequence))).fetchone()
    return row[0] if row else None


async def histories(connection: AsyncConnection[Any], stream: str, keys: Iterable[Key], upto: int) -> list[Stored]:
    """Every commit of these aggregates up to the sequence `upto`, in the order of the log, in one query.

    Raises:
        UnreadableArchiveError: a row was written by a newer release, or is damaged.
    """
    teams, aggregates = [], []
    for team, aggregate in keys:
        teams.append(team)
        aggregates.append(aggregate)
    cursor = await connection.execute(_HISTORIES, (teams, aggregates, stream, upto), binary=True)
    return [decoded(sequence, body) async for sequence, body in cursor]


def decoded(sequence: int, body: bytes) -> Stored:
    """The commit that a row holds.

    Raises:
        UnreadableArchiveError: it was written by a newer release, or is damaged.
    """
    try:
        return Stored(sequence, decode(body), body)
    except (ValueError, UnknownEventError) as exc:
        raise UnreadableArchiveError(f"row {sequence} of the archive is not a readable commit: {exc}") from exc

"""Writing the read side: archive, rows and checkpoint of a batch in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation

from services.api.archive import GENESIS, ArchiveRow, archive_tip, write_archive
from services.api.guard import Checkpoint, LogMismatchError
from services.api.projections import (
    Change,
    Row,
    agent_rows,
    cost_rows,
    deleted_row,
    orchestration_row,
    task_rows,
    term_rows,
)
from services.api.storable import storable_json

PROJECTION: Final = "read-side"
"""The name of this projection's checkpoint."""

CHANNEL: Final = "projection"
"""Postgres tells listeners here of every new checkpoint; the payload is its sequence."""

_PARAMETER_BYTES: Final = 4 * 1024 * 1024

_ADD_CHECKPOINT: Final = """
INSERT INTO projection_checkpoints (name, stream, seq, stream_created) VALUES (%s, %s, 0, %s)
ON CONFLICT (name) DO NOTHING"""
_READ_CHECKPOINT: Final = """
SELECT stream, seq, commit_id, stream_created FROM projection_checkpoints WHERE name = %s"""
_MOVE_CHECKPOINT: Final = """
UPDATE projection_checkpoints SET seq = %s, commit_id = %s, stream_created = %s WHERE name = %s AND seq = %s"""
_NOTIFY: Final = "SELECT pg_notify(%s, %s)"

# One parameter holds many rows as a JSON array: a statement for each table, whatever the number of rows.
_ORCHESTRATIONS: Final = """
INSERT INTO orchestrations AS old (
    team_id, id, seq, version, status, name, repository, ref, tags, created_by, created_at, updated_at, completed_at,
    words, view)
SELECT * FROM json_to_recordset(%s::json) AS new (
    team_id text, id text, seq bigint, version bigint, status text, name text, repository text, ref text,
    tags text[], created_by text, created_at timestamptz, updated_at timestamptz, completed_at timestamptz,
    words text, view json)
ON CONFLICT (team_id, id) DO UPDATE SET
    seq = excluded.seq, version = excluded.version, status = excluded.status, name = excluded.name,
    repository = excluded.repository, ref = excluded.ref, tags = excluded.tags, created_by = excluded.created_by,
    created_at = excluded.created_at, updated_at = excluded.updated_at, completed_at = excluded.completed_at,
    words = excluded.words, view = excluded.view
WHERE old.version < excluded.version"""
_NEW_TERMS: Final = """
INSERT INTO orchestration_terms
SELECT * FROM json_to_recordset(%s::json) AS new (team_id text, term text, created_at timestamptz, id text)
ON CONFLICT DO NOTHING"""
_OLD_TERMS: Final = """
DELETE FROM orchestration_terms AS held
USING json_to_recordset(%s::json) AS old (team_id text, term text, created_at timestamptz, id text)
WHERE (held.team_id, held.term, held.created_at, held.id) = (old.team_id, old.term, old.created_at, old.id)"""
_TASKS: Final = """
INSERT INTO tasks AS old
SELECT * FROM json_to_recordset(%s::json) AS new (
    team_id text, id text, orchestration_id text, position integer, status text, seq bigint, view json)
ON CONFLICT (team_id, id) DO UPDATE SET
    orchestration_id = excluded.orchestration_id, position = excluded.position, status = excluded.status,
    seq = excluded.seq, view = excluded.view
WHERE old.seq < excluded.seq"""
_AGENTS: Final = """
INSERT INTO agents AS old
SELECT * FROM json_to_recordset(%s::json) AS new (
    team_id text, attempt_id text, agent_id text, task_id text, orchestration_id text, number integer, status text,
    provider_status text, api_version text, run_id text, url text, model text, branch text, started_at timestamptz,
    ended_at timestamptz, seq bigint)
ON CONFLICT (team_id, attempt_id) DO UPDATE SET
    agent_id = excluded.agent_id, task_id = excluded.task_id, orchestration_id = excluded.orchestration_id,
    number = excluded.number, status = excluded.status, provider_status = excluded.provider_status,
    api_version = excluded.api_version, run_id = excluded.run_id, url = excluded.url, model = excluded.model,
    branch = excluded.branch, started_at = excluded.started_at, ended_at = excluded.ended_at, seq = excluded.seq
WHERE old.seq < excluded.seq"""

# The rows of agents stay: what they cost is still counted, and messages about them still find where they belong.
_GONE: Final = """
DELETE FROM orchestrations AS old
USING json_to_recordset(%s::json) AS gone (team_id text, id text)
WHERE old.team_id = gone.team_id AND old.id = gone.id"""
_GONE_TASKS: Final = """
DELETE FROM tasks AS old
USING json_to_recordset(%s::json) AS gone (team_id text, id text)
WHERE old.team_id = gone.team_id AND old.orchestration_id = gone.id"""

_COSTS: Final = """
INSERT INTO attempt_costs AS old
SELECT * FROM json_to_recordset(%s::json) AS new (
    team_id text, attempt_id text, task_id text, orchestration_id text, repository text, model text,
    ended_at timestamptz, failed boolean, duration_ms bigint, cost numeric, seq bigint)
ON CONFLICT (team_id, attempt_id) DO UPDATE SET
    task_id = excluded.task_id, orchestration_id = excluded.orchestration_id, repository = excluded.repository,
    model = excluded.model, ended_at = excluded.ended_at, failed = excluded.failed,
    duration_ms = excluded.duration_ms, cost = excluded.cost, seq = excluded.seq
WHERE old.seq < excluded.seq"""


class FencedError(Exception):
    """Somebody else moved the checkpoint: this process does not lead any more; nothing was written."""


class ReadSide:
    """The read side as its one writer sees it. Holds the connection's checkpoint and the tip of the archive.

    Args:
        connection: in autocommit mode; nobody else uses it.
        name: of the projection; `stream`: the log that it is built from.
    """

    def __init__(self, connection: AsyncConnection[Any], *, name: str, stream: str) -> None:
        self._connection = connection
        self._name = name
        self._stream = stream
        self._tip = GENESIS

    async def open(self, fresh: Checkpoint) -> Checkpoint:
        """The checkpoint, which is `fresh` before the first batch.

        Raises:
            LogMismatchError: the read side was built from another stream, or the archive lacks the checkpoint's commit.
        """
        await self._connection.execute(_ADD_CHECKPOINT, (self._name, self._stream, fresh.stream_created))
        stream, checkpoint = await self._read()
        if stream != self._stream:
            raise LogMismatchError(f"the read side was built from stream {stream}, not from {self._stream}")
        if checkpoint.sequence == 0:
            self._tip = GENESIS
            return fresh
        tip = await archive_tip(self._connection, self._stream, checkpoint.sequence)
        if tip is None:
            raise LogMismatchError(f"the archive lacks the commit at the checkpoint {checkpoint.sequence}")
        self._tip = tip
        return checkpoint

    @property
    def tip(self) -> bytes:
        """The hash behind which the next row of the archive is chained."""
        return self._tip

    async def confirm(self, checkpoint: Checkpoint) -> None:
        """Make sure that the connection lives and that nobody moved the checkpoint.

        Raises:
            FencedError: somebody did.
        """
        _, found = await self._read()
        if found.sequence != checkpoint.sequence:
            raise FencedError(f"the checkpoint is at {found.sequence}, expected at {checkpoint.sequence}")

    async def write(
        self, before: Checkpoint, after: Checkpoint, archive: Sequence[ArchiveRow], changes: Sequence[Change]
    ) -> None:
        """Everything that a batch leads to, or nothing.

        The checkpoint is moved first: of two writers the second waits here for the first, and is told.

        Raises:
            FencedError: the checkpoint is not at `before`.
            LogMismatchError: the log gives a commit for the second time, at another place.
            psycopg.Error: not written, or, if the connection broke during the commit, perhaps written.
        """
        async with self._connection.transaction():
            await self._move(before, after)
            try:
                await write_archive(self._connection, archive)
            except UniqueViolation as exc:
                raise LogMismatchError(
                    f"the log holds a commit twice, between {before.sequence + 1} and {after.sequence}: "
                    f"{exc.diag.message_detail or exc.diag.constraint_name}"
                ) from exc
            await write_rows(self._connection, changes)
            await self._connection.execute(_NOTIFY, (CHANNEL, str(after.sequence)))
        self._tip = archive[-1].sha256

    async def _read(self) -> tuple[str, Checkpoint]:
        row = await (await self._connection.execute(_READ_CHECKPOINT, (self._name,))).fetchone()
        if row is None:
            raise FencedError("the checkpoint is gone")
        stream, *values = row
        return stream, Checkpoint(*values)

    async def _move(self, before: Checkpoint, after: Checkpoint) -> None:
        values = (after.sequence, after.commit_id, after.stream_created, self._name, before.sequence)
        cursor = await self._connection.execute(_MOVE_CHECKPOINT, values)
        if cursor.rowcount != 1:
            raise FencedError(f"the checkpoint is not at {before.sequence} any more")


async def write_rows(connection: AsyncConnection[Any], changes: Sequence[Change]) -> None:
    """Bring every table of rows to where `changes` lead, in the caller's transaction."""
    shown = [change for change in changes if not change.state.deleted]
    gone = [deleted_row(change) for change in changes if change.state.deleted]
    terms = [term_rows(change) for change in changes]
    async with connection.pipeline():
        await _send(connection, _ORCHESTRATIONS, [orchestration_row(change) for change in shown])
        await _send(connection, _TASKS, [row for change in shown for row in task_rows(change)])
        await _send(connection, _AGENTS, [row for change in changes for row in agent_rows(change)])
        await _send(connection, _COSTS, [row for change in changes for row in cost_rows(change)])
        await _send(connection, _OLD_TERMS, [row for _, old in terms for row in old])
        await _send(connection, _NEW_TERMS, [row for new, _ in terms for row in new])
        await _send(connection, _GONE, gone)
        await _send(connection, _GONE_TASKS, gone)


async def _send(connection: AsyncConnection[Any], statement: str, rows: Iterable[Row]) -> None:
    for array in json_arrays(rows):
        await connection.execute(statement, (array,))


def json_arrays(rows: Iterable[Row], limit: int = _PARAMETER_BYTES) -> Iterator[str]:
    """The rows as JSON arrays of about `limit` bytes at most; a row that is larger stands alone."""
    pending: list[bytes] = []
    size = 0
    for row in rows:
        text = storable_json(row)
        if pending and size + len(text) > limit:
            yield _array(pending)
            pending, size = [], 0
        pending.append(text)
        size += len(text)
    if pending:
        yield _array(pending)


def _array(items: Sequence[bytes]) -> str:
    return (b"[" + b",".join(items) + b"]").decode()

"""The commits of one orchestration, oldest first: from the archive as far as it reaches, and behind it from the log."""

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from services.api.archive import decoded
from services.api.newest import Newest, read_up_to
from shared.envelope import Stored, encode
from shared.jetstream.topology import EVENTS
from shared.ports import EventLog
from shared.postgres.pool import Pool, transact

_log = logging.getLogger(__name__)

_PAGE: Final = 64
"""Commits in hand at once: a commit has at most 512 KiB, so this bounds the memory of whoever reads a long history."""

# Where `after` is a commit of this orchestration, as it is from page to page, its version is looked up by the key, so
# that the index leads right to the next one and no page costs more than the first.
_COMMITS: Final = """
SELECT seq, body FROM event_archive
WHERE team_id = %(team)s AND aggregate_id = %(id)s AND seq > %(after)s AND version > coalesce(
    (SELECT CASE WHEN team_id = %(team)s AND aggregate_id = %(id)s THEN last_version END
     FROM event_archive WHERE stream = %(stream)s AND seq = %(after)s), 0)
ORDER BY version LIMIT %(limit)s"""


@dataclass(frozen=True, slots=True)
class Kept:
    """One commit as it is kept: its sequence and its bytes."""

    sequence: int
    body: bytes

    def decoded(self) -> Stored:
        """Raises UnreadableArchiveError when a newer release wrote it, or it is damaged."""
        return decoded(self.sequence, self.body)


class History:
    """Reads histories, so that every commit that this process has heard of is in them.

    No connection is held between two pages, however slowly they are asked for.

    Args:
        newest: what this process knows of the log.
    """

    def __init__(self, pool: Pool, log: EventLog, newest: Newest) -> None:
        self._pool = pool
        self._log = log
        self._newest = newest

    async def commits(
        self, team: str, orchestration_id: str, *, after: int = 0, known: int = 0
    ) -> AsyncGenerator[Kept, None]:
        """Every commit above the sequence `after`, a page at a time in memory; none where there is no history.

        Args:
            known: a sequence that the log has come to, for all that this process has heard.

        Raises:
            LogUnavailableError: the archive is behind or away, and so is the log.
        """
        while page := await self.page(team, orchestration_id, after=after, limit=_PAGE, known=known):
            for kept in page:
                yield kept
            after = page[-1].sequence

    async def page(self, team: str, orchestration_id: str, *, after: int, limit: int, known: int = 0) -> list[Kept]:
        """The first `limit` commits above `after`; fewer only where there are no more. See `commits`."""
        heard = max(known, self._newest.of(team, orchestration_id))
        try:
            page = await self._archived(team, orchestration_id, after, limit)
        except psycopg.OperationalError as exc:
            _log.warning("Reading a history from the log, for the database is away: %s", type(exc).__name__)
            return await self._logged(team, orchestration_id, after, limit, heard)
        last = page[-1].sequence if page else after
        if len(page) < limit and last < heard:
            page += await self._logged(team, orchestration_id, last, limit - len(page), heard)
        return page

    async def _archived(self, team: str, orchestration_id: str, after: int, limit: int) -> list[Kept]:
        values = {"team": team, "id": orchestration_id, "after": after, "stream": EVENTS, "limit": limit}

        async def work(connection: AsyncConnection[Any]) -> list[Kept]:
            cursor = await connection.execute(_COMMITS, values, binary=True)
            return [Kept(sequence, body) async for sequence, body in cursor]

        return await transact(self._pool, work)

    async def _logged(self, team: str, orchestration_id: str, after: int, limit: int, heard: int) -> list[Kept]:
        """The same from the log."""

        async def read() -> list[Stored]:
            return await self._log.page(team, orchestration_id, after=after, limit=limit)

        page = await read_up_to(heard, read, after=after, limit=limit)
        return [Kept(stored.sequence, stored.raw or encode(stored.commit)) for stored in page]

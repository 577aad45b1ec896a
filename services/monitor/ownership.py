"""Which agents our own rows claim: where to look in the log, which alone says whether a claim holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from psycopg import AsyncConnection

from shared import failpoints
from shared.postgres.pool import Pool, transact

# A branch is the only trace of an agent whose id we were never told (v0); once we know one, it is no claim on others.
_CLAIMS: Final = """
SELECT team_id, orchestration_id, agent_id, NULL AS branch FROM agents WHERE agent_id = ANY(%(ids)s)
UNION
SELECT team_id, orchestration_id, NULL, branch FROM agents
WHERE provider_status IS NULL AND branch = ANY(%(branches)s)"""
_LIVE: Final = """
SELECT team_id, id FROM orchestrations
WHERE status IN ('ACTIVE', 'PAUSED', 'CANCELLING') AND (%(team)s::text IS NULL OR team_id = %(team)s)
ORDER BY team_id, id"""


@dataclass(frozen=True, slots=True)
class Claim:
    """An orchestration that has, or may have, an agent: by its id or by its branch."""

    team: str
    orchestration_id: str
    agent_id: str | None
    branch: str | None


class Ownership(Protocol):
    """What was ever launched. It may lag behind the log, so that an agent of ours may seem to be nobody's for a while,
    and never the other way round."""

    async def of(self, agent_ids: Sequence[str], branches: Sequence[str]) -> list[Claim]:
        """Who claims any of these agents.

        Raises:
            psycopg.Error: the database is away, or older than this release.
        """

    async def live(self, team: str | None) -> list[tuple[str, str]]:
        """Team and id of the orchestrations, of one team or of all, that are not over. Raises as `of` does."""


@dataclass(frozen=True, slots=True)
class PostgresOwnership:
    pool: Pool

    @failpoints.around("ownership.of")
    async def of(self, agent_ids: Sequence[str], branches: Sequence[str]) -> list[Claim]:
        async def work(connection: AsyncConnection[Any]) -> list[Claim]:
            found = await connection.execute(_CLAIMS, {"ids": list(agent_ids), "branches": list(branches)})
            return [Claim(*row) for row in await found.fetchall()]

        return await transact(self.pool, work)

    @failpoints.around("ownership.live")
    async def live(self, team: str | None) -> list[tuple[str, str]]:
        async def work(connection: AsyncConnection[Any]) -> list[tuple[str, str]]:
            found = await connection.execute(_LIVE, {"team": team})
            return [(owner, orchestration_id) for owner, orchestration_id in await found.fetchall()]

        return await transact(self.pool, work)

"""The queue of a team: what waits and why, holding it, and what could not be handled."""

from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection

from shared.jetstream.dead import DeadLetter, DeadLetters
from shared.postgres.pool import Pool, transact
from shared.queue_control import QueueSwitch
from shared.views import View

MOST: Final = 1000
"""Parked messages that one request looks at."""

_TASKS: Final = """
SELECT status, view ->> 'waiting_for', view ->> 'priority', count(*) FROM tasks
WHERE team_id = %s AND status IN ('PENDING', 'PROCESSING')
  AND (status = 'PROCESSING' OR view ->> 'waiting_for' IS NOT NULL)
GROUP BY 1, 2, 3"""


@dataclass(frozen=True, slots=True)
class Handled:
    """How many parked messages were put back or thrown away, and how many can only be thrown away."""

    done: int
    kept: int


@dataclass(frozen=True, slots=True)
class TeamQueue:
    """May raise psycopg.OperationalError or PublishUnavailableError: the database or the broker is away."""

    pool: Pool
    switch: QueueSwitch
    dead: DeadLetters

    async def stats(self, team: str) -> View:
        """How many tasks run and wait, by priority and by what they wait for; how many messages are parked."""

        async def work(connection: AsyncConnection[Any]) -> list[tuple[str, str | None, str, int]]:
            return await (await connection.execute(_TASKS, (team,))).fetchall()

        rows = await transact(self.pool, work)
        reasons = sorted({reason for _, reason, _, _ in rows if reason is not None})
        waiting = [(reason, priority, count) for _, reason, priority, count in rows if reason is not None]
        return {
            "held": await self.switch.is_held(team),
            "running": sum(count for status, reason, _, count in rows if status == "PROCESSING" and reason is None),
            "waiting": sum(count for _, _, count in waiting),
            "waiting_by_priority": {level: _sum(waiting, 1, level) for level in ("high", "medium", "low")},
            "waiting_for": {reason: _sum(waiting, 0, reason) for reason in reasons},
            "failed": len(await self._parked(team)),
        }

    async def retry_failed(self, team: str) -> Handled:
        """Put the parked messages of the team back where they came from."""
        letters = await self._parked(team)
        back = [letter for letter in letters if letter.can_go_back]
        for letter in back:
            await self.dead.put_back(letter)
        return Handled(len(back), len(letters) - len(back))

    async def clear_failed(self, team: str) -> Handled:
        """Throw the parked messages of the team away."""
        letters = await self._parked(team)
        for letter in letters:
            await self.dead.drop(letter)
        return Handled(len(letters), 0)

    async def _parked(self, team: str) -> list[DeadLetter]:
        return [letter async for letter in self.dead.of(team, most=MOST)]


def _sum(waiting: list[tuple[str, str, int]], place: int, value: str) -> int:
    return sum(row[2] for row in waiting if row[place] == value)

"""The roll: one list of the account's agents, which tells whom to look at where there are too many to look at each.

A hundred agents on a page cost one call. What the list says of an agent is a hint, like a webhook: one that it shows
at rest is looked at, and of every other one it is only taken that the look can wait.
"""

import asyncio
import logging
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.cursor.errors import ProviderError
from shared.cursor.provider import Provider
from shared.ports import Clock

_log = logging.getLogger(__name__)

_PAGE = 100  # agents
_FRESH_SECONDS = 15.0


@dataclass(slots=True)
class Roll:
    """`per_minute`: pages that this process may read, 0 for no limit."""

    provider: Provider
    clock: Clock
    per_minute: float = 0.0
    is_readable: bool = True
    """As far as is known: if the list could not be read when it was tried last, it tells of nobody."""
    _at_rest: frozenset[str] = frozenset()
    _again_at: datetime | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def shows_at_rest(self, agent_id: str, agents: int) -> bool:
        """Whether the agent has ended by a list that is some seconds old, and older only while a new one is read: that
        may take minutes, and must not keep whoever asks from an agent that is to stop.

        Args:
            agents: how many are at work; the list is read as far as those are likely to stand in it.
        """
        if not self.lock.locked() and (self._again_at is None or self.clock.now() >= self._again_at):
            async with self.lock:
                await self._read(pages=math.ceil(agents / _PAGE) + 1)
        return agent_id in self._at_rest

    async def _read(self, pages: int) -> None:
        pause = max(_FRESH_SECONDS, pages * 60.0 / self.per_minute if self.per_minute else 0.0)
        try:
            self._at_rest = await self._those_at_rest(pages)
            self.is_readable = True
        except ProviderError as error:
            _log.info("The list of agents cannot be read, each is looked at: %s", error)
            self._at_rest, self.is_readable = frozenset(), False
            pause = max(pause, error.retry_after or 0.0)
        self._again_at = self.clock.now() + timedelta(seconds=pause)

    async def _those_at_rest(self, pages: int) -> frozenset[str]:
        found: set[str] = set()
        cursor: str | None = None
        for _ in range(pages):
            page = await self.provider.list_agents(cursor)
            found.update(agent.agent_id for agent in page.agents if agent.is_at_rest)
            cursor = page.next_cursor
            if cursor is None:
                break
        return frozenset(found)

"""Reading the provider without haste: everybody else's calls come first, and the whole list is read or nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from shared.cursor.errors import ProviderError
from shared.cursor.provider import ListedAgent, Provider
from shared.cursor.refusals import RATE_LIMIT_EXCEEDED
from shared.ports import Clock

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Agents that were created earlier are not looked through: an account keeps thousands of them.
_REACH: Final = timedelta(days=30)
_PAGES: Final = 1000
_TRIES: Final = 30
_PAUSE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Census:
    provider: Provider
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def agents(self) -> list[ListedAgent]:
        """All agents of the account, whoever made them, that were created within the last 30 days; each once.

        Raises:
            ProviderError: a page could not be read.
        """
        oldest = self.clock.now() - _REACH
        found: dict[str, ListedAgent] = {}
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await self.patiently(partial(self.provider.list_agents, cursor))
            for agent in page.agents:
                found.setdefault(agent.agent_id, agent)  # the list may shift while it is read
            cursor = page.next_cursor
            # A page that shows nobody, for all of it is gone or odd, says nothing of those behind it.
            is_past = page.agents and all(agent.created_at and agent.created_at < oldest for agent in page.agents)
            if cursor is None or is_past:
                return list(found.values())
        _log.error("The list of agents does not end within %d pages; the rest was not looked through", _PAGES)
        return list(found.values())

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's answer, however long the limit of calls keeps it waiting. Raises what the call raises."""
        for _ in range(_TRIES):
            try:
                return await call()
            except ProviderError as error:
                if error.code != RATE_LIMIT_EXCEEDED or error.billing:
                    raise
                await self.sleep(error.retry_after or _PAUSE_SECONDS)
        return await call()

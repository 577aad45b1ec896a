"""How many agents are watched over the whole installation: all of them together have to keep to one limit."""

import asyncio
import logging

from nats.aio.client import Client
from nats.errors import Error as NatsError

from shared import failpoints
from shared.jetstream.topology import WATCH

_log = logging.getLogger(__name__)

_EVERY_SECONDS = 10.0


class Crowd:
    """`size` is as of some seconds ago; while it cannot be counted, what it was."""

    def __init__(self, nc: Client, *, every: float = _EVERY_SECONDS) -> None:
        self.size = 0
        self._manager = nc.jsm(timeout=every)
        self._every = every

    async def keep_counting(self) -> None:
        """Runs for ever. WATCH has one message for each live agent; of the few that are looked at in a hurry, two."""
        while True:
            try:
                self.size = await self._count()
            except (NatsError, TimeoutError) as exc:
                _log.warning("Could not count the agents that are watched: %r", exc)
            await asyncio.sleep(self._every)

    @failpoints.around("count_watched")
    async def _count(self) -> int:
        return (await self._manager.stream_info(WATCH)).state.messages

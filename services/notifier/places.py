"""How much is sent at a time: few to one host, so that a slow one delays nobody else."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class HostBusyError(Exception):
    """As many as may wait for a place at this host are waiting already."""


class Places:
    """`per_host` and `total` bound what is in flight; `waiting` bounds who waits for one host.

    Without the last one a host that hangs would in time hold every worker there is.
    """

    def __init__(self, *, per_host: int = 10, total: int = 100, waiting: int = 10) -> None:
        self._per_host = per_host
        self._waiting = waiting
        self._total = asyncio.Semaphore(total)
        self._hosts: dict[str, asyncio.Semaphore] = {}
        self._here: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, host: str) -> AsyncIterator[None]:
        """Hold a place inside.

        Raises:
            HostBusyError: come again later.
        """
        if self._here[host] >= self._per_host + self._waiting:
            raise HostBusyError(f"{self._here[host]} deliveries to {host} are under way")
        self._here[host] += 1
        try:
            async with self._hosts.setdefault(host, asyncio.Semaphore(self._per_host)), self._total:
                yield
        finally:
            self._leave(host)

    def _leave(self, host: str) -> None:
        self._here[host] -= 1
        if not self._here[host]:
            del self._here[host], self._hosts[host]

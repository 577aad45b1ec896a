"""How well the parts are that the api depends on: the answer of `/health`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from nats.aio.client import Client
from nats.errors import Error as NatsError

from services.api.queries import Queries
from shared.cursor.errors import ProviderError
from shared.cursor.provider import Account
from shared.ending import end
from shared.jetstream.topology import COMMANDS, DISPATCHER_COMMANDS
from shared.moments import written
from shared.observability.health import Check
from shared.ports import Clock
from shared.views import View

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 2.0
_PROVIDER_SECONDS: Final = 30.0
_SECOND_LOOK_SECONDS: Final = 0.25


class ProviderCheck:
    """Whether the provider takes our key, asked at most every 30 s and never waited for longer than 2 s."""

    def __init__(self, ask: Callable[[], Awaitable[Account]], *, now: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._now = now
        self._known: Check | None = None
        self._due = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def check(self) -> Check:
        if self._asking is None and (self._known is None or self._now() >= self._due):
            self._asking = asyncio.create_task(self._fetch(), name="provider-check")
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=_PATIENCE_SECONDS)
        if self._asking is not None:
            return Check(False, f"no answer within {_PATIENCE_SECONDS:g} s")
        return self._known or Check(False, "not asked yet")

    async def _fetch(self) -> None:
        try:
            await self._ask()
            self._known = Check(True)
        except ProviderError as exc:
            # The answer is open to everybody, and the error may hold addresses and the provider's own words.
            _log.warning("The provider does not answer as it should: %s", exc, extra={"code": exc.code})
            self._known = Check(False, f"does not answer as it should ({exc.code})")
        finally:
            self._due = self._now() + _PROVIDER_SECONDS
            self._asking = None

    async def aclose(self) -> None:
        if self._asking is not None:
            await end(self._asking)


@dataclass(frozen=True, slots=True)
class Health:
    """Asks everything at once. `durable`: whether the broker keeps what it acknowledged through a power cut."""

    nc: Client
    queries: Queries
    provider: ProviderCheck
    clock: Clock
    durable: bool
    started: float

    async def report(self) -> tuple[bool, View]:
        """Whether requests can be served at all, and the body that says so in detail."""
        names = ("database", "queue", "cursorApi", "worker")
        checks = (self._database(), self._queue(), self.provider.check(), self._worker())
        results = dict(zip(names, await asyncio.gather(*(_timed(check) for check in checks)), strict=True))
        serving = results["database"]["status"] == results["queue"]["status"] == "pass"
        well = self.durable and all(result["status"] == "pass" for result in results.values())
        return serving, {
            "status": "healthy" if well else "degraded" if serving else "unhealthy",
            "timestamp": written(self.clock.now()),
            "uptime": round(time.monotonic() - self.started, 3),
            "checks": results,
        }

    async def _database(self) -> Check:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):  # sooner than a request would give up on it
                await self.queries.ping()
        except (psycopg.Error, TimeoutError) as exc:
            return Check(False, f"does not answer ({type(exc).__name__})")
        return Check(True)

    async def _queue(self) -> Check:
        if not self.nc.is_connected:
            return Check(False, "not connected to the broker")
        try:
            await self.nc.jsm(timeout=_PATIENCE_SECONDS).account_info()
        except (NatsError, TimeoutError) as exc:
            return Check(False, f"the broker does not answer ({type(exc).__name__})")
        return Check(True, "" if self.durable else "the broker may lose what it acknowledged in a power cut")

    async def _worker(self) -> Check:
        """Whether a dispatcher waits for commands; looked at twice, for between two pulls none does."""
        if not self.nc.is_connected:
            return Check(False, "not known without the broker")
        try:
            if await self._pulls() or await self._pulls_a_little_later():
                return Check(True)
        except (NatsError, TimeoutError) as exc:
            return Check(False, f"not known ({type(exc).__name__})")
        return Check(False, "no dispatcher waits for commands")

    async def _pulls(self) -> int:
        manager = self.nc.jsm(timeout=_PATIENCE_SECONDS)
        info = await manager.consumer_info(COMMANDS, DISPATCHER_COMMANDS.name)
        return info.num_waiting or 0

    async def _pulls_a_little_later(self) -> int:
        await asyncio.sleep(_SECOND_LOOK_SECONDS)
        return await self._pulls()


async def _timed(checking: Awaitable[Check]) -> dict[str, Any]:
    """The outcome in its form for `/health`; `responseTime` in milliseconds."""
    begun = time.monotonic()
    try:
        check = await asyncio.wait_for(checking, 3 * _PATIENCE_SECONDS)
    except TimeoutError:
        check = Check(False, "no answer in time")
    return {
        "status": "pass" if check.ok else "fail",
        "responseTime": round((time.monotonic() - begun) * 1000, 1),
        "message": check.message,
    }

"""Sweeps that are asked for: the request comes by core NATS, one monitor of all answers it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.monitor.sweep import OUTSIDE, Sweeper
from shared.cursor.errors import ProviderError
from shared.ending import end
from shared.jetstream.errors import PublishUnavailableError
from shared.jetstream.replies import send_reply
from shared.sweeping import MONITORS, SWEEP_SUBJECT, SweepAnswer, SweepRequest

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class AskedSweeps:
    """Args: sweeper: None where this monitor cannot sweep; then it says so."""

    nc: Client
    sweeper: Sweeper | None
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Requests are answered inside; who still waits on leaving is left without an answer."""
        subscription = await self.nc.subscribe(SWEEP_SUBJECT, queue=MONITORS, cb=self._on_request)
        try:
            yield
        finally:
            if self.nc.is_connected:
                await subscription.unsubscribe()
            await end(*self._under_way)

    async def _on_request(self, message: Msg) -> None:
        # In a task of its own: the next one shall not wait until this one, which may take minutes, is done.
        task = asyncio.create_task(self._answer(message), name="asked-sweep")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(self, message: Msg) -> None:
        answer = await self.answer(message.data)
        try:
            await send_reply(self.nc, message.reply, answer.encode())
        except PublishUnavailableError as exc:
            _log.warning("The report of a sweep could not be sent: %s", exc)

    async def answer(self, body: bytes) -> SweepAnswer:
        """The report, or why there is none."""
        if self.sweeper is None:
            return _failed("SERVICE_UNAVAILABLE", "the monitor has no DATABASE_URL, by which it knows whose agents are")
        try:
            request = SweepRequest.decode(body)
            return SweepAnswer(await self.sweeper.sweep(team=request.team, dry_run=request.dry_run))
        except ValueError as exc:
            _log.error("A request for a sweep cannot be read: %s", exc)
            return _failed("INTERNAL_ERROR", "the monitor does not understand the request")
        except OUTSIDE as exc:
            _log.warning("The sweep that was asked for was not finished: %s", exc)
            if isinstance(exc, ProviderError):
                return _failed("CURSOR_API_ERROR", f"the list of agents could not be read ({exc.code})")
            return _failed("SERVICE_UNAVAILABLE", "the database or the message broker does not answer the monitor")
        except Exception as exc:
            _log.error("The sweep that was asked for crashed", exc_info=exc)
            return _failed("INTERNAL_ERROR", "something went wrong in the monitor")


def _failed(code: str, message: str) -> SweepAnswer:
    return SweepAnswer(error_code=code, error_message=message)

"""Audit of the slots: one whose attempt has ended is given back, however that came to be missed."""

import asyncio
import logging
from dataclasses import dataclass

from services.dispatcher.slots import SlotPool
from shared.command_handler import CommandHandler
from shared.jetstream.errors import PublishUnavailableError
from shared.messages import Ticket
from shared.ports import LogUnavailableError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlotAudit:
    handler: CommandHandler
    slots: SlotPool

    async def run(self, every_seconds: float) -> None:
        """Look through the slots for ever."""
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await self.look_through()
            except (LogUnavailableError, PublishUnavailableError) as exc:
                _log.warning("The slots could not be looked through, trying again later: %s", exc)

    async def look_through(self) -> None:
        """Give back every slot whose attempt has ended or never was."""
        for ticket in self.slots.holders():
            if not await self._is_active(ticket):
                _log.warning("Gave back a slot of attempt %s, which has ended", ticket.attempt_id)
                await self.slots.release(ticket)

    async def _is_active(self, ticket: Ticket) -> bool:
        state = (await self.handler.load(ticket.team, ticket.orchestration_id)).state
        found = state.find_attempt(ticket.attempt_id) if state else None
        return found is not None and found[1].is_active

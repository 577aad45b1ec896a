"""Audit of the slots: one whose attempt has ended is given back, however that came to be missed, and an attempt that
holds one is launched or followed, should the message that sees to that have been lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.dispatcher.slots import SlotPool
from shared.command_handler import CommandHandler, HistoryError
from shared.domain.state import Orchestration
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError, UnreadableCommitError
from shared.messages import Ticket
from shared.ports import LogUnavailableError

_log = logging.getLogger(__name__)


Follow = Callable[[Orchestration, str], Awaitable[None]]
"""Makes sure that an attempt, named by its id, is launched or followed."""


@dataclass(frozen=True, slots=True)
class SlotAudit:
    handler: CommandHandler
    slots: SlotPool
    follow: Follow

    async def run(self, every_seconds: float) -> None:
        """Look through the slots for ever."""
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await self.look_through()
            except (LogUnavailableError, PublishUnavailableError, PublishRefusedError) as exc:
                _log.warning("The slots could not be looked through, trying again later: %s", exc)

    async def look_through(self) -> None:
        """Give back every slot whose attempt has ended or never was; see to it that the others have what they need.

        One whose history cannot be read is passed over: while a release replaces another, it is for the newer one.
        """
        for ticket in self.slots.holders():
            try:
                await self._look_at(ticket)
            except (UnreadableCommitError, HistoryError) as exc:
                _log.error("Cannot tell whether attempt %s needs its slot: %s", ticket.attempt_id, exc)

    async def _look_at(self, ticket: Ticket) -> None:
        state = (await self.handler.load(ticket.team, ticket.orchestration_id)).state
        if state is not None and _is_active(state, ticket):
            await self.follow(state, ticket.attempt_id)
        else:
            _log.warning("Gave back a slot of attempt %s, which has ended", ticket.attempt_id)
            await self.slots.release(ticket)


def _is_active(state: Orchestration, ticket: Ticket) -> bool:
    found = state.find_attempt(ticket.attempt_id)
    return found is not None and found[1].is_active

"""Timers: time has passed for an orchestration, so it is looked at again."""

from dataclasses import dataclass

from shared.command_handler import Cause, CommandHandler
from shared.domain.commands import Tick
from shared.domain.errors import Refusal
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.messages import Wake
from shared.ports import Clock, Ids

_LOOK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DueTimers:
    handler: CommandHandler
    clock: Clock
    ids: Ids

    async def on_due(self, delivery: Delivery) -> None:
        """Let the orchestration go on with what is due by now."""
        try:
            wake = Wake.decode(delivery.data)
        except ValueError as exc:
            raise Poison(str(exc)) from exc
        early = (wake.due_time - self.clock.now()).total_seconds()
        if early > 0:
            # The broker's clock is ahead of ours, by however much.
            raise Later(min(early, _LOOK_AGAIN_SECONDS), "not due yet")
        command_id = self.ids.new()
        cause = Cause(command_id, command_id, "timer")
        try:
            await self.handler.handle(wake.team, wake.orchestration_id, Tick(), cause)
        except Refusal as refusal:
            raise Poison(refusal.message) from refusal

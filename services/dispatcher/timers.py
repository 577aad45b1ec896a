"""Timers: time has passed for an orchestration, so it is looked at again."""

from dataclasses import dataclass

from shared.command_handler import Cause, CommandHandler
from shared.domain.commands import Tick
from shared.domain.errors import Refusal
from shared.domain.readiness import next_due
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.messages import Wake
from shared.ports import Clock, Ids


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
        command_id = self.ids.new()
        cause = Cause(command_id, command_id, "timer")
        try:
            decided = await self.handler.handle(wake.team, wake.orchestration_id, Tick(), cause)
        except Refusal as refusal:
            raise Poison(refusal.message) from refusal
        due = next_due(decided.state) if decided.state and not decided.events else None
        early = (due - self.clock.now()).total_seconds() if due else 0.0
        if 0 < early < 1:
            # The broker's clock is ahead of ours: what this timer was set for is not due here yet.
            raise Later(early, "due in a moment")

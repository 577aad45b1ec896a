"""Timers: time has passed for an orchestration, so it is looked at again."""

import logging
from dataclasses import dataclass

from shared.command_handler import Cause, CommandHandler
from shared.cron import last_time
from shared.domain.commands import FireSchedule, Tick
from shared.domain.errors import Refusal
from shared.domain.ids import derive_id
from shared.domain.schedule import is_scheduled
from shared.domain.state import Orchestration
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.messages import Wake
from shared.ports import Clock, Ids

_log = logging.getLogger(__name__)

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
            decided = await self.handler.handle(wake.team, wake.orchestration_id, Tick(), cause)
        except Refusal as refusal:
            raise Poison(refusal.message) from refusal
        if decided.state is not None and is_scheduled(decided.state):
            await self._fire(decided.state)

    async def _fire(self, state: Orchestration) -> None:
        """Only for the last time that has come: what was missed while nothing ran here is not made up for."""
        schedule, runs = state.spec.schedule, state.runs
        if schedule is None or runs is None or (due := last_time(schedule, runs.after, self.clock.now())) is None:
            return
        due_at, skipped = due
        if skipped:
            _log.warning("The schedule was missed %d times", skipped, extra={"orchestration": state.id})
        command_id = derive_id("fire", state.id, due_at.isoformat())
        cause = Cause(command_id, command_id, "schedule")
        await self.handler.handle(state.team, state.id, FireSchedule(due_at=due_at, skipped=skipped), cause)

"""Schedules: a timer for the next time, and an orchestration for each time that has come."""

import logging
from dataclasses import dataclass

from shared.command_handler import Cause, CommandHandler
from shared.cron import next_time
from shared.domain.commands import RecordScheduledRun
from shared.domain.ids import derive_id
from shared.domain.plan import CreateRun, KeepSchedule
from shared.domain.schedule import run_of
from shared.domain.state import Orchestration
from shared.jetstream.timers import Timers
from shared.messages import Wake

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedules:
    handler: CommandHandler
    timers: Timers

    async def keep(self, state: Orchestration, action: KeepSchedule) -> None:
        """Each time has a timer of its own, so that an older plan cannot undo a newer one."""
        due_at = next_time(action.schedule, action.after)
        if due_at is None:
            _log.warning("The schedule never comes due again")
            return
        payload = Wake(state.team, state.id, due_at.isoformat()).encode()
        moment = str(round(due_at.timestamp() * 1000))
        await self.timers.set(state.team, state.id, moment, due_at=due_at, payload=payload)

    async def create_run(self, state: Orchestration, action: CreateRun) -> None:
        """The ids follow from the firing, so creating it again creates nothing."""
        command = run_of(state, action.run_id)
        created = Cause(derive_id("create", action.run_id), action.run_id, "schedule")
        decided = await self.handler.handle(state.team, action.run_id, command, created)
        if decided.events:
            _log.info("A run of the schedule was created", extra={"run": action.run_id})
        recorded = Cause(derive_id("record", action.run_id), action.run_id, "schedule")
        await self.handler.handle(state.team, state.id, RecordScheduledRun(run_id=action.run_id), recorded)

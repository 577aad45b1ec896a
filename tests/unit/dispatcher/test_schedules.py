"""Schedules: one orchestration for each time that comes, however often anything happens twice or dies in between."""

from datetime import datetime, timedelta

import pytest

from services.dispatcher.schedules import Schedules
from services.dispatcher.timers import DueTimers
from shared.command_handler import Cause, CommandHandler
from shared.domain import commands as cmd
from shared.domain.errors import Refusal
from shared.domain.events import OrchestrationStatus, Schedule, ScheduleFired
from shared.domain.plan import CreateRun, KeepSchedule, plan
from shared.domain.state import Orchestration
from shared.jetstream.consumer import Delivery
from shared.memory import ManualClock, MemoryEventLog, SequentialIds
from shared.messages import Wake
from shared.system import RandomIds
from tests.support.orchestrations import ORCHESTRATION, T0, TEAM, after, create, make_task

HOURLY = Schedule(cron="0 0 * * * *")


class SetTimers:
    """Remembers when each timer is due."""

    def __init__(self) -> None:
        self.due: list[datetime] = []

    async def set(self, *name: str, due_at: datetime, payload: bytes) -> None:
        assert Wake.decode(payload).due_time == due_at
        if due_at not in self.due:
            self.due.append(due_at)

    async def cancel(self, *name: str) -> None:
        raise NotImplementedError


class World:
    """A log, a clock, and dispatchers that come and go."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.clock = ManualClock(T0)
        self.ids = SequentialIds("id")
        self.timers = SetTimers()

    def handler(self) -> CommandHandler:
        return CommandHandler(self.log, self.clock, RandomIds())

    async def do(self, command: cmd.AnyCommand) -> Orchestration:
        cause = Cause(self.ids.new(), "request", "ann")
        decided = await self.handler().handle(TEAM, ORCHESTRATION, command, cause)
        assert decided.state is not None
        return decided.state

    async def state(self, orchestration_id: str = ORCHESTRATION) -> Orchestration | None:
        return (await self.handler().load(TEAM, orchestration_id)).state

    async def reconcile(self) -> None:
        """As after a commit: everything that the plan says of the schedule."""
        state = await self.state()
        assert state is not None
        schedules = Schedules(self.handler(), self.timers)
        for action in plan(state):
            match action:
                case KeepSchedule():
                    await schedules.keep(state, action)
                case CreateRun():
                    await schedules.create_run(state, action)

    async def wake(self) -> None:
        """The timer that is due last fires, as it may twice and in two processes."""
        await self.wake_at(self.timers.due[-1])

    async def wake_at(self, due_at: datetime) -> None:
        wake = Wake(TEAM, ORCHESTRATION, due_at.isoformat())
        delivery = Delivery(
            subject="timer.due", data=wake.encode(), headers={}, deliveries=1, sequence=1, published_at=self.clock.now()
        )
        for _ in range(2):
            await DueTimers(self.handler(), self.clock, RandomIds()).on_due(delivery)

    async def fired(self) -> list[ScheduleFired]:
        stored = await self.log.read(TEAM, ORCHESTRATION)
        events = [recorded.event for one in stored for recorded in one.commit.events]
        return [event for event in events if isinstance(event, ScheduleFired)]


@pytest.fixture
async def world() -> World:
    world = World()
    await world.do(create("a", make_task("b", depends_on=("a",)), schedule=HOURLY))
    await world.reconcile()
    return world


async def test_the_timer_is_set_for_the_next_time(world: World) -> None:
    assert world.timers.due == [after(60)]


async def test_each_time_creates_one_active_orchestration_with_the_same_tasks(world: World) -> None:
    world.clock.advance(timedelta(hours=1, seconds=1))
    await world.wake()
    await world.reconcile()
    await world.reconcile()
    [fired] = await world.fired()
    assert (fired.due_at, fired.skipped) == (after(60), 0)
    run = await world.state(fired.run_id)
    assert run is not None
    assert (run.status, run.schedule_id, run.spec.schedule) == (OrchestrationStatus.ACTIVE, ORCHESTRATION, None)
    first, second = run.tasks.values()
    assert [first.spec.title, second.spec.title] == ["Task a", "Task b"]
    assert second.spec.depends_on == (first.task_id,)
    assert first.task_id != "a"
    template = await world.state()
    assert template is not None
    assert template.status is OrchestrationStatus.PENDING
    assert template.runs is not None
    assert (template.runs.count, template.runs.last_id, template.runs.open) == (1, fired.run_id, ())


async def test_the_next_timer_follows_each_time(world: World) -> None:
    for _ in range(3):
        world.clock.advance(timedelta(hours=1))
        await world.wake()
        await world.reconcile()
    assert world.timers.due == [after(60), after(120), after(180), after(240)]
    assert len({fired.run_id for fired in await world.fired()}) == 3


async def test_a_dispatcher_that_dies_after_the_firing_leaves_the_run_to_the_next(world: World) -> None:
    world.clock.advance(timedelta(hours=1))
    await world.wake()  # and then nothing is reconciled
    world.clock.advance(timedelta(hours=1))
    await world.wake()
    await world.reconcile()
    runs = [await world.state(fired.run_id) for fired in await world.fired()]
    assert len([run for run in runs if run is not None]) == 2


async def test_a_run_that_was_created_but_not_recorded_is_not_created_again(world: World) -> None:
    world.clock.advance(timedelta(hours=1))
    await world.wake()
    before = await world.state()
    assert before is not None
    await world.reconcile()
    [action] = [action for action in plan(before) if isinstance(action, CreateRun)]
    await Schedules(world.handler(), world.timers).create_run(before, action)
    assert len(await world.log.read(TEAM, action.run_id)) == 1


async def test_what_was_missed_is_not_made_up_for(world: World) -> None:
    world.clock.advance(timedelta(hours=5, minutes=10))
    await world.wake()
    await world.reconcile()
    [fired] = await world.fired()
    assert (fired.due_at, fired.skipped) == (after(300), 4)
    assert world.timers.due[-1] == after(360)


@pytest.mark.parametrize("command", [cmd.CancelOrchestration(), cmd.DeleteOrchestration()])
async def test_a_schedule_that_was_ended_fires_no_more(world: World, command: cmd.AnyCommand) -> None:
    await world.do(command)
    world.clock.advance(timedelta(hours=1))
    await world.wake()
    await world.reconcile()
    assert await world.fired() == []
    assert world.timers.due == [after(60)]


async def test_a_changed_schedule_begins_anew(world: World) -> None:
    world.clock.advance(timedelta(minutes=30))
    await world.do(cmd.UpdateOrchestration(changes={"schedule": {"cron": "0 15 * * * *"}}))
    await world.reconcile()
    assert world.timers.due[-1] == after(75)
    world.clock.advance(timedelta(minutes=31))
    await world.wake_at(after(60))
    assert await world.fired() == []


async def test_it_is_not_activated_by_hand_before_its_schedule_is_removed(world: World) -> None:
    with pytest.raises(Refusal, match="has a schedule"):
        await world.do(cmd.ActivateOrchestration())
    await world.do(cmd.UpdateOrchestration(changes={"schedule": None}))
    state = await world.do(cmd.ActivateOrchestration())
    assert state.status is OrchestrationStatus.ACTIVE

"""One sweep from an empty system to its verdict."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from deploy.local.nats import NatsServer
from shared.cursor.provider import ApiVersion
from tests.chaos.points.judging import left_over, untold
from tests.chaos.points.report import Outcome, judge
from tests.chaos.points.stories import ORPHANED, STORIES, Story
from tests.chaos.points.sweep import DISPATCHER, MONITOR, NOTIFIER, SWEEPER, Lane, Visit, discover
from tests.chaos.points.world import World, world
from tests.support.eventually import eventually

# For the last of what was killed to recover; far more than it should take.
_RECOVERY_SECONDS = 90.0


async def sweep(
    version: ApiVersion,
    folder: Path,
    nats: NatsServer,
    database_url: str,
    *,
    runs: int,
    only: re.Pattern[str] = re.compile(""),
    stories: Sequence[Story] = STORIES,
) -> Outcome:
    """Kill at each failpoint that matches `only`, `runs` times.

    First whoever sweeps, while the provider has few agents to look through. Monitor and dispatcher take turns then:
    each needs the other to get as far as its deeper failpoints.
    """
    async with world(version, folder, nats, database_url) as running:
        found = await discover(
            running, (DISPATCHER, MONITOR, NOTIFIER), [one for one in stories if one is not ORPHANED]
        )
        if ORPHANED in stories:
            swept = await discover(running, (DISPATCHER, SWEEPER, NOTIFIER), [ORPHANED])
            found[SWEEPER] = swept[SWEEPER]
        lanes = {victim: Lane(running, victim, points, runs, only) for victim, points in found.items()}
        if ORPHANED in stories:
            await _sweep_account(lanes[SWEEPER])
        async with asyncio.TaskGroup() as together:
            together.create_task(_one_after_the_other(lanes[NOTIFIER]))
            together.create_task(_one_after_the_other(lanes[MONITOR], lanes[DISPATCHER]))
        visits = [visit for lane in lanes.values() for visit in lane.visits]
        await _recover(running, visits)
        return await judge(running, visits, runs)


async def _sweep_account(lane: Lane) -> None:
    """Kill whoever sweeps, and then let it: nobody else will."""
    await lane.run()
    sweeping = lane.go_on()
    under_way = [telling.task for visit in lane.visits for telling in visit.tellings]
    if under_way:
        await asyncio.wait(under_way, timeout=_RECOVERY_SECONDS)
    await sweeping.kill()


async def _one_after_the_other(*lanes: Lane) -> None:
    """Those that wait, or are through, run without being killed."""
    resting = {lane: lane.go_on() for lane in lanes}
    for lane in lanes:
        if lane.has_points:
            await resting[lane].kill()
            await lane.run()
            lane.go_on()


async def _recover(running: World, visits: list[Visit]) -> None:
    """Wait until nothing is under way any more; what still is after that is for the judge to tell."""
    tellings = [telling for visit in visits for telling in visit.tellings]

    async def at_rest() -> bool:
        if not all(telling.task.done() for telling in tellings):
            return False
        if any(list(untold(telling.tale)) for telling in tellings if telling.succeeded):
            return False
        return not await left_over(running)

    with suppress(AssertionError):
        await eventually(at_rest, timeout=_RECOVERY_SECONDS, interval=0.2)
    for telling in tellings:
        telling.task.cancel()
    await asyncio.gather(*(telling.task for telling in tellings), return_exceptions=True)

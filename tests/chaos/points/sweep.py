"""Which failpoints there are, and killing a service at each of them while orchestrations are under way."""

import asyncio
import itertools
import logging
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.jetstream.topology import CONTROLS, LIMITS
from tests.chaos.points.forks import Fork
from tests.chaos.points.judging import left_over, untold
from tests.chaos.points.stories import Story, Tale
from tests.chaos.points.world import World
from tests.support.eventually import eventually

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Victim:
    """A service that is killed where it is at what begins with one of `scopes`.

    What it does by the way (heartbeats, looking after its consumers) decides nothing and is in no scope. `settings`
    come on top of all others. `needed_alive`: nothing ends while it is being killed, and what one failpoint left under
    way leads to the next.
    """

    service: str
    scopes: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    needed_alive: bool = False

    @property
    def name(self) -> str:
        return self.scopes[0].rstrip("-/")


DISPATCHER = Victim("dispatcher", ("dispatcher-", "slot-audit/"))
MONITOR = Victim("monitor", ("monitor-",))
NOTIFIER = Victim("notifier", ("notifier-",))
SWEEPER = Victim("monitor", ("sweep/",), {"SWEEP_SECONDS": "0.5"}, needed_alive=True)
"""A monitor again, while it does what it otherwise does by the hour."""

# Buckets of which a key is created only where there is none.
_CREATED = re.compile(f"/({LIMITS}|{CONTROLS})\\.create\\.")

_STORY_SECONDS = 60.0
# A kill that does not come within this does not come by more of the same.
_KILL_SECONDS = 40.0
# The same for what was reached behind a kill, by chance: it may never be again.
_CHANCE_SECONDS = 10.0
# Orchestrations of one failpoint under way; more would only wait for each other.
_MOST_TALES = 8
_TALE_PAUSE_SECONDS = 0.5


@dataclass
class Telling:
    """A story that is being gone through."""

    tale: Tale
    story: Story
    task: asyncio.Task[None]

    @property
    def succeeded(self) -> bool:
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None


@dataclass
class Visit:
    """What became of one failpoint: how often it was reached and killed at, and the orchestrations meanwhile."""

    point: str
    stories: Sequence[Story]
    prelude: str | None = None
    """Where the process was killed before the one that reached it, if no story leads there by itself."""
    hits: int = 0
    kills: int = 0
    seconds: float = 0.0
    tellings: list[Telling] = field(default_factory=list)

    @property
    def under_way(self) -> int:
        return sum(not telling.task.done() for telling in self.tellings)


Points = dict[str, list[Story]]
"""Failpoints, each with the stories that reach it."""


async def discover(world: World, victims: Sequence[Victim], stories: Iterable[Story]) -> dict[Victim, Points]:
    """The failpoints of each victim. Together they must be every service, or the stories have no end."""
    found: dict[Victim, Points] = {victim: {} for victim in victims}
    records = {victim: Record(world.folder / f"{victim.name}.discovered", victim.scopes) for victim in victims}
    forks = [world.fork(one.service, FAILPOINT_RECORD=str(records[one].path), **one.settings) for one in victims]
    try:
        for story in stories:
            tale = Tale(world, f"Discovering {story.name}")
            await asyncio.wait_for(story.play(tale), _STORY_SECONDS)
            await at_rest(tale)
            for victim, record in records.items():
                for point in record.news():
                    found[victim].setdefault(point, []).append(story)
    finally:
        for fork in forks:
            await fork.kill()
    return found


async def at_rest(tale: Tale) -> None:
    """Wait until nothing is under way any more and everything of the tale was told."""

    async def rest() -> None:
        assert not list(untold(tale))
        assert await left_over(tale.world) == []

    await eventually(rest, timeout=_STORY_SECONDS, interval=0.1)


class Record:
    """What a process writes down, of these scopes."""

    def __init__(self, path: Path, scopes: tuple[str, ...]) -> None:
        self.path = path
        self._scopes = scopes
        self._read = 0

    def news(self) -> Counter[str]:
        """How often each failpoint was reached since the last look."""
        if not self.path.exists():
            return Counter()
        with self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        self._read += len(lines)
        return Counter(name for name in lines.decode().split("\n") if name.startswith(self._scopes))


class Lane:
    """One victim, which is killed at each failpoint that matches `only`, `runs` times, and started again each time.

    What recovers from a kill is not waited for: meanwhile the next comes. A failpoint that nothing led to before
    something was killed is put in line when it is reached, behind the one at which that was.
    """

    def __init__(self, world: World, victim: Victim, points: Points, runs: int, only: re.Pattern[str]) -> None:
        self._world = world
        self._victim = victim
        self._runs = runs
        self._record = Record(world.folder / f"{victim.name}.record", victim.scopes)
        self._line = deque(Visit(point, stories) for point, stories in sorted(points.items()) if only.search(point))
        self._only = only
        self._died_at: str | None = None
        self._known = set(points)
        self._numbers = itertools.count(1)
        self.visits: list[Visit] = []

    @property
    def has_points(self) -> bool:
        return bool(self._line)

    async def run(self) -> None:
        """Visit every failpoint."""
        while self._line:
            visit = self._line.popleft()
            self.visits.append(visit)
            began = time.monotonic()
            await self._visit(visit)
            visit.seconds = time.monotonic() - began
            _log.info("%s: %d kills in %.1f s", visit.point, visit.kills, visit.seconds)

    def go_on(self) -> Fork:
        """Let the service run, not armed."""
        return self._world.fork(self._victim.service, **self._victim.settings)

    async def _visit(self, visit: Visit) -> None:
        last, seconds = time.monotonic(), _CHANCE_SECONDS if visit.prelude else _KILL_SECONDS
        while visit.kills < self._runs and time.monotonic() < last + seconds:
            if visit.prelude is not None:
                await self._life(visit, visit.prelude, seconds)
            if await self._life(visit, visit.point, seconds):
                visit.kills += 1
                last = time.monotonic()

    async def _life(self, visit: Visit, fatal: str, seconds: float) -> bool:
        """One process, until it is killed at `fatal`; False if that did not come within `seconds`."""
        patience = time.monotonic() + seconds
        armed = {"FAILPOINT": fatal, "FAILPOINT_RECORD": str(self._record.path)}
        fork = self._world.fork(self._victim.service, **armed, **self._victim.settings)
        try:
            while time.monotonic() < patience:
                if created := _CREATED.search(fatal):
                    await self._world.forget(created[1])
                self._begin_tale(visit)
                try:
                    code = await asyncio.wait_for(fork.ended(), _TALE_PAUSE_SECONDS)
                except TimeoutError:
                    continue
                assert code == -signal.SIGKILL, f"ended with {code} instead of being killed at {fatal}"
                return True
            return False
        finally:
            await fork.kill()
            self._take_in(visit)
            self._died_at = fatal

    def _begin_tale(self, visit: Visit) -> None:
        besides = self.visits if self._victim.needed_alive else [visit]
        if sum(other.under_way for other in besides) >= _MOST_TALES:
            return
        number = next(self._numbers)
        story = visit.stories[number % len(visit.stories)]
        tale = Tale(self._world, f"{self._victim.name} {number}")
        visit.tellings.append(Telling(tale, story, asyncio.create_task(story.play(tale), name=tale.title)))

    def _take_in(self, visit: Visit) -> None:
        reached = self._record.news()
        visit.hits += reached[visit.point]
        for point in reached.keys() - self._known:
            self._known.add(point)
            if self._only.search(point):
                self._line.append(Visit(point, visit.stories, prelude=self._died_at or visit.point))

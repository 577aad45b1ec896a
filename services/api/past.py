"""What an orchestration was at any moment of its life, folded from its history."""

import re
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.api.checkpoint import CheckpointWatcher
from services.api.history import History
from services.api.projections import apply
from services.api.reading import Shown, shown
from services.api.rules import moment
from shared.domain.state import Orchestration
from shared.envelope import Stored
from shared.moments import written
from shared.ports import Clock, EventLog

_SEQUENCE: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_SKEW: Final = timedelta(minutes=1)
"""How far the clocks of two replicas may be apart: what the one answered as its present is asked of the other."""
_REMEMBERED_TASKS: Final = 10_000
_LEAST_WEIGHT: Final = 10


class FutureError(ValueError):
    """The moment has not come yet, so nobody can know it."""


@dataclass(frozen=True, slots=True)
class At:
    """A moment of the log: up to a sequence, or all that was recorded until a time.

    With both, the sequence says what has happened by then, and the time as of when statistics are counted.
    """

    sequence: int | None
    time: datetime | None

    def includes(self, stored: Stored) -> bool:
        """Whether the commit was there already, provided that all before it were."""
        if self.sequence is not None:
            return stored.sequence <= self.sequence
        return self.time is not None and stored.commit.recorded_at <= self.time

    def covers(self, point: "Point") -> bool:
        """Whether all of the history up to `point` was there already."""
        if self.sequence is not None:
            return point.sequence <= self.sequence
        return self.time is not None and point.latest <= self.time


@dataclass(frozen=True, slots=True)
class Point:
    """An orchestration after one of its commits. `latest` is when the latest of all commits so far was recorded:
    clocks of several services write those times, so they need not grow with the sequence.
    """

    state: Orchestration
    sequence: int
    recorded_at: datetime
    latest: datetime


@dataclass(frozen=True, slots=True)
class AsOf:
    """What is shown, and the time as of which statistics are counted."""

    shown: Shown
    time: datetime

    @property
    def stamp(self) -> str:
        """`<sequence>,<time>`: asked for by this, the same is shown again at any time."""
        return f"{self.shown.sequence},{written(self.time)}"


def read_at(text: str, now: datetime) -> At:
    """A sequence, a time in ISO 8601 with a time zone, or `<sequence>,<time>`.

    Raises:
        FutureError: the time has not come.
        ValueError: not one of the three.
    """
    first, comma, second = text.partition(",")
    if _SEQUENCE.fullmatch(first) and not comma:
        return At(int(first), None)
    if comma and not _SEQUENCE.fullmatch(first):
        raise ValueError("must be a sequence, a time, or <sequence>,<time> as in the header X-As-Of")
    try:
        time = moment(second if comma else first)
    except ValueError as exc:
        raise ValueError(f"{exc} (a sequence is taken, too; in an address + is written %2B)") from None
    if time > now + (_SKEW if comma else timedelta()):
        raise FutureError("lies in the future")
    return At(int(first) if comma else None, time)


class Past:
    """Folds histories up to a moment. What was answered is remembered, and the next fold begins there.

    Args:
        patience: how long the rows may take to come to a sequence that the log has, in seconds.
    """

    def __init__(
        self, history: History, log: EventLog, checkpoint: CheckpointWatcher, clock: Clock, *, patience: float
    ) -> None:
        self._history = history
        self._log = log
        self._checkpoint = checkpoint
        self._clock = clock
        self._patience = patience
        self._points = _Points()

    def read(self, text: str) -> At:
        """See `read_at`."""
        return read_at(text, self._clock.now())

    async def find(self, team: str, orchestration_id: str, at: At, *, known: int = 0) -> AsOf | None:
        """The orchestration as it was then; None before it existed.

        Args:
            known: a sequence that its history has come to, for all that the caller has seen.

        Raises:
            FutureError: the log has not come to that sequence.
            LogUnavailableError: the archive is behind or away, and so is the log.
        """
        point = await self.point(team, orchestration_id, at, known=known)
        if point is None:
            return None
        return AsOf(shown(point.state, point.sequence), at.time or point.recorded_at)

    async def point(self, team: str, orchestration_id: str, at: At, *, known: int = 0) -> Point | None:
        """The last commit that was there at this moment, with the state behind it. See `find`."""
        known = max(known, await self._reached(at.sequence))
        begin = point = self._points.last(team, orchestration_id, at)
        after = point.sequence if point else 0
        async with aclosing(self._history.commits(team, orchestration_id, after=after, known=known)) as commits:
            async for kept in commits:
                stored = kept.decoded()
                if not at.includes(stored):
                    break
                point = _next(point, stored)
        if point is not None and point is not begin:
            self._points.add(point)
        return point

    async def _reached(self, sequence: int | None) -> int:
        """The sequence, if the rows have not come to it although the log has."""
        if sequence is None or sequence <= self._checkpoint.current:
            return 0
        if sequence > await self._log.last_sequence():
            raise FutureError("the log has not come to this sequence yet")
        return 0 if await self._checkpoint.wait_for(sequence, self._patience) else sequence


class _Points:
    """States that were folded before, the longest unused dropped first; weighed by their tasks, about 2 kB each."""

    def __init__(self) -> None:
        self._points: OrderedDict[tuple[str, str, int], Point] = OrderedDict()
        self._weight = 0

    def last(self, team: str, orchestration_id: str, at: At) -> Point | None:
        """The last one that lies in the history up to `at`."""
        found: Point | None = None
        for key, point in self._points.items():
            is_later = found is None or found.sequence < point.sequence
            if key[:2] == (team, orchestration_id) and is_later and at.covers(point):
                found = point
        if found is not None:
            self._points.move_to_end((team, orchestration_id, found.sequence))
        return found

    def add(self, point: Point) -> None:
        key = (point.state.team, point.state.id, point.sequence)
        if key in self._points:
            return
        self._points[key] = point
        self._weight += _weight(point)
        while self._weight > _REMEMBERED_TASKS and len(self._points) > 1:
            _, dropped = self._points.popitem(last=False)
            self._weight -= _weight(dropped)


def _weight(point: Point) -> int:
    """At least so much that there are never more than a thousand, for they are searched one by one."""
    return max(_LEAST_WEIGHT, len(point.state.tasks))


def _next(point: Point | None, stored: Stored) -> Point:
    recorded_at = stored.commit.recorded_at
    latest = max(point.latest, recorded_at) if point else recorded_at
    return Point(apply(point.state if point else None, stored), stored.sequence, recorded_at, latest)

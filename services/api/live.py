"""Live updates: one follower of the log per process, and what it hears shared out among those who listen."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import Gauge

from services.api.catch_up import PAGE, CatchUp, Key, Recent
from services.api.changes import AgentProgress, Change, Picture, advance, change, picture_of, snapshot
from services.api.listener import Cut, Listener, Load
from services.api.newest import Newest
from services.api.projections import apply
from shared.domain.state import Orchestration
from shared.ending import end
from shared.envelope import Stored
from shared.jetstream.errors import UnreadableCommitError
from shared.messages import Progress
from shared.ports import Clock, EventLog, LogUnavailableError

_log = logging.getLogger(__name__)

_START_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 1.0
_READ_SECONDS: Final = 6.0
"""A little more than one read may take: who waits for another's that fails tries once more at most."""

_PROGRESS_PER_SECOND: Final = 1000
"""To the listeners of one orchestration. Telling as many takes a tenth of a core."""

_STREAMS = Gauge("live_streams", "Clients that follow an orchestration, by SSE or WebSocket")
_WAITING = Gauge("live_waiting_bytes", "Changes that wait for clients to take them")


class UnknownOrchestrationError(Exception):
    """The team has no orchestration of this id."""


class BadResumeError(Exception):
    """The log has not come to this sequence, so nobody can have seen it."""


class HubClosedError(Exception):
    """This process stops, or does not follow the log yet; another one may."""


class TooManyStreamsError(Exception):
    """As many are open as may be. `of_team`: as many as the team may have, else as many as this process takes."""

    def __init__(self, *, of_team: bool) -> None:
        super().__init__("the team has too many streams" if of_team else "this process has too many streams")
        self.of_team = of_team


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process gives to live updates.

    `streams` may be open, `team_streams` of one team; `changes` may wait for one of them, and `bytes` for all together.
    """

    streams: int = 4000
    team_streams: int = 4000
    changes: int = 256
    bytes: int = 64 * 1024 * 1024


class _Topic:
    """One orchestration that somebody listens to."""

    def __init__(self, key: Key, recent: Recent) -> None:
        self._key = key
        self._recent = recent
        self.listeners: set[Listener] = set()
        self.reading = asyncio.Lock()
        self.asked = 0
        """How many have asked for it to be as new as the log."""
        self.served = 0
        """Up to which of them it is."""
        self.sequence = 0
        self.state: Orchestration | None = None
        self._picture: Picture | None = None  # of the state, made when it is looked at
        self._early: list[Stored] | None = []  # heard before the history was read
        self._progress: dict[str, AgentProgress] = {}  # by attempt, of those whose agents are at work
        self._new_progress: set[str] = set()
        self._progress_at = 0.0
        """No progress is told before this time of the loop."""
        self._telling_progress: asyncio.TimerHandle | None = None

    @property
    def picture(self) -> Picture:
        """What it looks like; only once it is known to exist."""
        assert self.state is not None
        if self._picture is None:
            self._picture = picture_of(self.state, self.sequence)
        return self._picture

    def hear(self, stored: Stored) -> None:
        """A commit came with the log."""
        if self._early is not None:
            self._early.append(stored)
        else:
            self.take(stored)

    def open(self) -> None:
        """The history has been read: take in what was heard meanwhile."""
        early, self._early = self._early or (), None
        for stored in early:
            self.take(stored)

    def show(self, progress: Progress) -> None:
        """An agent is at something else, by what the monitor says; that of an attempt that has ended is no news."""
        found = self.state.find_attempt(progress.attempt_id) if self.state else None
        if found is None or not found[1].is_active:
            return
        self._progress[progress.attempt_id] = AgentProgress(*found, progress)
        self._new_progress.add(progress.attempt_id)
        if self._telling_progress is None:
            loop = asyncio.get_running_loop()
            if loop.time() < self._progress_at:
                self._telling_progress = loop.call_at(self._progress_at, self._tell_progress)
            else:
                self._tell_progress()

    def _tell_progress(self) -> None:
        """To all; the more they are, the longer nothing more is told, to leave the process to changes."""
        told = len(self.listeners) * len(self._new_progress)
        for listener in self.listeners:
            for attempt_id in self._new_progress:
                listener.put_progress(attempt_id)
        self._new_progress.clear()
        self._telling_progress = None
        self._progress_at = asyncio.get_running_loop().time() + told / _PROGRESS_PER_SECOND

    def progress_of(self, attempt_id: str) -> AgentProgress | None:
        """The newest of what the attempt's agent is at; None once that has ended."""
        return self._progress.get(attempt_id)

    def take(self, stored: Stored) -> None:
        """Take in a commit, unless it is known, and tell those who are up to date."""
        if stored.sequence <= self.sequence:
            return
        live = [listener for listener in self.listeners if listener.is_live]
        if live and self.state is not None:
            before, self._picture = self.picture, advance(self.picture, stored)
            self.state = self._picture.state
            news = change(before, self._picture, stored.commit.recorded_at)
            self._recent.put(self._key, self.sequence, news)
            for listener in live:
                listener.put(news)
        else:
            self.state, self._picture = apply(self.state, stored), None
        self.sequence = stored.sequence
        self._drop_old_progress()

    def _drop_old_progress(self) -> None:
        for attempt_id in list(self._progress):
            found = self.state.find_attempt(attempt_id) if self.state else None
            if found is None or not found[1].is_active:
                del self._progress[attempt_id]


class LiveHub:
    """Follows the log from its end on and hands each change to those who listen to its orchestration.

    Args:
        newest: told of every commit, and behind which one that begins.
    """

    def __init__(self, log: EventLog, clock: Clock, newest: Newest, limits: Limits | None = None) -> None:
        self._log = log
        self._clock = clock
        self._newest = newest
        self._limits = limits or Limits()
        self._topics: dict[Key, _Topic] = {}
        self._listeners: set[Listener] = set()
        self._by_team: Counter[str] = Counter()
        self._load = Load()
        self._recent = Recent()
        self._last = 0
        self._progress = asyncio.Condition()
        self._following = asyncio.Event()
        self._closed = False

    @property
    def following(self) -> bool:
        return self._following.is_set()

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    @property
    def waiting_bytes(self) -> int:
        """How much waits for clients to take it, in all."""
        return self._load.bytes

    async def run(self) -> None:
        """Follow the log until cancelled, through restarts of the broker."""
        while True:
            try:
                if not self.following:
                    self._last = await self._log.last_sequence()
                    self._newest.begin(self._last)
                    self._following.set()
                async for batch in self._log.follow(after=self._last):
                    for stored in batch:
                        self._hear(stored)
                    await self._note_progress()
            except UnreadableCommitError as exc:
                # It concerns one orchestration, whose listeners are cut off with its next commit. The rest goes on.
                _log.error("Passing over a commit: %s", exc)
                self._last = exc.sequence
            except LogUnavailableError as exc:
                _log.warning("Cannot follow the log, trying again: %s", exc)
                await asyncio.sleep(_PAUSE_SECONDS)

    def show(self, key: Key, progress: Progress) -> None:
        """Show what an agent is at to those who follow its orchestration, and are up to date."""
        if (topic := self._topics.get(key)) is not None:
            topic.show(progress)

    async def join(self, team: str, orchestration_id: str, *, after: int | None = None) -> Listener:
        """A listener that begins with the state as it is when that is taken, or behind the commit `after`.

        Give it back with `leave`.

        Raises:
            UnknownOrchestrationError, BadResumeError, HubClosedError, TooManyStreamsError.
            LogUnavailableError: the history cannot be read.
            BrokenHistoryError, UnreadableCommitError: it makes no sense to this release.
        """
        await self._check_open()
        self._check_room(team)
        key = (team, orchestration_id)
        topic = self._topics.setdefault(key, _Topic(key, self._recent))
        listener = self._listener(topic, key, after)
        self._add(topic, listener)
        try:
            await self._bring_up_to_date(topic, key)
            if topic.state is None or topic.state.deleted:
                raise UnknownOrchestrationError
            if after is not None and after > self._last and after > await self._log.last_sequence():
                raise BadResumeError(f"the log has not come to {after} yet")
        except BaseException:
            self.leave(listener)
            raise
        if self._closed:
            listener.cut(Cut.STOPPING)
        return listener

    def leave(self, listener: Listener) -> None:
        """Take it out; doing so again changes nothing."""
        listener.close()
        if listener not in self._listeners:
            return
        self._listeners.remove(listener)
        self._by_team[listener.key[0]] -= 1
        _STREAMS.set(len(self._listeners))
        topic = self._topics.get(listener.key)
        if topic is not None:
            topic.listeners.discard(listener)
            if not topic.listeners:
                del self._topics[listener.key]

    def close(self) -> None:
        """Send everybody to another process; nobody can join any more."""
        self._closed = True
        for listener in self._listeners:
            listener.cut(Cut.STOPPING)

    async def _check_open(self) -> None:
        if self._closed:
            raise HubClosedError
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._following.wait()
        except TimeoutError:
            raise HubClosedError from None

    def _check_room(self, team: str) -> None:
        if len(self._listeners) >= self._limits.streams:
            raise TooManyStreamsError(of_team=False)
        if self._by_team[team] >= self._limits.team_streams:
            raise TooManyStreamsError(of_team=True)

    def _add(self, topic: _Topic, listener: Listener) -> None:
        topic.listeners.add(listener)
        self._listeners.add(listener)
        self._by_team[listener.key[0]] += 1
        _STREAMS.set(len(self._listeners))

    def _listener(self, topic: _Topic, key: Key, after: int | None) -> Listener:
        if after is None:
            return Listener(
                key,
                self._limits.changes,
                self._load,
                opening=lambda: self._snapshot(topic),
                progress_of=topic.progress_of,
            )

        def join_live(place: int) -> bool:
            # Nothing can come in between this look at the topic and the first change that is put into the listener.
            if topic.sequence > place:
                return False
            listener.go_live(place, ended=topic.picture.ended)
            return True

        past = CatchUp(self._log, key, after, self._recent, join_live)
        listener = Listener(key, self._limits.changes, self._load, past=past, progress_of=topic.progress_of)
        return listener

    def _snapshot(self, topic: _Topic) -> Change:
        return snapshot(topic.picture, self._clock.now())

    async def _bring_up_to_date(self, topic: _Topic, key: Key) -> None:
        """Read what the log has; those who ask while another reads share the next read."""
        topic.asked += 1
        ticket = topic.asked
        try:
            async with asyncio.timeout(_READ_SECONDS), topic.reading:
                if topic.served >= ticket:
                    return
                served = topic.asked
                await self._read(topic, key)
                topic.served = served
        except TimeoutError:
            raise LogUnavailableError("the history was not read in time") from None

    async def _read(self, topic: _Topic, key: Key) -> None:
        while True:
            page = await self._log.page(*key, after=topic.sequence, limit=PAGE)
            for stored in page:
                topic.take(stored)
            if len(page) < PAGE:
                break
        topic.open()
        if topic.state is None:
            # Whoever answered may lag behind. Everything that is in the log by now is heard in a moment.
            last = await self._log.last_sequence()
            async with self._progress:
                await self._progress.wait_for(lambda: self._last >= last)

    def _hear(self, stored: Stored) -> None:
        self._last = stored.sequence
        self._newest.hear(stored)
        key = (stored.commit.team, stored.commit.aggregate)
        topic = self._topics.get(key)
        if topic is None:
            return
        try:
            topic.hear(stored)
        except Exception as exc:  # whatever is wrong with one orchestration, the others go on
            _log.error("Live updates of an orchestration end: %r", exc, exc_info=exc)
            for listener in topic.listeners:
                listener.cut(Cut.BROKEN)
            # Those who come now read the whole history again, and are told what is wrong with it.
            del self._topics[key]
        if self._load.bytes > self._limits.bytes:
            self._relieve()
        _WAITING.set(self._load.bytes)

    def _relieve(self) -> None:
        """Too much waits in all: cut off those who are furthest behind."""
        for listener in sorted(self._listeners, key=lambda listener: -listener.waiting_bytes):
            if self._load.bytes <= self._limits.bytes:
                return
            listener.drop()

    async def _note_progress(self) -> None:
        async with self._progress:
            self._progress.notify_all()


@asynccontextmanager
async def following(hub: LiveHub) -> AsyncIterator[asyncio.Task[None]]:
    """The hub at work; gives its task, to be supervised."""
    task = asyncio.create_task(hub.run(), name="live-hub")
    try:
        yield task
    finally:
        hub.close()
        await end(task)

"""Live updates: one follower of the log per process, and what it hears shared out among those who listen."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

from services.api.changes import Change, Picture, advance, change, snapshot
from services.api.projections import BrokenHistoryError
from services.api.reading import Newest
from shared.envelope import Stored
from shared.jetstream.errors import UnreadableCommitError
from shared.ports import Clock, EventLog, LogUnavailableError

_log = logging.getLogger(__name__)

_QUEUE: Final = 256
_START_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 1.0

_Key = tuple[str, str]


class Cut(StrEnum):
    """Why a listener gets no more; it may come back and resume."""

    SLOW = "slow"
    STOPPING = "stopping"
    BROKEN = "broken"


class UnknownOrchestrationError(Exception):
    """The team has no orchestration of this id."""


class BadResumeError(Exception):
    """The log has not come to this sequence, so nobody can have seen it."""


class HubClosedError(Exception):
    """This process stops, or does not follow the log yet; another one may."""


class Listener:
    """One client's changes, in order. At most `limit` live ones wait; who falls behind further is cut off."""

    def __init__(self, key: _Key, limit: int) -> None:
        self.key = key
        self.cut_off: Cut | None = None
        self.ended = False
        """Whether the orchestration is finished after everything that was put in here."""
        self._limit = limit
        self._waiting: deque[Change] = deque()
        self._news = asyncio.Event()

    def begin(self, first: Sequence[Change], after: int, *, ended: bool) -> None:
        """Put `first` before the changes above `after` that have come meanwhile."""
        self.ended = ended
        self._waiting = deque([*first, *(news for news in self._waiting if news.sequence > after)])
        self._limit += len(first)
        self._news.set()

    def put(self, news: Change) -> None:
        if self.cut_off is not None:
            return
        if len(self._waiting) >= self._limit:
            # It resumes from the log behind what it got, so nothing needs to be kept for it.
            self._waiting.clear()
            self.cut(Cut.SLOW)
            return
        self._waiting.append(news)
        self.ended = news.ended
        self._news.set()

    def cut(self, reason: Cut) -> None:
        """No more changes; those that wait are still given."""
        self.cut_off = self.cut_off or reason
        self._news.set()

    async def wait(self, seconds: float) -> bool:
        """Whether there is something new, a change or the cut, within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> Change | None:
        """The oldest change that waits."""
        taken = self._waiting.popleft() if self._waiting else None
        if not self._waiting and self.cut_off is None:
            self._news.clear()
        return taken


class _Topic:
    """One orchestration that somebody listens to."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.loading = asyncio.Lock()
        self.picture: Picture | None = None
        self._early: list[Stored] = []  # heard before the history was read

    @property
    def sequence(self) -> int:
        return self.picture.sequence if self.picture else 0

    def hear(self, stored: Stored) -> None:
        if self.picture is None:
            self._early.append(stored)
        else:
            self._apply(stored)

    def catch_up(self, history: Iterable[Stored]) -> None:
        """Take in what was read from the log, then what was heard meanwhile; what is known already is left out."""
        early, self._early = self._early, []
        for stored in (*history, *early):
            self._apply(stored)

    def _apply(self, stored: Stored) -> None:
        if stored.sequence <= self.sequence:
            return
        after = advance(self.picture, stored)
        news = change(self.picture, after, stored.commit.recorded_at)
        self.picture = after
        for listener in self.listeners:
            listener.put(news)


class LiveHub:
    """Follows the log from its end on and hands each change to those who listen to its orchestration.

    Args:
        newest: told of every commit.
        limit: changes that may wait for one client.
    """

    def __init__(self, log: EventLog, clock: Clock, newest: Newest, *, limit: int = _QUEUE) -> None:
        self._log = log
        self._clock = clock
        self._newest = newest
        self._limit = limit
        self._topics: dict[_Key, _Topic] = {}
        self._last = 0
        self._following = asyncio.Event()
        self._closed = False

    @property
    def following(self) -> bool:
        return self._following.is_set()

    @property
    def listeners(self) -> int:
        return sum(len(topic.listeners) for topic in self._topics.values())

    async def run(self) -> None:
        """Follow the log until cancelled, through restarts of the broker."""
        while True:
            try:
                if not self.following:
                    self._last = await self._log.last_sequence()
                    self._following.set()
                async for batch in self._log.follow(after=self._last):
                    for stored in batch:
                        self._hear(stored)
            except UnreadableCommitError as exc:
                # It concerns one orchestration, whose listeners are cut off with its next commit. The rest goes on.
                _log.error("Passing over a commit: %s", exc)
                self._last = exc.sequence
            except LogUnavailableError as exc:
                _log.warning("Cannot follow the log, trying again: %s", exc)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def join(self, team: str, orchestration_id: str, *, after: int | None = None) -> Listener:
        """A listener that begins with the state as it is now, or with the first commit above `after`.

        Give it back with `leave`.

        Raises:
            UnknownOrchestrationError, BadResumeError, HubClosedError.
            LogUnavailableError: the history cannot be read.
        """
        await self._check_open()
        if after is not None and after > self._last and after > await self._log.last_sequence():
            raise BadResumeError(f"the log has not come to {after} yet")
        key = (team, orchestration_id)
        listener = Listener(key, self._limit)
        topic = self._topics.setdefault(key, _Topic())
        # First of all listen, then read: what happens in between is heard, and left out if it was read as well.
        topic.listeners.add(listener)
        try:
            async with topic.loading:
                await self._welcome(topic, listener, after)
        except BaseException:
            self.leave(listener)
            raise
        if self._closed:
            listener.cut(Cut.STOPPING)
        return listener

    def leave(self, listener: Listener) -> None:
        topic = self._topics.get(listener.key)
        if topic is not None:
            topic.listeners.discard(listener)
            if not topic.listeners:
                del self._topics[listener.key]

    def close(self) -> None:
        """Send everybody to another process; nobody can join any more."""
        self._closed = True
        self._cut(Cut.STOPPING, self._topics.values())

    async def _check_open(self) -> None:
        if self._closed:
            raise HubClosedError
        try:
            await asyncio.wait_for(self._following.wait(), _START_SECONDS)
        except TimeoutError:
            raise HubClosedError from None

    async def _welcome(self, topic: _Topic, listener: Listener, after: int | None) -> None:
        history = await self._log.read(*listener.key, after=topic.sequence if after is None else 0)
        topic.catch_up(history)
        if topic.picture is None:
            raise UnknownOrchestrationError
        if after is None:
            first, behind = [snapshot(topic.picture, self._clock.now())], topic.sequence
        else:
            first, behind = _missed(history, after), history[-1].sequence if history else after
        listener.begin(first, behind, ended=topic.picture.ended)

    def _hear(self, stored: Stored) -> None:
        commit = stored.commit
        self._last = stored.sequence
        self._newest.hear(stored)
        topic = self._topics.get((commit.team, commit.aggregate))
        if topic is None:
            return
        try:
            topic.hear(stored)
        except BrokenHistoryError as exc:
            _log.error("Live updates of an orchestration end: %s", exc)
            self._cut(Cut.BROKEN, [topic])
            # Those who come now read the whole history again, and are told what is wrong with it.
            del self._topics[commit.team, commit.aggregate]

    def _cut(self, reason: Cut, topics: Iterable[_Topic]) -> None:
        for topic in topics:
            for listener in topic.listeners:
                listener.cut(reason)


def _missed(history: Sequence[Stored], after: int) -> list[Change]:
    """The changes above `after`, folded from the beginning."""
    missed: list[Change] = []
    picture: Picture | None = None
    for stored in history:
        before, picture = picture, advance(picture, stored)
        if stored.sequence > after:
            missed.append(change(before, picture, stored.commit.recorded_at))
    return missed


@asynccontextmanager
async def following(hub: LiveHub) -> AsyncIterator[asyncio.Task[None]]:
    """The hub at work; gives its task, to be supervised."""
    task = asyncio.create_task(hub.run(), name="live-hub")
    try:
        yield task
    finally:
        hub.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

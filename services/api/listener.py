"""One client's changes, in order: first those that are past, or the state as it is, then what comes.

What agents are at is given where no change waits, of each only the newest: a client that is slow misses that first.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from services.api.catch_up import CatchUp, Key
from services.api.changes import AgentProgress, Change
from services.api.projections import BrokenHistoryError
from shared.jetstream.errors import UnreadableCommitError
from shared.ports import LogUnavailableError

_log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 0.5


class Cut(StrEnum):
    """Why a listener gets no more. Except for GONE, it may come back and resume."""

    SLOW = "slow"
    STOPPING = "stopping"
    BROKEN = "broken"
    GONE = "gone"
    """The client itself has left."""


class Load:
    """How many bytes of changes wait in all queues together; a change that waits for many counts once."""

    def __init__(self) -> None:
        self.bytes = 0

    def add(self, news: Change) -> None:
        if news.holders == 0:
            self.bytes += news.size
        news.holders += 1

    def remove(self, news: Change) -> None:
        news.holders -= 1
        if news.holders == 0:
            self.bytes -= news.size


class Listener:
    """At most `limit` live changes wait for it; who falls behind further is cut off.

    Args:
        opening: makes the first change at the moment when it is taken, so that nothing large waits.
        past: what is given before anything live.
        progress_of: what an attempt's agent is at, None where that is no news any more.
    """

    def __init__(
        self,
        key: Key,
        limit: int,
        load: Load,
        *,
        opening: Callable[[], Change] | None = None,
        past: CatchUp | None = None,
        progress_of: Callable[[str], AgentProgress | None] = lambda attempt_id: None,
    ) -> None:
        self.key = key
        self.cut_off: Cut | None = None
        self.ended = False
        """Whether the orchestration is finished after everything that was put in here."""
        self.waiting_bytes = 0
        self._limit = limit
        self._load = load
        self._opening = opening
        self._past = past
        self._progress_of = progress_of
        self._new_progress: dict[str, None] = {}  # by attempt
        self._waiting: deque[Change] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._floor = 0

    @property
    def is_live(self) -> bool:
        """Whether it has everything that is past."""
        return self._past is None

    def go_live(self, floor: int, *, ended: bool) -> None:
        """From now on it takes live changes: those above the sequence `floor`, up to where it knows everything."""
        self._past = None
        self._floor = floor
        self.ended = ended

    def put(self, news: Change) -> None:
        """One more live change."""
        if self.cut_off is not None or news.sequence <= self._floor or self._opening is not None:
            return  # the opening, when it is taken, shows this too
        if len(self._waiting) >= self._limit:
            self.drop()
            return
        self._load.add(news)
        self.waiting_bytes += news.size
        self._waiting.append(news)
        self.ended = news.ended
        self._wake()

    def put_progress(self, attempt_id: str) -> None:
        """The attempt's agent is at something else."""
        if self.cut_off is None and self._past is None and self._opening is None:
            self._new_progress[attempt_id] = None
            self._wake()

    def drop(self) -> None:
        """Cut it off for being slow. It resumes from the log behind what it got, so nothing is kept for it."""
        self._clear()
        self._opening = None
        self.cut(Cut.SLOW)

    def cut(self, reason: Cut) -> None:
        """No more changes; live ones that wait are still given."""
        self.cut_off = self.cut_off or reason
        self._wake()

    def close(self) -> None:
        """Nothing will be taken any more."""
        self._clear()
        self.cut(Cut.GONE)

    def take(self) -> Change | AgentProgress | None:
        """The oldest live change that waits, else what an agent is at."""
        if self._past is not None:
            return None
        if self._opening is not None:
            taken, self._opening = self._opening(), None
            self.ended = taken.ended
            return taken
        if not self._waiting:
            return self._take_progress()
        taken = self._waiting.popleft()
        self._load.remove(taken)
        self.waiting_bytes -= taken.size
        return taken

    def _take_progress(self) -> AgentProgress | None:
        while self._new_progress and self.cut_off is None:
            attempt_id = next(iter(self._new_progress))
            del self._new_progress[attempt_id]
            if (progress := self._progress_of(attempt_id)) is not None:
                return progress
        return None

    async def next(self, seconds: float) -> Change | AgentProgress | None:
        """The next of what is told; None when it is cut off and was given everything, or nothing came for so long."""
        if (ready := self.take()) is not None or (self.cut_off is not None and self.is_live):
            return ready
        if self._past is None:
            await self._wait(seconds)
            return self.take()
        try:
            async with asyncio.timeout(seconds):
                return await self._next_past(self._past)
        except TimeoutError:
            return None

    async def _wait(self, seconds: float) -> None:
        """Until there is something to look at. With hundreds of waits a millisecond, `asyncio.timeout` is too dear."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _next_past(self, past: CatchUp) -> Change | AgentProgress | None:
        """The next change that is past, or the first that is live."""
        try:
            while self._past is not None and self.cut_off is None:
                try:
                    if (news := await past.next()) is not None:
                        return news
                except LogUnavailableError as exc:
                    _log.info("Catching up has to wait for the log: %s", exc)
                    await asyncio.sleep(_PAUSE_SECONDS)
            return self.take()
        except (BrokenHistoryError, UnreadableCommitError) as exc:
            _log.error("Live updates of an orchestration end: %s", exc)
            self.cut(Cut.BROKEN)
            return None

    def _clear(self) -> None:
        for news in self._waiting:
            self._load.remove(news)
        self._waiting.clear()
        self.waiting_bytes = 0

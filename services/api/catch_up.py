"""What a resuming client missed: read from the log page by page, and folded one commit at a time as it is taken."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from services.api.changes import Change, Picture, advance, change, picture_of
from services.api.projections import apply
from shared.domain.state import Orchestration
from shared.envelope import Stored
from shared.ports import EventLog

Key = tuple[str, str]
"""Team and orchestration."""

PAGE: Final = 128
"""Commits in memory at once, however long the history."""
_LAG_SECONDS: Final = 0.05


class Recent:
    """Changes of late, of all orchestrations: after a restart, many come back that have missed the same.

    Args:
        most: bytes in all; those used longest ago are forgotten first.
    """

    def __init__(self, most: int = 8 * 1024 * 1024) -> None:
        self._most = most
        self._bytes = 0
        self._changes: OrderedDict[tuple[Key, int], Change] = OrderedDict()

    def after(self, key: Key, sequence: int) -> Change | None:
        """The change of the orchestration's first commit behind the one at `sequence`, if it is here."""
        found = self._changes.get((key, sequence))
        if found is not None:
            self._changes.move_to_end((key, sequence))
        return found

    def put(self, key: Key, sequence: int, news: Change) -> None:
        """`news` follows what the orchestration's commit at `sequence` led to."""
        if (key, sequence) in self._changes:
            return
        self._changes[key, sequence] = news
        self._bytes += news.size
        while self._bytes > self._most:
            _, forgotten = self._changes.popitem(last=False)
            self._bytes -= forgotten.size


class CatchUp:
    """The changes of one orchestration above a sequence, up to those that are live.

    A change that nobody had of late is made by folding the history from its beginning: it is a difference of states.

    Args:
        join_live: told how far it has come; agrees when that is as far as the live changes are, which then follow.
    """

    def __init__(self, log: EventLog, key: Key, after: int, recent: Recent, join_live: Callable[[int], bool]) -> None:
        self._log = log
        self._key = key
        self._after = after
        self._recent = recent
        self._join_live = join_live
        self._page: deque[Stored] = deque()
        self._place = 0
        self._state: Orchestration | None = None
        self._picture: Picture | None = None

    async def next(self) -> Change | None:
        """The next change; None when there is none yet, or when the live changes have been joined.

        Cancelling it loses nothing.

        Raises:
            LogUnavailableError: ask again.
            BrokenHistoryError, UnreadableCommitError: there is no way on.
        """
        await asyncio.sleep(0)  # a client that takes everything at once must not keep the others waiting
        if self._place <= self._after and (news := self._recent.after(self._key, self._after)) is not None:
            self._after = news.sequence
            return news
        while self._page:
            missed = self._take(self._page.popleft())
            if missed is not None:
                return missed
        if self._join_live(max(self._place, self._after)):
            return None
        page = await self._log.page(*self._key, after=self._place, limit=PAGE)
        if not page:
            # What is live is ahead, so there is more: whoever answered lags behind.
            await asyncio.sleep(_LAG_SECONDS)
        self._page.extend(page)
        return None

    def _take(self, stored: Stored) -> Change | None:
        """The change of one more commit, if it was missed."""
        before, self._place = self._place, stored.sequence
        if stored.sequence <= self._after:
            self._state = apply(self._state, stored)
            return None
        if self._picture is None and self._state is not None:
            self._picture = picture_of(self._state, before)
        old, self._picture = self._picture, advance(self._picture, stored)
        news = change(old, self._picture, stored.commit.recorded_at)
        self._recent.put(self._key, before, news)
        return news

"""What a resuming client missed: read from the log page by page, and folded one commit at a time as it is taken."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from services.api.changes import Change, Picture, advance, change, picture_of
from services.api.projections import apply
from shared.domain.state import Orchestration
from shared.envelope import Stored
from shared.ports import EventLog

PAGE: Final = 128
"""Commits in memory at once, however long the history."""
_LAG_SECONDS: Final = 0.05


class CatchUp:
    """The changes of one orchestration above a sequence, up to those that are live.

    The history is folded from its beginning, for a change is a difference of two states.

    Args:
        join_live: told how far it has come; agrees when that is as far as the live changes are, which then follow.
    """

    def __init__(
        self, log: EventLog, team: str, orchestration_id: str, after: int, join_live: Callable[[int], bool]
    ) -> None:
        self._log = log
        self._team = team
        self._orchestration_id = orchestration_id
        self._after = after
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
        while self._page:
            missed = self._take(self._page.popleft())
            if missed is not None:
                return missed
        if self._join_live(self._place):
            return None
        page = await self._log.page(self._team, self._orchestration_id, after=self._place, limit=PAGE)
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
        return change(old, self._picture, stored.commit.recorded_at)

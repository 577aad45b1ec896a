"""Attempts of which the log has had nothing new for long: what should bring them on is put back, and they are read."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.monitor.observer import Observer
from services.monitor.ownership import Ownership
from shared.command_handler import CommandHandler, HistoryError
from shared.cursor.errors import ProviderError
from shared.domain.plan import plan
from shared.domain.state import Attempt, Orchestration
from shared.following import Followed, Following
from shared.jetstream.errors import UnreadableCommitError
from shared.messages import Watched
from shared.observability.logging import log_context
from shared.ports import Clock
from shared.sweeping import Settled, SettledAction

_log = logging.getLogger(__name__)

UNREADABLE: Final = (UnreadableCommitError, HistoryError)
"""What reading one orchestration raises where its history is of a newer release, or broken; it must hide no other."""


@dataclass(frozen=True, slots=True)
class QuietAttempts:
    """`limit`: for so long an attempt may be without news. An agent that works for hours is no news, so most of them
    are as they should be."""

    handler: CommandHandler
    observer: Observer
    ownership: Ownership
    following: Following
    clock: Clock
    limit: timedelta

    async def settle(self, team: str | None, *, dry_run: bool) -> list[Settled]:
        """What was done, or would be, about those of one team, or of all.

        Raises:
            LogUnavailableError, PublishUnavailableError, psycopg.Error: something of ours is away.
        """
        settled = []
        for owner, orchestration_id in await self.ownership.live(team):
            try:
                state = (await self.handler.load(owner, orchestration_id)).state
            except UNREADABLE as exc:
                _log.error("Cannot tell whether %s has attempts without news: %s", orchestration_id, exc)
                continue
            if state is None:
                continue
            for attempt in self._quiet(state):
                with log_context(orchestration=orchestration_id, attempt=attempt.attempt_id):
                    action = "would_read" if dry_run else await self._settle(state, attempt)
                if action is not None:
                    settled.append(Settled(attempt.attempt_id, orchestration_id, attempt.agent_id, action))
        return settled

    def _quiet(self, state: Orchestration) -> Iterator[Attempt]:
        for task, attempt in state.active_attempts():
            if self.clock.now() - task.updated_at >= self.limit:
                yield attempt

    async def _settle(self, state: Orchestration, attempt: Attempt) -> SettledAction | None:
        kept = [
            await self.following.keep(state, action)
            for action in plan(state)
            if isinstance(action, Followed) and action.attempt_id == attempt.attempt_id
        ]
        was_lost = any(kept)
        if was_lost:
            _log.error("What launches or follows the attempt had been lost and was put back")
        since = (attempt.started_at or attempt.queued_at).isoformat()
        try:
            seen = await self.observer.look(Watched(state.team, state.id, attempt.attempt_id, since), "poll")
        except ProviderError as error:
            _log.warning("The attempt has been without news for long and cannot be read: %s", error)
            return "put_back" if was_lost else "not_read"
        if not seen.is_active:
            return "ended"
        return "put_back" if was_lost else None

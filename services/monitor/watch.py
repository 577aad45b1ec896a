"""Polls: one message for each live agent, put back with a growing delay until the agent has ended."""

import logging
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.monitor.observer import Observer, UnknownAttemptError
from services.monitor.streams import Streams
from shared.cursor.errors import ProviderError
from shared.domain.state import Attempt, AwaitedResult
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.jetstream.topology import is_stop_watch
from shared.messages import LOG_LAG, Watched
from shared.observability.logging import log_context
from shared.ports import Clock

_log = logging.getLogger(__name__)

_LAG_PAUSE_SECONDS = 1.0
# Between two looks at an agent that was told to stop. A stop takes effect within seconds, or it has to be repeated.
_FIRST_STOP_PAUSE_SECONDS = 2.0
_LONGEST_STOP_PAUSE_SECONDS = 30.0
# The first look for what a finished agent has not shown yet comes after this part of the grace.
_FIRST_PART = 1 / 30
_SHORTEST_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How long to wait between two looks at one agent.

    `base` for the first hour; then it grows with the agent's age to ten times that. `spread` is the part of the
    pause by which it varies up or down, so that agents launched together are not polled together.
    """

    base: timedelta = timedelta(seconds=30)
    spread: float = 0.2

    def pause(self, age: timedelta, jitter: float) -> float:
        """Seconds; `jitter` is a draw from [0, 1)."""
        hours = max(1.0, age / timedelta(hours=1))
        return self.base.total_seconds() * min(hours, 10.0) * self._spread(jitter)

    def pause_in_stop(self, asked: timedelta, jitter: float) -> float:
        """The same for an agent that was told to stop so long ago: the longer it takes, the longer the pauses."""
        seconds = max(_FIRST_STOP_PAUSE_SECONDS, asked.total_seconds() / 2)
        return min(seconds, _LONGEST_STOP_PAUSE_SECONDS, self.base.total_seconds()) * self._spread(jitter)

    def _spread(self, jitter: float) -> float:
        return 1 + self.spread * (2 * jitter - 1)


def pause_while_awaited(awaited: AwaitedResult, now: datetime) -> float:
    """Seconds until a finished agent is looked at again: as long as it has been so far, once more at the end."""
    grace, so_far = awaited.until - awaited.since, now - awaited.since
    pause = min(max(grace * _FIRST_PART, so_far), awaited.until - now)
    return max(pause.total_seconds(), _SHORTEST_PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class Watch:
    observer: Observer
    streams: Streams
    clock: Clock
    policy: PollPolicy
    chance: random.Random = field(default_factory=random.Random)

    async def on_watched(self, delivery: Delivery) -> None:
        """Look at one agent of WATCH; it stays there until it is known to have ended."""
        try:
            watched = Watched.decode(delivery.data)
        except ValueError as exc:
            raise Poison(str(exc)) from exc
        with log_context(orchestration=watched.orchestration_id, attempt=watched.attempt_id):
            try:
                await self._follow(watched, delivery)
            except UnknownAttemptError as exc:
                if self.clock.now() - delivery.published_at < LOG_LAG:
                    raise Later(_LAG_PAUSE_SECONDS, "the log does not show the attempt yet") from exc
                raise Poison(str(exc)) from exc

    async def _follow(self, watched: Watched, delivery: Delivery) -> None:
        attempt = await self.observer.attempt(watched)
        if attempt.is_active:
            self.streams.open(watched, attempt)
            if delivery.deliveries == 1:
                # It was created or told to stop a moment ago: the reply was as good as a look.
                raise Later(self._pause(watched, attempt, delivery), "the agent was asked just now")
        try:
            attempt = await self.observer.look(watched, "poll")
        except ProviderError as error:
            pause = max(self._pause(watched, attempt, delivery), error.retry_after or 0.0)
            raise Later(pause, f"could not ask: {error}") from error
        if attempt.is_active:
            reason = "the agent's result is awaited" if attempt.awaited else "the agent is running"
            raise Later(self._pause(watched, attempt, delivery), reason)

    def _pause(self, watched: Watched, attempt: Attempt, delivery: Delivery) -> float:
        now, jitter = self.clock.now(), self.chance.random()
        if attempt.awaited is not None and now < attempt.awaited.until:
            return pause_while_awaited(attempt.awaited, now)
        if is_stop_watch(delivery.subject):
            return self.policy.pause_in_stop(now - delivery.published_at, jitter)
        return self.policy.pause(now - watched.since_time, jitter)

"""Polls: one message for each live agent, put back with a growing delay until the agent has ended."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from services.monitor.observer import Observer
from services.monitor.pauses import PollPolicy, pause_while_awaited
from services.monitor.roll import Roll
from services.monitor.streams import Streams
from shared.cursor.errors import ProviderError
from shared.domain.events import AgentStatus
from shared.domain.state import Attempt
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.jetstream.topology import is_hurried_watch
from shared.messages import Watched
from shared.ports import Clock

_log = logging.getLogger(__name__)


def _alone() -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Watch:
    """Args:
    crowd: tells how many agents are watched over the whole installation.
    roll: read where those are too many to look at each.
    """

    observer: Observer
    streams: Streams
    clock: Clock
    policy: PollPolicy
    crowd: Callable[[], int] = _alone
    roll: Roll | None = None
    chance: random.Random = field(default_factory=random.Random)

    async def on_watched(self, delivery: Delivery) -> None:
        """Look at one agent of WATCH; it stays there until it is known to have ended."""
        try:
            watched = Watched.decode(delivery.data)
        except ValueError as exc:
            raise Poison(str(exc)) from exc
        with self.observer.attending(watched, delivery):
            await self._follow(watched, delivery)

    async def _follow(self, watched: Watched, delivery: Delivery) -> None:
        attempt = await self.observer.attempt(watched)
        if attempt.is_active:
            self.streams.open(watched, attempt)
            if delivery.deliveries == 1:
                # It was created, told to stop or seen to finish a moment ago: that was as good as a look.
                raise Later(self._pause(watched, attempt, delivery), "the agent was asked just now")
            if not is_hurried_watch(delivery.subject) and await self._can_wait(watched, attempt):
                raise Later(self._pause(watched, attempt, delivery), "the agent is likely to be running")
        try:
            attempt = await self.observer.look(watched, "poll")
        except ProviderError as error:
            pause = max(self._pause(watched, attempt, delivery), error.retry_after or 0.0)
            raise Later(pause, f"could not ask: {error}") from error
        if attempt.is_active:
            raise Later(self._pause(watched, attempt, delivery), _reason(attempt))

    async def _can_wait(self, watched: Watched, attempt: Attempt) -> bool:
        """Whether no look is needed now, since there are too many agents to look at each, and nothing is expected of
        this one. A part of them is looked at whatever the list says, so that none is left to it alone."""
        age, agents = self.clock.now() - watched.since_time, self.crowd()
        if self.roll is None or self.chance.random() < self.policy.share(age, agents):
            return False
        if not self._is_simply_at_work(attempt):
            return False
        at_rest = await self.roll.shows_at_rest(attempt.agent_id or "", agents)
        return self.roll.is_readable and not at_rest

    def _is_simply_at_work(self, attempt: Attempt) -> bool:
        is_due = attempt.deadline_at is not None and attempt.deadline_at <= self.clock.now()
        something_is_up = is_due or attempt.stop_reason or attempt.awaited or attempt.missed
        return attempt.status is AgentStatus.RUNNING and not something_is_up

    def _pause(self, watched: Watched, attempt: Attempt, delivery: Delivery) -> float:
        """The message for what is expected soon comes back soon; the other one only if that should be lost."""
        now, jitter = self.clock.now(), self.chance.random()
        if is_hurried_watch(delivery.subject):
            if attempt.awaited is not None and now < attempt.awaited.until:
                return pause_while_awaited(attempt.awaited, now)
            return self.policy.pause_in_stop(now - delivery.published_at, jitter)
        # With the list at hand it costs nothing to come back soon.
        agents = 1 if self.roll is not None and self.roll.is_readable else self.crowd()
        pause = self.policy.pause(now - watched.since_time, jitter, agents)
        return pause if attempt.missed is None else self.policy.pause_while_missed(pause)


def _reason(attempt: Attempt) -> str:
    if attempt.awaited is not None:
        return "the agent's result is awaited"
    return "the agent is not found" if attempt.missed else "the agent is running"

"""How long until an agent is looked at again: a table of ages, and pure functions of what is known of the agent."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.state import AwaitedResult

# Between two looks at an agent that was told to stop. A stop takes effect within seconds, or it has to be repeated.
_FIRST_STOP_PAUSE_SECONDS = 2.0
_LONGEST_STOP_PAUSE_SECONDS = 30.0
# The first look for what a finished agent has not shown yet comes after this part of the grace.
_FIRST_PART = 1 / 30
_SHORTEST_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How long to wait between two looks at one agent.

    Args:
        first: in its first five minutes, in which many agents end.
        base: in its first hour; then more and more, up to `longest`.
        spread: the part of a pause by which it may be shorter, so that agents launched together are not polled
            together. It is never longer than what is set.
        per_minute: looks at all agents together that the provider's limit has room for, 0 for no limit. Where there
            are more agents than that allows for, each is looked at less often, and the pauses vary by half, so that
            none is refused for others that come at the same time.
        lost_after: how long an agent is not found before it counts as lost; it is looked for twice meanwhile.
    """

    first: timedelta = timedelta(seconds=10)
    base: timedelta = timedelta(seconds=30)
    longest: timedelta = timedelta(minutes=5)
    spread: float = 0.2
    per_minute: float = 0.0
    lost_after: timedelta = timedelta(minutes=5)

    @property
    def steps(self) -> tuple[tuple[timedelta, timedelta], ...]:
        """From which age on an agent is looked at after which pause."""
        longest = max(self.longest, self.base)
        return (
            (timedelta.min, min(self.first, self.base)),
            (timedelta(minutes=5), self.base),
            (timedelta(hours=1), min(self.base * 2, longest)),
            (timedelta(hours=2), min(self.base * 4, longest)),
            (timedelta(hours=4), longest),
        )

    def pause(self, age: timedelta, jitter: float, agents: int = 1) -> float:
        """Seconds.

        Args:
            jitter: a draw from [0, 1).
            agents: how many are watched over the whole installation.
        """
        step, fair = self._step(age), self._fair(agents)
        return step * self._spread(jitter) if step >= fair else fair * (0.5 + jitter)

    def share(self, age: timedelta, agents: int) -> float:
        """Of the looks at an agent that come after its plain pause, the part that the limit has room for."""
        return min(1.0, self._step(age) / max(self._fair(agents), 0.001))

    def _step(self, age: timedelta) -> float:
        return [pause for since, pause in self.steps if since <= age][-1].total_seconds()

    def _fair(self, agents: int) -> float:
        """Seconds between two looks at each of so many, if the limit were divided among them."""
        return agents * 60.0 / self.per_minute if self.per_minute else 0.0

    def pause_in_stop(self, asked: timedelta, jitter: float) -> float:
        """The same for an agent that was told to stop so long ago: the longer it takes, the longer the pauses."""
        seconds = max(_FIRST_STOP_PAUSE_SECONDS, asked.total_seconds() / 2)
        return min(seconds, _LONGEST_STOP_PAUSE_SECONDS, self.base.total_seconds()) * self._spread(jitter)

    def pause_while_missed(self, pause: float) -> float:
        """No longer than until the next look counts: two of three that do not find it have to lie between."""
        return min(pause, self.lost_after.total_seconds() / 2)

    def _spread(self, jitter: float) -> float:
        return 1 - self.spread * jitter


def pause_while_awaited(awaited: AwaitedResult, now: datetime) -> float:
    """Seconds until a finished agent is looked at again: as long as it has been so far, once more at the end."""
    grace, so_far = awaited.until - awaited.since, now - awaited.since
    pause = min(max(grace * _FIRST_PART, so_far), awaited.until - now)
    return max(pause.total_seconds(), _SHORTEST_PAUSE_SECONDS)

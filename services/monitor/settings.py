"""What the monitor reads from the environment."""

from datetime import timedelta

from pydantic import Field, SecretStr

from services.monitor.pauses import PollPolicy
from shared.domain.patience import Patience
from shared.settings import ProviderSettings

# The part of the reads that polls may use up; the rest is for webhooks, streams, results and launches.
_POLLS = 2 / 3
# The part of the lists that one process may read to see whom to look at; others are launching, or sweeping.
_ROLLS = 1 / 3


class MonitorSettings(ProviderSettings):
    """See `ServiceSettings` for how fields become variables."""

    poll_first_seconds: float = Field(default=10.0, gt=0)
    """Between two looks at an agent in its first five minutes, at most `poll_interval_seconds`."""

    poll_interval_seconds: float = Field(default=30.0, gt=0)
    """The same in its first hour."""

    poll_longest_seconds: float = Field(default=300.0, gt=0)
    """What that grows to with the agent's age, at least `poll_interval_seconds`."""

    lost_after_seconds: float = Field(default=300.0, gt=0)
    """An agent that three looks over so long did not find counts as lost."""

    follow_up_grace_seconds: float = Field(default=15.0, ge=0)
    """How long v0 may go on to show an agent's old end after a follow-up, see `OldEnds`."""

    result_grace_seconds: float = Field(default=60.0, ge=0)
    """How long branch, pull request, summary and usage are looked for after an agent has finished."""

    database_url: SecretStr | None = None
    """Where it is read which agents are ours. Without it nothing is swept: see `services.monitor.sweep`."""
    sweep_seconds: float = Field(default=3600.0, gt=0)
    """Between two sweeps, over all replicas."""
    sweep_quiet_seconds: float = Field(default=7200.0, gt=0)
    """An attempt that has been without news for so long is looked at by the sweep, too."""

    @property
    def patience(self) -> Patience:
        return Patience(
            result_grace=timedelta(seconds=self.result_grace_seconds),
            lost_after=timedelta(seconds=self.lost_after_seconds),
        )

    @property
    def roll_rate(self) -> float:
        """Pages a minute."""
        return self.list_rate_per_minute * _ROLLS

    @property
    def follow_up_grace(self) -> timedelta:
        return timedelta(seconds=self.follow_up_grace_seconds)

    @property
    def poll_policy(self) -> PollPolicy:
        return PollPolicy(
            first=timedelta(seconds=self.poll_first_seconds),
            base=timedelta(seconds=self.poll_interval_seconds),
            longest=timedelta(seconds=self.poll_longest_seconds),
            per_minute=self.get_rate_per_minute * _POLLS,
            lost_after=timedelta(seconds=self.lost_after_seconds),
        )

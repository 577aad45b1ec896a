"""What the monitor reads from the environment."""

from datetime import timedelta

from pydantic import Field, SecretStr

from services.monitor.watch import PollPolicy
from shared.domain.patience import Patience
from shared.settings import ProviderSettings


class MonitorSettings(ProviderSettings):
    """See `ServiceSettings` for how fields become variables."""

    poll_interval_seconds: float = Field(default=30.0, gt=0)
    """Between two looks at an agent in its first hour."""

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
        return Patience(result_grace=timedelta(seconds=self.result_grace_seconds))

    @property
    def follow_up_grace(self) -> timedelta:
        return timedelta(seconds=self.follow_up_grace_seconds)

    @property
    def poll_policy(self) -> PollPolicy:
        return PollPolicy(base=timedelta(seconds=self.poll_interval_seconds))

"""What the monitor reads from the environment."""

from datetime import timedelta

from pydantic import Field

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

    @property
    def patience(self) -> Patience:
        return Patience(result_grace=timedelta(seconds=self.result_grace_seconds))

    @property
    def follow_up_grace(self) -> timedelta:
        return timedelta(seconds=self.follow_up_grace_seconds)

    @property
    def poll_policy(self) -> PollPolicy:
        return PollPolicy(base=timedelta(seconds=self.poll_interval_seconds))

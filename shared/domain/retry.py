"""When something that failed is tried again: policy as data, one pure function."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off between the attempts of a task.

    The n-th retry waits `base · 2ⁿ⁻¹`, at most `cap`, and up to `spread` of that longer, so that tasks that failed
    together do not come back together.
    """

    base: timedelta = timedelta(minutes=1)
    cap: timedelta = timedelta(minutes=30)
    spread: float = 0.2

    def delay(self, retry: int, jitter: float) -> timedelta:
        """How long the `retry`-th retry (from 1) waits; `jitter` is a draw from [0, 1)."""
        plain = min(self.base * float(2 ** min(retry - 1, 32)), self.cap)
        return min(plain * (1 + self.spread * jitter), self.cap)

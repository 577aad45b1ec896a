"""How much may be asked for in a minute, and how many agents there may be."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from deploy.local.simulator.clock import Clock
from deploy.local.simulator.errors import ApiError, limit_headers
from deploy.local.simulator.schemas import Strict
from deploy.local.simulator.settings import SimulatorSettings

Bucket = Literal["create", "get", "list", "repositories"]

_MINUTE, _HOUR = 60.0, 3600.0


class LimitValues(Strict):
    """How many calls; 0 is no limit. `concurrent_agents` counts those that are neither archived nor deleted."""

    create_per_minute: int = Field(default=0, ge=0)
    get_per_minute: int = Field(default=0, ge=0)
    list_per_minute: int = Field(default=0, ge=0)
    repositories_per_minute: int = Field(default=0, ge=0)
    repositories_per_hour: int = Field(default=0, ge=0)
    concurrent_agents: int = Field(default=0, ge=0)


def bucket_of(method: str, path: str) -> Bucket | None:
    """The limit that calls of this route share; None for those that have none."""
    _, _, rest = path.lstrip("/").partition("/")
    match method, rest:
        case "POST", "agents":
            return "create"
        case "POST", _ if rest.endswith(("/runs", "/followup")):
            # A further prompt sets a machine to work as well.
            return "create"
        case "GET", "repositories":
            return "repositories"
        case "GET", "agents":
            return "list"
        case "GET", _:
            return "get"
        case _:
            return None


@dataclass(slots=True)
class _Window:
    """The calls of the last `seconds`."""

    seconds: float
    calls: deque[float] = field(default_factory=deque)

    def wait(self, limit: int, now: float) -> float:
        """For how long a further call has to wait; 0 if it need not."""
        while self.calls and self.calls[0] <= now - self.seconds:
            self.calls.popleft()
        return self.calls[0] + self.seconds - now if limit and len(self.calls) >= limit else 0.0


class Limits:
    """Counts calls in windows that move along; a call that is refused does not count."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self.defaults = LimitValues.model_validate({name: getattr(settings, name) for name in LimitValues.model_fields})
        self.values = self.defaults
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def clear(self) -> None:
        """Forget the calls so far."""
        self._windows.clear()

    def take(self, bucket: Bucket) -> None:
        """Let a call pass.

        Raises:
            ApiError: `rate_limit_exceeded` with the headers that tell when to come back.
        """
        now = self._clock.elapsed()
        windows = [
            (getattr(self.values, name), self._window(name, seconds))
            for name, seconds in ((f"{bucket}_per_minute", _MINUTE), (f"{bucket}_per_hour", _HOUR))
            if getattr(self.values, name, 0)
        ]
        wait, limit = max(((window.wait(limit, now), limit) for limit, window in windows), default=(0.0, 0))
        if wait:
            raise ApiError("rate_limit_exceeded", headers=limit_headers(wait, limit))
        for _, window in windows:
            window.calls.append(now)

    def refuse_agents_beyond(self, count: Callable[[], int]) -> None:
        """Raises:
        ApiError: `rate_limit_exceeded` if there are as many agents as there may be at most.
        """
        most = self.values.concurrent_agents
        if most and count() >= most:
            raise ApiError("rate_limit_exceeded", f"You have reached the limit of {most} concurrent agents", headers={})

    def _window(self, name: str, seconds: float) -> _Window:
        return self._windows.setdefault(name, _Window(seconds))

"""How many webhooks are looked at: those that are refused must not crowd out the ones of the provider."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from services.api.errors import ApiError
from services.api.failed_attempts import network_of

_MOST_KEYS: Final = 10_000
_GRAIN_SECONDS: Final = 0.001
"""Less than this is no wait: it comes of rounding."""
_GENUINE: Final = 10
"""So many times as many may come of one attempt when they are genuine: the provider repeats what was not answered."""


class Buckets:
    """For each key `burst` at once, and `per_minute` in the long run; 0 is no limit. What is known of a key is the
    time up to which it has used its share.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, per_minute: int, burst: int, *, now: Callable[[], float]) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._ahead = (burst - 1) * self._interval
        self._now = now
        self._used_until: OrderedDict[str, float] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds until there is room for one more."""
        wait = self._used_until.get(key, -math.inf) - self._now() - self._ahead
        return wait if wait > _GRAIN_SECONDS else 0.0

    def note(self, key: str) -> None:
        """One more, room or not."""
        if not self._interval:
            return
        now = self._now()
        self._used_until[key] = max(self._used_until.get(key, now), now) + self._interval
        self._used_until.move_to_end(key)
        if len(self._used_until) > _MOST_KEYS:
            self._used_until.popitem(last=False)


class WebhookLimits:
    """Counted in this process alone, for what a webhook costs is each replica's own.

    One is counted when it is known what it is. Those that are refused count for where they come from; where the
    address of an attempt was known, for that attempt and from there only. So whoever is behind the provider's proxy,
    or has got hold of one attempt's address, holds up no webhook but their own. Genuine ones count for their attempt.
    """

    def __init__(self, per_minute: int, burst: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._refused = Buckets(per_minute, burst, now=now)
        self._genuine = Buckets(per_minute * _GENUINE, burst * _GENUINE, now=now)

    def check(self, source: str, attempt_id: str | None) -> None:
        """Before anything is read of it but its address. `attempt_id` is None where that is not one of ours.

        Raises:
            ApiError: 429, with how long to wait.
        """
        wait = self._refused.wait(_place(source, attempt_id))
        if attempt_id is not None:
            wait = max(wait, self._genuine.wait(attempt_id))
        if wait > 0:
            headers = {"Retry-After": str(math.ceil(wait))}
            raise ApiError("RATE_LIMIT_EXCEEDED", "too many webhooks", headers=headers)

    def note_refused(self, source: str, attempt_id: str | None) -> None:
        self._refused.note(_place(source, attempt_id))

    def note_genuine(self, attempt_id: str) -> None:
        self._genuine.note(attempt_id)


def _place(source: str, attempt_id: str | None) -> str:
    return f"{network_of(source)} {attempt_id or ''}"

"""Leaving tickets of held queues alone for a while, and not all workers busy with looking at them."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_LEAST_SECONDS: Final = 2.0
_LOOKS_PER_SECOND: Final = 100.0
"""A look costs the broker a delivery and us a millisecond; what comes again goes before the tickets of other teams."""


class HeldTickets:
    """How long until a held ticket is looked at again: the longer, the more of them this process has seen of late.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: OrderedDict[str, float] = OrderedDict()

    def pause(self, attempt_id: str) -> float:
        """Seconds for which to leave the ticket of this attempt alone, which was found to be held."""
        now = self._now()
        self._seen[attempt_id] = now
        self._seen.move_to_end(attempt_id)
        pause = max(_LEAST_SECONDS, len(self._seen) / _LOOKS_PER_SECOND)
        # What has not come again since was let go, or is looked at by another process.
        while next(iter(self._seen.values())) < now - 2 * pause:
            self._seen.popitem(last=False)
        return pause

"""How often an address showed keys that are nobody's."""

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from services.api.errors import ApiError

_WINDOW_SECONDS: Final = 60.0
_MOST_ADDRESSES: Final = 10_000
_NETWORK_BITS: Final = 64
"""Of IPv6: whoever has one address has all of such a network."""


class FailedAttempts:
    """Counted in this process alone: what a guess costs is asking the database, and that is each replica's own.

    Args:
        per_minute: how many failures an address may have in any minute; 0 is no limit.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._now = now
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """
        Raises:
            ApiError: 429, with how long to wait.
        """
        failures = self._failures.get(network_of(address))
        if not self._per_minute or failures is None or len(failures) < self._per_minute:
            return
        wait = failures[0] + _WINDOW_SECONDS - self._now()
        if wait > 0:
            raise ApiError(
                "RATE_LIMIT_EXCEEDED",
                "too many keys from this address were not valid",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    def note(self, address: str) -> None:
        """One more failure."""
        if not self._per_minute:
            return
        network = network_of(address)
        failures = self._failures.setdefault(network, deque(maxlen=self._per_minute))
        failures.append(self._now())
        self._failures.move_to_end(network)
        if len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)


def network_of(address: str) -> str:
    """What stands for all that whoever has this address may have: itself, or the network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed), _NETWORK_BITS), strict=False))

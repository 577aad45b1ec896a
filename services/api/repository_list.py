"""Which repositories the provider has access to: a list that it lets be asked for now and then only."""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.api.asking_provider import translated
from services.api.errors import ApiError
from services.api.kept_list import KeptList

_PATIENCE_SECONDS: Final = 5.0
_STILL_ASKING_SECONDS: Final = 10
"""The provider takes tens of seconds where there are many repositories."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The addresses, and how many seconds ago the provider told them."""

    addresses: tuple[str, ...]
    age: float


class RepositoryList:
    """The repositories of the provider.

    Args:
        ask: the provider's list; may raise ProviderError.
        patience: seconds that callers wait while there is none yet.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Sequence[str]]],
        *,
        patience: float = _PATIENCE_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept = KeptList("repositories", ask, patience=patience, now=now)

    async def listed(self) -> Listed:
        """The list as it is known.

        Raises:
            ApiError: nothing is known yet: 503 with the time to wait, or 502 where waiting will not help.
        """
        addresses = await self._kept.items()
        if addresses is not None:
            return Listed(addresses, self._kept.age)
        failure = self._kept.failure
        if failure is not None and not failure.retryable:
            raise translated(failure)
        message = "the provider of the agents cannot be asked for its repositories now; try again later"
        wait = _STILL_ASKING_SECONDS if failure is None else math.ceil(self._kept.due_in)
        raise ApiError("SERVICE_UNAVAILABLE", message, headers={"Retry-After": str(max(1, wait))})

    async def aclose(self) -> None:
        """Stop asking."""
        await self._kept.aclose()

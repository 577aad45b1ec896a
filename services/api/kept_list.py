"""A list of the provider that is dear to ask for: fetched now and then in the background, never waited for long."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from shared.cursor.errors import ProviderError
from shared.ending import end

_log = logging.getLogger(__name__)

_FRESH_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 60.0

T = TypeVar("T")


class KeptList(Generic[T]):
    """What the provider said last, for an hour; then still that, while it is asked again.

    Args:
        name: of what is listed, for the log.
        ask: the provider's list; may raise ProviderError.
        patience: seconds that callers wait while there is none yet.
        now: seconds that only grow.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[], Awaitable[Sequence[T]]],
        *,
        patience: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failure: ProviderError | None = None
        """Why the provider could not be asked last, None if it could."""
        self._name = name
        self._ask = ask
        self._patience = patience
        self._now = now
        self._items: tuple[T, ...] | None = None
        self._fetched_at = self._due = now()
        self._asking: asyncio.Task[None] | None = None

    @property
    def age(self) -> float:
        """Seconds since what is known was fetched."""
        return self._now() - self._fetched_at

    @property
    def due_in(self) -> float:
        """Seconds until the provider may be asked again."""
        return max(0.0, self._due - self._now())

    async def items(self) -> tuple[T, ...] | None:
        """What is known, None as long as the provider has not told it."""
        self.refresh()
        if self._items is None and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=self._patience)
        return self._items

    def refresh(self) -> None:
        """Ask again in the background if it is time to."""
        if self._asking is None and self._now() >= self._due:
            self._asking = asyncio.create_task(self._fetch(), name=f"list of {self._name}")

    async def _fetch(self) -> None:
        try:
            self._items = tuple(await self._ask())
            self._fetched_at, self.failure = self._now(), None
            self._due = self._now() + _FRESH_SECONDS
        except ProviderError as exc:
            _log.info("The provider does not list its %s now, going on with what is known: %s", self._name, exc)
            self.failure = exc
            self._due = self._now() + max(_RETRY_SECONDS, exc.retry_after or 0.0)
        finally:
            self._asking = None

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            await end(self._asking)

"""Which models the provider offers: asked now and then, never waited for long."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shared.cursor.errors import ProviderError
from shared.cursor.provider import Model
from shared.domain.models import KNOWN_WITHOUT_PROVIDER

_log = logging.getLogger(__name__)

_FRESH_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 60.0
_WITHOUT_PROVIDER: Final = tuple(Model(name, name) for name in KNOWN_WITHOUT_PROVIDER)


@dataclass(frozen=True, slots=True)
class Offer:
    """The models that can be named. Those of the `fallback` have always been there; the provider may have others."""

    models: tuple[Model, ...]
    source: Literal["provider", "fallback"]


class ModelList:
    """The models of the provider.

    Args:
        ask: the provider's list; may raise ProviderError.
        patience: seconds that the first caller waits for it; later ones get the old list while a new one is fetched.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Sequence[Model]]],
        *,
        patience: float = 2.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._patience = patience
        self._now = now
        self._models: tuple[Model, ...] = ()
        self._due = now()
        self._asking: asyncio.Task[None] | None = None

    async def names(self) -> frozenset[str]:
        """Every name that can be given for a model."""
        offer = await self.offer()
        return frozenset(name for model in offer.models for name in (model.id, *model.aliases) if name)

    async def offer(self) -> Offer:
        """The list, or what has always been there as long as the provider could not be asked."""
        self.refresh()
        if not self._models and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=self._patience)
        return Offer(self._models, "provider") if self._models else Offer(_WITHOUT_PROVIDER, "fallback")

    def refresh(self) -> None:
        """Ask again in the background if it is time to."""
        if self._asking is None and self._now() >= self._due:
            self._asking = asyncio.create_task(self._fetch(), name="model-list")

    async def _fetch(self) -> None:
        try:
            models = tuple(model for model in await self._ask() if model.id)
            self._models = models or self._models
            self._due = self._now() + _FRESH_SECONDS
        except ProviderError as exc:
            _log.info("The provider does not list its models, going on with those known: %s", exc)
            self._due = self._now() + _RETRY_SECONDS
        finally:
            self._asking = None

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

"""Which models the provider offers: asked now and then, never waited for long."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.api.kept_list import KeptList
from shared.cursor.answers import bad_response
from shared.cursor.provider import Model
from shared.domain.models import KNOWN_WITHOUT_PROVIDER

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
        self._kept = KeptList("models", self._named, patience=patience, now=now)

    async def names(self) -> frozenset[str]:
        """Every name that can be given for a model."""
        offer = await self.offer()
        return frozenset(name for model in offer.models for name in (model.id, *model.aliases) if name)

    async def offer(self) -> Offer:
        """The list, or what has always been there as long as the provider could not be asked."""
        models = await self._kept.items()
        return Offer(_WITHOUT_PROVIDER, "fallback") if models is None else Offer(models, "provider")

    def refresh(self) -> None:
        """Ask again in the background if it is time to."""
        self._kept.refresh()

    async def _named(self) -> tuple[Model, ...]:
        models = tuple(model for model in await self._ask() if model.id)
        if not models:
            raise bad_response("the list of models is empty")
        return models

    async def aclose(self) -> None:
        """Stop asking."""
        await self._kept.aclose()

"""The list of models never keeps anybody waiting."""

import asyncio

from services.api.model_list import ModelList
from shared.cursor.errors import ProviderError
from shared.cursor.provider import Model
from shared.domain.models import KNOWN_WITHOUT_PROVIDER
from tests.support.eventually import eventually


class Provider:
    def __init__(self) -> None:
        self.asked = 0
        self.answer: list[Model] | None = [Model("o3", "o3"), Model("sonnet-5", "Sonnet 5", ("s5",))]
        self.silent = False

    async def models(self) -> list[Model]:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.answer is None:
            raise ProviderError("internal_error", "no", status=500)
        return self.answer


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_the_providers_names_and_aliases_are_known_for_an_hour() -> None:
    provider, time = Provider(), Time()
    models = ModelList(provider.models, now=time)
    for time.seconds in (0, 61, 3599):
        assert await models.names() == {"o3", "sonnet-5", "s5"}
    await asyncio.sleep(0)  # should it have begun to ask
    assert provider.asked == 1
    time.seconds = 3601
    provider.answer = [Model("o4", "o4")]
    assert await models.names() == {"o3", "sonnet-5", "s5"}, "the old list is given while the new one is fetched"

    async def renewed() -> bool:
        return await models.names() == {"o4"}

    await eventually(renewed)
    assert provider.asked == 2


async def test_the_names_known_without_a_provider_serve_when_it_refuses() -> None:
    provider, time = Provider(), Time()
    provider.answer = None
    models = ModelList(provider.models, now=time)
    assert await models.names() == set(KNOWN_WITHOUT_PROVIDER)
    await models.names()
    assert provider.asked == 1, "a provider that refuses is left alone for a while"
    time.seconds, provider.answer = 61, [Model("o4", "o4")]
    assert await models.names() == {"o4"}


async def test_a_silent_provider_is_not_waited_for() -> None:
    provider = Provider()
    provider.silent = True
    models = ModelList(provider.models, patience=0.01)
    assert await models.names() == set(KNOWN_WITHOUT_PROVIDER)
    assert provider.asked == 1
    await models.aclose()


async def test_an_offer_says_whose_list_it_is() -> None:
    provider = Provider()
    provider.answer = None
    offer = await ModelList(provider.models).offer()
    assert (offer.source, [model.id for model in offer.models]) == ("fallback", list(KNOWN_WITHOUT_PROVIDER))
    provider.answer = [Model("sonnet-5", "Sonnet 5", ("s5",)), Model("", "nameless")]
    offer = await ModelList(provider.models).offer()
    assert (offer.source, offer.models) == ("provider", (Model("sonnet-5", "Sonnet 5", ("s5",)),))

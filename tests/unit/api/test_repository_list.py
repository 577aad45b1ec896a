"""The list of repositories: asked for seldom, kept for an hour, and never waited for long."""

import asyncio

import pytest

from services.api.errors import ApiError
from services.api.repository_list import RepositoryList
from shared.cursor.errors import ProviderError
from tests.support.eventually import eventually

SHOP = "https://github.com/acme/shop"
TOOLS = "https://github.com/acme/tools"


class Provider:
    def __init__(self) -> None:
        self.asked = 0
        self.seconds = 0.0
        self.answer: list[str] | ProviderError | None = [SHOP]

    async def repositories(self) -> list[str]:
        self.asked += 1
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, ProviderError):
            raise self.answer
        return self.answer or []

    def now(self) -> float:
        return self.seconds

    def listed(self, patience: float = 5.0) -> RepositoryList:
        return RepositoryList(self.repositories, patience=patience, now=self.now)


async def refused(repositories: RepositoryList) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await repositories.listed()
    return caught.value


async def test_it_is_asked_for_when_somebody_wants_it_and_kept_for_an_hour_with_its_age() -> None:
    provider = Provider()
    repositories = provider.listed()
    assert provider.asked == 0
    assert (await repositories.listed()).addresses == (SHOP,)
    provider.seconds = 3599
    kept = await repositories.listed()
    assert (kept.addresses, kept.age, provider.asked) == ((SHOP,), 3599, 1)


async def test_the_old_list_serves_while_a_new_one_is_fetched_and_when_that_fails() -> None:
    provider = Provider()
    repositories = provider.listed()
    await repositories.listed()
    provider.seconds, provider.answer = 3601, ProviderError("upstream_error", "no", status=503, retryable=True)
    assert (await repositories.listed()).addresses == (SHOP,)

    async def was_asked() -> None:
        assert provider.asked == 2

    await eventually(was_asked)
    assert (await repositories.listed()).age == 3601
    provider.seconds, provider.answer = 3700, [SHOP, TOOLS]

    async def renewed() -> None:
        assert (await repositories.listed()).addresses == (SHOP, TOOLS)

    await eventually(renewed)
    assert (await repositories.listed()).age == 0


async def test_no_repository_at_all_is_an_answer_too() -> None:
    provider = Provider()
    provider.answer = []
    assert (await provider.listed().listed()).addresses == ()


async def test_a_rate_limit_is_told_with_the_time_to_wait_and_not_met_again_before() -> None:
    provider = Provider()
    provider.answer = ProviderError("rate_limit_exceeded", "later", retryable=True, retry_after=118.2)
    repositories = provider.listed()
    error = await refused(repositories)
    assert (error.code, error.headers) == ("SERVICE_UNAVAILABLE", {"Retry-After": "119"})
    provider.seconds, provider.answer = 100, [SHOP]
    assert (await refused(repositories)).headers == {"Retry-After": "19"}
    assert provider.asked == 1
    provider.seconds = 118.2
    assert (await repositories.listed()).addresses == (SHOP,)


async def test_one_that_takes_long_is_not_waited_for_and_is_there_later() -> None:
    provider = Provider()
    provider.answer = None
    repositories = provider.listed(patience=0.01)
    for _ in range(2):
        error = await refused(repositories)
        assert (error.status, error.headers) == (503, {"Retry-After": "10"})
    assert provider.asked == 1
    await repositories.aclose()


async def test_what_waiting_does_not_help_is_told_as_such() -> None:
    provider = Provider()
    provider.answer = ProviderError("unauthorized", "Invalid User API Key", status=401)
    error = await refused(provider.listed())
    assert (error.code, error.status) == ("CURSOR_API_ERROR", 502)
    assert "Key" not in error.message

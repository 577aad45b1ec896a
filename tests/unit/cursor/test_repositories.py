"""The repositories that the provider has access to: dear to ask for, so asked for once."""

import httpx
import pytest

from shared.cursor.errors import ProviderError
from tests.unit.cursor.scripted import Script, Version, answer, error, provider
from tests.unit.cursor.test_http import Limiter

BOTH = pytest.mark.parametrize("version", ["v0", "v1"])
SHOP = "https://github.com/acme/shop"
TOOLS = "https://github.com/acme/tools"


def listed(version: Version, *urls: object) -> httpx.Response:
    if version == "v1":
        return answer({"items": [{"url": url} for url in urls]})
    return answer({"repositories": [{"owner": "acme", "name": "x", "repository": url} for url in urls]})


@BOTH
async def test_each_address_is_given_once_and_what_is_none_is_left_out(version: Version) -> None:
    script = Script(listed(version, SHOP, TOOLS, SHOP, None, 7, "http://github.com/acme/odd", "git@github.com:a/b"))

    assert await provider(version, script).repositories() == [SHOP, TOOLS]
    assert script.calls == [f"GET /{version}/repositories"]


@BOTH
async def test_the_answer_may_take_more_than_a_minute(version: Version) -> None:
    script = Script(listed(version))

    await provider(version, script).repositories()

    assert script.requests[0].extensions["timeout"]["read"] >= 60.0


@BOTH
@pytest.mark.parametrize("failure", [error(503, "upstream_error"), httpx.ReadTimeout(""), httpx.ConnectError("")])
async def test_it_is_not_asked_a_second_time_for_that_would_be_too_often(
    version: Version, failure: httpx.Response | Exception
) -> None:
    script = Script(failure)

    with pytest.raises(ProviderError) as caught:
        await provider(version, script).repositories()

    assert caught.value.retryable
    assert len(script.requests) == 1


@BOTH
async def test_it_has_a_limit_of_its_own(version: Version) -> None:
    limiter = Limiter()
    script = Script(listed(version), error(429, "rate_limit_exceeded", Retry_After="60"))
    client = provider(version, script, limiter=limiter)

    await client.repositories()
    with pytest.raises(ProviderError) as caught:
        await client.repositories()

    assert caught.value.retry_after == 60.0
    assert (limiter.acquired, limiter.throttles) == (["repositories"] * 2, [("repositories", 60.0)])

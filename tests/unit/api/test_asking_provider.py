"""What a caller is told of the provider's failures."""

import asyncio

import pytest

from services.api import asking_provider as module
from services.api.asking_provider import asking_provider
from services.api.errors import ApiError
from shared.cursor.errors import ProviderError

SECRET = "key_123 at https://api.cursor.example"


async def told(error: ProviderError) -> ApiError:
    with pytest.raises(ApiError) as caught:
        async with asking_provider():
            raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ProviderError("agent_not_found", SECRET, status=404), "AGENT_NOT_FOUND", 404),
        (ProviderError("run_not_found", SECRET, status=404), "AGENT_NOT_FOUND", 404),
        (ProviderError("unknown", SECRET, status=404), "CURSOR_API_ERROR", 502),
        (ProviderError("unauthorized", SECRET, status=401), "CURSOR_API_ERROR", 502),
        (ProviderError("feature_unavailable", SECRET, status=404), "CURSOR_API_ERROR", 502),
        (ProviderError("usage_limit_exceeded", SECRET, status=429, billing=True), "CURSOR_API_ERROR", 502),
        (ProviderError("upstream_error", SECRET, status=503, retryable=True), "CURSOR_API_ERROR", 502),
        (ProviderError("timeout", SECRET, retryable=True), "CURSOR_API_ERROR", 502),
        (ProviderError("bad_response", SECRET, retryable=True), "CURSOR_API_ERROR", 502),
        (ProviderError("rate_limit_exceeded", SECRET, status=429, retryable=True), "SERVICE_UNAVAILABLE", 503),
        (ProviderError("provider_unavailable", SECRET, retryable=True), "SERVICE_UNAVAILABLE", 503),
    ],
)
async def test_each_failure_has_a_code_of_ours_and_shows_no_internals(
    error: ProviderError, code: str, status: int
) -> None:
    answer = await told(error)
    assert (answer.code, answer.status) == (code, status)
    assert "key_123" not in answer.message
    assert "cursor.example" not in f"{answer.message} {answer.metadata}"


@pytest.mark.parametrize(("asked", "told_seconds"), [(7.2, "8"), (0.0, "5"), (None, "5"), (0.1, "1")])
@pytest.mark.parametrize("code", ["rate_limit_exceeded", "provider_unavailable"])
async def test_who_is_held_back_is_told_when_to_come_again(asked: float | None, told_seconds: str, code: str) -> None:
    error = ProviderError(code, "not now", retryable=True, retry_after=asked)
    assert (await told(error)).headers["Retry-After"] == told_seconds


async def test_a_provider_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)
    with pytest.raises(ApiError) as caught:
        async with asking_provider():
            await asyncio.sleep(30)
    assert (caught.value.code, caught.value.status) == ("CURSOR_API_ERROR", 502)


async def test_what_is_not_of_the_provider_is_left_alone() -> None:
    with pytest.raises(ValueError, match="ours"):
        async with asking_provider():
            raise ValueError("ours")

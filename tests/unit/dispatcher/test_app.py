"""What the dispatcher makes of its settings: what does not go together is warned of, what would be refused waits."""

import logging
from datetime import timedelta

import pytest

from services.dispatcher.app import _create_wait, _settle
from services.dispatcher.settings import DispatcherSettings
from shared.memory import ManualClock, MemoryKeyValue
from shared.rate_limit import Rate, SharedRateLimiter
from tests.unit.cursor.scripted import Script, answer, error
from tests.unit.cursor.test_breaker import Clocked, provider
from tests.unit.dispatcher.world import START


@pytest.mark.parametrize(("seconds", "warned"), [(149, 1), (150, 0), (300, 0)])
def test_a_create_that_is_given_up_while_it_may_still_take_effect_is_warned_of(
    seconds: float, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"nats_url": "n", "cursor_api_key": "k", "webhook_secret": "a-secret-that-is-long-enough-for-all"}
    settings = DispatcherSettings.model_validate({**given, "create_settle_seconds": seconds})
    with caplog.at_level(logging.WARNING):
        assert _settle(settings) == timedelta(seconds=seconds)
    assert sum("CREATE_SETTLE_SECONDS" in record.message for record in caplog.records) == warned


def limit(clock: ManualClock) -> SharedRateLimiter:
    return SharedRateLimiter(MemoryKeyValue(), clock, {"create": Rate(6)})


async def test_a_create_waits_for_the_rate_limit_and_for_a_provider_that_is_left_alone() -> None:
    breaker, limiter = Clocked(), limit(ManualClock(START))
    never = provider(breaker, Script())
    assert await _create_wait(limiter, breaker, never) == 0
    await limiter.acquire("create")
    assert await _create_wait(limiter, breaker, never) == 10
    breaker.fail()
    assert await _create_wait(limiter, breaker, never) == 30


async def test_whether_the_provider_is_well_again_is_found_out_by_a_read_before_anything_is_started() -> None:
    breaker, limiter = Clocked().fail(), limit(ManualClock(START))
    script = Script(error(503, "upstream_error"), answer({"apiKeyName": "ours"}))
    asked = provider(breaker, script)
    breaker.time += 30
    assert await _create_wait(limiter, breaker, asked) == 30
    breaker.time += 30
    assert await _create_wait(limiter, breaker, asked) == 0
    assert script.calls == ["GET /v1/me"] * 2
    assert not breaker.is_open

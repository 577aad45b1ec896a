"""Settings that do not go together are warned of when the dispatcher starts."""

import logging
from datetime import timedelta

import pytest

from services.dispatcher.app import _settle
from services.dispatcher.settings import DispatcherSettings


@pytest.mark.parametrize(("seconds", "warned"), [(149, 1), (150, 0), (300, 0)])
def test_a_create_that_is_given_up_while_it_may_still_take_effect_is_warned_of(
    seconds: float, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"nats_url": "n", "cursor_api_key": "k", "webhook_secret": "a-secret-that-is-long-enough-for-all"}
    settings = DispatcherSettings.model_validate({**given, "create_settle_seconds": seconds})
    with caplog.at_level(logging.WARNING):
        assert _settle(settings) == timedelta(seconds=seconds)
    assert sum("CREATE_SETTLE_SECONDS" in record.message for record in caplog.records) == warned

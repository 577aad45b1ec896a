"""Webhooks that are refused are held back; those of the provider pass all the same."""

import pytest

from services.api.errors import ApiError
from services.api.webhook_limits import WebhookLimits

PER_MINUTE, BURST = 60, 20
STRANGER, PROVIDER = "198.51.100.7", "203.0.113.9"


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(name="now")
def _now() -> Now:
    return Now()


@pytest.fixture(name="limits")
def _limits(now: Now) -> WebhookLimits:
    return WebhookLimits(PER_MINUTE, BURST, now=now)


def wait(limits: WebhookLimits, source: str, attempt_id: str | None = None) -> int:
    """How long a webhook is told to wait, 0 for one that is let in."""
    try:
        limits.check(source, attempt_id)
    except ApiError as error:
        return int(error.headers["Retry-After"])
    return 0


def refused(limits: WebhookLimits, count: int, source: str = STRANGER, attempt_id: str | None = None) -> int:
    """So many that are refused, as far as they are let in; gives how many were."""
    let_in = 0
    for _ in range(count):
        if not wait(limits, source, attempt_id):
            limits.note_refused(source, attempt_id)
            let_in += 1
    return let_in


def test_who_has_to_wait_is_told_how_long(limits: WebhookLimits) -> None:
    refused(limits, 100)
    with pytest.raises(ApiError) as told:
        limits.check(STRANGER, None)
    assert (told.value.status, told.value.code) == (429, "RATE_LIMIT_EXCEEDED")
    assert told.value.headers == {"Retry-After": "1"}


def test_an_address_may_send_so_many_at_once_and_then_so_many_a_minute(limits: WebhookLimits, now: Now) -> None:
    assert refused(limits, 100) == BURST
    assert wait(limits, STRANGER) == 1
    total = 0
    for _ in range(60):
        now.seconds += 1
        total += refused(limits, 5)
    assert total == PER_MINUTE


def test_who_paused_may_send_as_many_at_once_as_before_and_no_more(limits: WebhookLimits, now: Now) -> None:
    refused(limits, 100)
    now.seconds += 3600
    assert refused(limits, 100) == BURST


def test_one_address_holds_up_no_other(limits: WebhookLimits) -> None:
    refused(limits, 100)
    assert wait(limits, PROVIDER) == 0
    assert wait(limits, PROVIDER, "a1") == 0


def test_addresses_of_one_network_of_version_six_count_as_one(limits: WebhookLimits) -> None:
    assert sum(refused(limits, 1, f"2001:db8:0:1::{last}") for last in range(1, 100)) == BURST
    assert wait(limits, "2001:db8:0:2::1") == 0


def test_a_webhook_with_the_address_of_an_attempt_passes_though_its_proxy_brings_many_without(
    limits: WebhookLimits,
) -> None:
    refused(limits, 100)
    assert wait(limits, STRANGER, "a1") == 0


def test_who_has_got_hold_of_the_address_of_an_attempt_holds_up_neither_others_nor_another_place(
    limits: WebhookLimits,
) -> None:
    assert refused(limits, 100, attempt_id="a1") == BURST
    assert wait(limits, STRANGER, "a1") > 0
    assert wait(limits, STRANGER, "a2") == 0
    assert wait(limits, PROVIDER, "a1") == 0


def test_genuine_ones_count_for_their_attempt_wherever_they_come_from(limits: WebhookLimits, now: Now) -> None:
    for index in range(10 * BURST):
        assert wait(limits, f"203.0.113.{index % 200}", "a1") == 0
        limits.note_genuine("a1")
    assert wait(limits, PROVIDER, "a1") == 1
    assert wait(limits, PROVIDER, "a2") == 0
    now.seconds += 1
    assert wait(limits, PROVIDER, "a1") == 0


def test_nothing_is_limited_at_nought_a_minute(now: Now) -> None:
    assert refused(WebhookLimits(0, BURST, now=now), 1000) == 1000


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten_first(
    limits: WebhookLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.webhook_limits._MOST_KEYS", 10)
    for index in range(50):
        refused(limits, BURST, f"198.51.100.{index}")
    assert len(limits._refused._used_until) == 10
    assert wait(limits, "198.51.100.49") > 0
    assert wait(limits, "198.51.100.40") > 0
    assert wait(limits, "198.51.100.39") == 0

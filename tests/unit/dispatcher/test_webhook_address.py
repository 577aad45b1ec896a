"""Where the agents of v0 report to."""

import logging

import pytest

from services.dispatcher.app import _webhooks
from services.dispatcher.settings import DispatcherSettings
from shared.messages import Ticket
from shared.webhooks import WebhookAddress, WebhookKeys

SECRET = "a-secret-that-is-long-enough-for-all"
TICKET = Ticket("red", "o1", "a1")


def settings(version: str, app_url: str) -> DispatcherSettings:
    given = {"nats_url": "n", "cursor_api_key": "k", "webhook_secret": SECRET}
    return DispatcherSettings.model_validate({**given, "cursor_api_version": version, "app_url": app_url})


def test_the_address_carries_the_attempt_and_its_secret_is_the_attempts_own() -> None:
    target = _webhooks(settings("v0", "https://orchestrator.example.com/"))(TICKET)
    assert target is not None
    address, _, token = target.url.partition("?attempt=")
    assert address == "https://orchestrator.example.com/api/cloud-agents/webhook"
    assert WebhookKeys([SECRET]).read_token(token) == WebhookAddress("red", "o1", "a1")
    assert target.secret == WebhookKeys([SECRET]).secret_for("a1")


def test_v1_has_no_webhooks() -> None:
    assert _webhooks(settings("v1", "https://orchestrator.example.com"))(TICKET) is None


@pytest.mark.parametrize(
    ("version", "app_url", "warned"),
    [("v0", "http://127.0.0.1:8080", 1), ("v0", "https://example.com", 0), ("v1", "http://127.0.0.1:8080", 0)],
)
def test_an_address_that_anybody_can_listen_to_is_warned_of(
    version: str, app_url: str, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _webhooks(settings(version, app_url))
    assert sum("APP_URL is not https" in record.message for record in caplog.records) == warned

"""Settings: what is wrong is named, with what it should be, and never shown."""

import pytest

from services.api.settings import ApiSettings
from services.dispatcher.settings import DispatcherSettings
from shared.settings import EXIT_MISCONFIGURED, ServiceSettings
from shared.webhooks import WebhookAddress, WebhookKeys

GIVEN = {
    "NATS_URL": "nats://127.0.0.1:4222",
    "DATABASE_URL": "postgresql://127.0.0.1/orchestrator",
    "CURSOR_API_KEY": "a-key",
    "WEBHOOK_SECRET": "a-secret-that-is-long-enough-for-all",
}
NO_ADDRESS = "must be http(s)://host[:port], without credentials"
NO_TOKEN = "must not hold a space, a colon or a character that is not ASCII"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("service", "name", "value", "complaint"),
    [
        (ApiSettings, "CURSOR_API_URL", "api.cursor.com", NO_ADDRESS),
        (ApiSettings, "CURSOR_API_URL", "https://someone:secret@api.cursor.com", NO_ADDRESS),
        (ApiSettings, "GITHUB_API_URL", "ftp://github.example.com", NO_ADDRESS),
        (DispatcherSettings, "APP_URL", "orchestrator.example.com", NO_ADDRESS),
        (ApiSettings, "CURSOR_API_KEY", "two words", NO_TOKEN),
        (DispatcherSettings, "CURSOR_API_KEY", "user:password", NO_TOKEN),
        (ApiSettings, "GITHUB_TOKEN", "a\ntoken", NO_TOKEN),
    ],
)
def test_what_cannot_be_used_is_named_and_not_shown(
    service: type[ServiceSettings],
    name: str,
    value: str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        service.load()
    assert ended.value.code == EXIT_MISCONFIGURED
    said = capsys.readouterr().err
    assert f"  {name}: {complaint}\n" in said
    assert value not in said


def test_everything_that_is_wrong_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NATS_URL")
    monkeypatch.setenv("WEBHOOK_SECRET", "short")
    monkeypatch.setenv("CURSOR_API_URL", "nowhere")
    with pytest.raises(SystemExit):
        ApiSettings.load()
    said = capsys.readouterr().err
    for name in ("NATS_URL", "WEBHOOK_SECRET", "CURSOR_API_URL"):
        assert f"  {name}: " in said


@pytest.mark.parametrize("name", ["WEBHOOK_SECRET", "WEBHOOK_SECRET_PREVIOUS"])
def test_a_secret_that_is_too_short_is_named_and_not_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "x" * 31)
    with pytest.raises(SystemExit):
        ApiSettings.load()
    said = capsys.readouterr().err
    assert f"{name}: must have at least 32 characters" in said
    assert "x" * 31 not in said


def test_the_secret_before_is_taken_beside_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = WebhookKeys([GIVEN["WEBHOOK_SECRET"]]), WebhookKeys(["an-old-secret-that-is-long-enough"])
    token = old.token_for("red", "o1", "a1")
    assert ApiSettings.load().webhook_keys.read_token(token) is None
    monkeypatch.setenv("WEBHOOK_SECRET_PREVIOUS", "an-old-secret-that-is-long-enough")
    keys = ApiSettings.load().webhook_keys
    assert keys.read_token(token) == WebhookAddress("red", "o1", "a1")
    assert keys.secret_for("a1") == new.secret_for("a1")


def test_an_address_is_taken_with_or_without_a_slash_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_URL", "https://orchestrator.example.com/")
    assert DispatcherSettings.load().app_url == "https://orchestrator.example.com"

"""Only the provider's signature over exactly these bytes, for exactly this attempt, is taken."""

import hashlib
import hmac

import pytest
from pydantic import ValidationError

from services.api.settings import ApiSettings
from shared.settings import complaint
from shared.webhooks import WebhookAddress, WebhookKeys

OLD, NEW = "an-old-master-secret-of-32-characters", "a-new-master-secret-of-32-characters"
KEYS = WebhookKeys([NEW, OLD])
BODY = b'{"event":"statusChange","status":"FINISHED"}'


def sign(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


GOOD = sign(KEYS.secret_for("a1"), BODY)


def test_the_providers_signature_is_taken() -> None:
    assert KEYS.verify("a1", BODY, GOOD)


def test_no_change_of_a_single_byte_of_the_body_passes() -> None:
    for place in range(len(BODY)):
        for flip in (1, 0x20, 0x80):
            changed = bytearray(BODY)
            changed[place] ^= flip
            assert not KEYS.verify("a1", bytes(changed), GOOD)
    assert not KEYS.verify("a1", BODY + b" ", GOOD)
    assert not KEYS.verify("a1", BODY[:-1], GOOD)


def test_no_change_of_a_single_character_of_the_header_passes() -> None:
    for place in range(len(GOOD)):
        for flip in (1, 2, 0x20):
            changed = GOOD[:place] + chr(ord(GOOD[place]) ^ flip) + GOOD[place + 1 :]
            assert not KEYS.verify("a1", BODY, changed)


@pytest.mark.parametrize(
    "header",
    [
        None, "", "sha256=", "sha256", GOOD[7:], GOOD[:-1], GOOD + "0", GOOD.upper(), "SHA256" + GOOD[6:],
        GOOD.replace("=", ":"), " " + GOOD, GOOD + " ", "sha1=" + GOOD[7:], "sha256=" + "é" * 64, "sha256=" + "0" * 64,
    ],
)  # fmt: skip
def test_odd_headers_do_not_pass(header: str | None) -> None:
    assert not KEYS.verify("a1", BODY, header)


def test_the_signature_of_one_attempt_is_worthless_for_another() -> None:
    assert not KEYS.verify("a2", BODY, GOOD)
    assert KEYS.secret_for("a1") != KEYS.secret_for("a2")


def test_secrets_fit_what_the_provider_takes() -> None:
    assert 32 <= len(KEYS.secret_for("a1")) <= 256


def test_what_an_earlier_master_made_is_taken_while_both_are_known() -> None:
    before = WebhookKeys([OLD])
    token = before.token_for("red", "o1", "a1")
    assert KEYS.verify("a1", BODY, sign(before.secret_for("a1"), BODY))
    assert KEYS.read_token(token) == WebhookAddress("red", "o1", "a1")
    after = WebhookKeys([NEW])
    assert not after.verify("a1", BODY, sign(before.secret_for("a1"), BODY))
    assert after.read_token(token) is None


def test_the_settings_take_the_secret_before_beside_the_one_that_is_used() -> None:
    keys = settings(webhook_secret=NEW, webhook_secret_previous=OLD).webhook_keys
    assert keys.secret_for("a1") == WebhookKeys([NEW]).secret_for("a1")
    assert keys.verify("a1", BODY, sign(WebhookKeys([OLD]).secret_for("a1"), BODY))
    assert not settings(webhook_secret=NEW).webhook_keys.verify(
        "a1", BODY, sign(WebhookKeys([OLD]).secret_for("a1"), BODY)
    )


@pytest.mark.parametrize("name", ["webhook_secret", "webhook_secret_previous"])
def test_a_secret_that_is_too_short_is_no_setting(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**{"webhook_secret": NEW, name: "x" * 31})
    said = complaint(refused.value)
    assert f"{name.upper()}: must have at least 32 characters" in said
    assert "x" * 31 not in said


def settings(**given: str) -> ApiSettings:
    return ApiSettings.model_validate({"nats_url": "n", "database_url": "d", "cursor_api_key": "k", **given})


def test_a_token_names_its_attempt_and_cannot_be_changed() -> None:
    token = KEYS.token_for("red", "o1", "a1")
    assert KEYS.read_token(token) == WebhookAddress("red", "o1", "a1")
    assert token.replace("-", "").replace("_", "").replace(".", "").isalnum()
    other = KEYS.token_for("red", "o2", "a1")
    assert KEYS.read_token(token.partition(".")[0] + "." + other.partition(".")[2]) is None
    for place in range(token.index(".")):
        for replacement in "AbZ9-_":
            changed = token[:place] + replacement + token[place + 1 :]
            assert changed == token or KEYS.read_token(changed) is None


@pytest.mark.parametrize("token", ["", ".", "a", "a.b", "a.b.c", "é", "\0", "x" * 1000, "=.=", "////.////"])
def test_nonsense_is_no_token(token: str) -> None:
    assert KEYS.read_token(token) is None

"""Only the provider's signature over exactly these bytes, for exactly this attempt, is taken."""

import hashlib
import hmac

import pytest

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

"""Receivers can tell that a webhook is ours, with the library of Standard Webhooks and by hand."""

import hashlib
import hmac
import os
import random
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from services.notifier.signing import signature_headers, team_key, team_secret

SECRET = "0123456789abcdef0123456789abcdef"
FROZEN = "EjrURKMB+sa1jc5RyZFoiveACzXA04pA2sXghb2XLPY="


def bodies() -> list[bytes]:
    chance = random.Random(7)
    texts = [
        "".join(chr(chance.choice((65, 0xE9, 0x4E2D, 0x1F600))) for _ in range(chance.randrange(200)))
        for _ in range(998)
    ]
    return [b"{}", b'"' + b"x" * 20_000 + b'"', *(f'{{"text":"{text}"}}'.encode() for text in texts)]


def headers_of(body: bytes, *, key: bytes | None = None, at: int | None = None) -> dict[str, str]:
    now = at if at is not None else int(datetime.now(UTC).timestamp())
    return signature_headers(key or team_key(SECRET, "team-a"), webhook_id="msg-1", timestamp=now, body=body)


def test_the_library_accepts_what_was_sent() -> None:
    webhook = Webhook(team_secret(SECRET, "team-a"))
    for body in bodies():
        webhook.verify(body, headers_of(body))


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "webhook-signature", "body"])
def test_the_library_refuses_anything_that_was_changed(changed: str) -> None:
    body = b'{"event":"orchestration.completed"}'
    headers = headers_of(body)
    if changed == "body":
        body = body.replace(b"completed", b"complEted")
    elif changed == "webhook-timestamp":
        headers[changed] = str(int(headers[changed]) + 1)
    else:
        headers[changed] = headers[changed][:-3] + ("AA=" if headers[changed][-3:] != "AA=" else "BB=")
    with pytest.raises(WebhookVerificationError):
        Webhook(team_secret(SECRET, "team-a")).verify(body, headers)


def test_one_team_cannot_sign_for_another() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(team_secret(SECRET, "team-b")).verify(b"{}", headers_of(b"{}"))


def test_the_second_signature_is_of_the_raw_body_with_the_same_key() -> None:
    key = team_key(SECRET, "team-a")
    expected = hmac.new(key, b'{"a":1}', hashlib.sha256).hexdigest()
    assert headers_of(b'{"a":1}')["X-Orchestration-Signature"] == f"sha256={expected}"


def test_the_key_of_a_team_never_changes_between_releases() -> None:
    assert team_secret(SECRET, "team-a") == "whsec_" + FROZEN
    assert len(team_key(SECRET, "team-a")) == 32


def test_the_command_prints_the_secret_of_a_team() -> None:
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET}
    command = [sys.executable, "-m", "services.notifier.signing", "team-a"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == team_secret(SECRET, "team-a")

"""Keys and signatures of outbound webhooks: `python -m services.notifier.signing TEAM` prints a team's secret.

A team's key is HMAC-SHA256(WEBHOOK_SECRET, "outbound-webhook:v1:" + team), 32 bytes, so that no team can forge the
webhooks of another and nothing needs to be stored. Its text form, as Standard Webhooks has it, is "whsec_" and base64.
"""

import base64
import hashlib
import hmac
import sys

from pydantic import ValidationError

from services.notifier.settings import SigningSettings
from shared.settings import EXIT_MISCONFIGURED, complaint

_PURPOSE = "outbound-webhook:v1:"
SECRET_PREFIX = "whsec_"


def team_key(webhook_secret: str, team: str) -> bytes:
    """The 32 bytes that sign everything sent for `team`."""
    return hmac.digest(webhook_secret.encode(), (_PURPOSE + team).encode(), hashlib.sha256)


def team_secret(webhook_secret: str, team: str) -> str:
    """The same key as receivers are given it."""
    return SECRET_PREFIX + base64.b64encode(team_key(webhook_secret, team)).decode()


def signature_headers(key: bytes, *, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove where `body` comes from, by Standard Webhooks 1.0.0 and by the plain HMAC of the body.

    Args:
        webhook_id: the same at every try of one delivery.
        timestamp: of this try, in seconds since 1970.
    """
    signed = b".".join((webhook_id.encode(), str(timestamp).encode(), body))
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
        "X-Orchestration-Signature": f"sha256={hmac.digest(key, body, hashlib.sha256).hex()}",
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m services.notifier.signing TEAM")
    try:
        settings = SigningSettings()
    except ValidationError as exc:
        print(complaint(exc), file=sys.stderr)
        sys.exit(EXIT_MISCONFIGURED)
    print(team_secret(settings.webhook_secret.get_secret_value(), sys.argv[1]))

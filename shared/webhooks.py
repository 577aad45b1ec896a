"""Keys of the provider's webhooks: a secret and an address for each attempt, derived and not stored.

A receipt is authenticated and finds its attempt without any look-up, even before the reply to the create is there.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

_SIGNATURE_PREFIX = "sha256="
_MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """Which attempt a webhook belongs to, read from its address."""

    team: str
    orchestration_id: str
    attempt_id: str


class WebhookKeys:
    """Derives secrets and tokens from master secrets: the first is used for new ones, all are accepted.

    Args:
        masters: one, or two while the secret is being replaced; each at least 32 characters.
    """

    def __init__(self, masters: Sequence[str]) -> None:
        self._masters = [master.encode() for master in masters]

    def secret_for(self, attempt_id: str) -> str:
        """The secret that the provider signs this attempt's webhooks with, 64 hexadecimal digits."""
        return _secret(self._masters[0], attempt_id)

    def token_for(self, team: str, orchestration_id: str, attempt_id: str) -> str:
        """What the webhook's address carries; nobody else can make one that `read_token` accepts."""
        payload = "/".join((team, orchestration_id, attempt_id)).encode()
        return _token(payload, _mac(self._masters[0], payload))

    def read_token(self, token: str) -> WebhookAddress | None:
        """The attempt of a token, None if it is not one of ours."""
        payload_text, _, mac_text = token.partition(".")
        try:
            payload, mac = _decode(payload_text), _decode(mac_text)
            team, orchestration_id, attempt_id = payload.decode().split("/")
        except ValueError:
            return None
        if not sum(hmac.compare_digest(_mac(master, payload), mac) for master in self._masters):
            return None
        if token != _token(payload, mac):
            return None  # another spelling of the same bytes, which nobody was given
        return WebhookAddress(team, orchestration_id, attempt_id)

    def verify(self, attempt_id: str, body: bytes, signature: str | None) -> bool:
        """Whether `signature`, the header `sha256=<hex>`, is that of the raw `body`; in constant time."""
        given = (signature or "").encode("utf-8", "replace")
        expected = [_signature(_secret(master, attempt_id), body) for master in self._masters]
        return sum(hmac.compare_digest(wanted, given) for wanted in expected) > 0


def _secret(master: bytes, attempt_id: str) -> str:
    return hmac.new(master, b"webhook:" + attempt_id.encode(), hashlib.sha256).hexdigest()


def _mac(master: bytes, payload: bytes) -> bytes:
    return hmac.new(master, b"address:" + payload, hashlib.sha256).digest()[:_MAC_BYTES]


def _signature(secret: str, body: bytes) -> bytes:
    return (_SIGNATURE_PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()).encode()


def _token(payload: bytes, mac: bytes) -> str:
    return f"{_encode(payload)}.{_encode(mac)}"


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

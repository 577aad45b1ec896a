"""The form of an API key: `cop_<environment>_<id>_<secret><checksum>`.

The id (8 characters) is public and finds the key's row. The secret is 32 random bytes as 43 characters of base64url.
The checksum (6 characters, CRC-32 of everything before it in base 62) tells a key from a typing error without asking
the database, and lets scanners of code for leaked secrets be sure of what they found.
"""

import hashlib
import re
import secrets
import string
import uuid
import zlib
from dataclasses import dataclass, field
from typing import Final

_ID_LENGTH: Final = 8
_ID_LETTERS: Final = string.ascii_lowercase + string.digits
_SECRET_BYTES: Final = 32
_CHECKSUM_LENGTH: Final = 6
_BASE_62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LONGEST_ENVIRONMENT: Final = 16

_FORM: Final = re.compile(rb"cop_[a-z0-9]{1,16}_([a-z0-9]{8})_[A-Za-z0-9_-]{43}([0-9A-Za-z]{6})")
_ID: Final = re.compile(r"[a-z0-9]{8}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `text` is the only place where all of it is."""

    id: str
    text: str = field(repr=False)

    @property
    def sha256(self) -> bytes:
        return fingerprint(self.text.encode())


def make_key(environment: str, key_id: str) -> NewKey:
    """A key with a new random secret; `environment` is written into it, as far as it is letters and digits."""
    label = re.sub(r"[^a-z0-9]", "", environment.lower())[:_LONGEST_ENVIRONMENT] or "any"
    body = f"cop_{label}_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewKey(key_id, body + _checksum(body.encode()))


def short_id(long_id: str) -> str:
    """The id of a key that is made from a UUID: the same for the same."""
    rest, letters = uuid.UUID(long_id).int, ""
    for _ in range(_ID_LENGTH):
        rest, letter = divmod(rest, len(_ID_LETTERS))
        letters += _ID_LETTERS[letter]
    return letters


def id_of(key: bytes) -> str | None:
    """The id in a key of our form with the right checksum, None for anything else."""
    match = _FORM.fullmatch(key)
    if match is None or _checksum(key[:-_CHECKSUM_LENGTH]).encode() != match[2]:
        return None
    return match[1].decode()


def is_id(text: str) -> bool:
    """Whether it can be the id of a key."""
    return _ID.fullmatch(text) is not None


def fingerprint(key: bytes) -> bytes:
    """What is stored of a key. So random a key needs no slow hash."""
    return hashlib.sha256(key).digest()


def _checksum(body: bytes) -> str:
    rest, digits = zlib.crc32(body), ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_BASE_62))
        digits = _BASE_62[digit] + digits
    return digits

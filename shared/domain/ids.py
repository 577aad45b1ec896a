"""Ids that follow from what they name."""

import uuid
from typing import Final

_NAMESPACE: Final = uuid.UUID("5b7f6a2e-6f0b-5d0c-9a53-3a1c9d6f2b10")


def derive_id(*parts: str | int) -> str:
    """An id that is always the same for the same parts, so that repeating a decision repeats its ids."""
    return str(uuid.uuid5(_NAMESPACE, ":".join(str(part) for part in parts)))

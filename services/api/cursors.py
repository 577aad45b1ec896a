"""Cursors of lists: opaque to clients, and safe to be made up by them."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson


class BadCursorError(ValueError):
    """The cursor is not one that a page gave."""


def pack(parts: Sequence[Any]) -> str:
    """A cursor of these parts, which are written as JSON."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def unpack(cursor: str, length: int) -> list[Any]:
    """Its parts, of any type.

    Raises:
        BadCursorError: it does not have so many, or is no cursor.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        parts = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error) as exc:
        raise BadCursorError("not a cursor that a page gave") from exc
    if not isinstance(parts, list) or len(parts) != length:
        raise BadCursorError("not a cursor that a page gave")
    return parts


def place(moment: Any, last_id: Any) -> tuple[datetime, str]:
    """Where a page ends that is in the order of a moment and an id.

    Raises:
        BadCursorError: these are not both.
    """
    try:
        at = datetime.fromisoformat(moment)
    except (ValueError, TypeError) as exc:
        raise BadCursorError("not a cursor that a page gave") from exc
    if at.tzinfo is None:
        raise BadCursorError("not a cursor that a page gave")
    return at, text(last_id)


def text(value: Any) -> str:
    """A text that can be put to the database.

    Raises:
        BadCursorError: it is none.
    """
    if not isinstance(value, str) or "\0" in value:
        raise BadCursorError("not a cursor that a page gave")
    return value


def write_cursor(at: datetime, last_id: str) -> str:
    """Stands behind the item of this moment and id."""
    return pack([at.astimezone(UTC), last_id])


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """The moment and the id.

    Raises:
        BadCursorError: it is not one that a page gave.
    """
    moment, last_id = unpack(cursor, 2)
    return place(moment, last_id)

"""Cursors of lists that are in the order of a moment and an id: opaque to clients, and safe to be made up by them."""

import base64
import binascii
from datetime import UTC, datetime

import orjson

from services.api.queries import BadCursorError


def write_cursor(at: datetime, last_id: str) -> str:
    """Stands behind the item of this moment and id."""
    place = orjson.dumps([at.astimezone(UTC), last_id])
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """The moment and the id.

    Raises:
        BadCursorError: it is not one that a page gave.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        moment, last_id = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        at = datetime.fromisoformat(moment)
    except (ValueError, TypeError, binascii.Error) as exc:
        raise BadCursorError("not a cursor that a page gave") from exc
    if at.tzinfo is None or not isinstance(last_id, str) or "\0" in last_id:
        raise BadCursorError("not a cursor that a page gave")
    return at, last_id

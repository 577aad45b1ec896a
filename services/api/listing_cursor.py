"""The cursors of lists: each stands for a place on one list, and says which list that is."""

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Final

import orjson

from services.api.listing_plan import Wanted
from services.api.problems import InvalidRequestError, problem
from services.api.queries import BadCursorError

_OTHER_LIST: Final = "belongs to a list with other filters or another sort; begin without it"


def make_cursor(at: datetime, orchestration_id: str, team: str, wanted: Wanted) -> str:
    """Stands for a place on this one list: behind the orchestration."""
    return base64.urlsafe_b64encode(orjson.dumps([at, orchestration_id, _digest(team, wanted)])).decode().rstrip("=")


def read_cursor(cursor: str, team: str, wanted: Wanted) -> tuple[datetime, str]:
    """The moment and the id of the place.

    Raises:
        BadCursorError: it is no cursor.
        InvalidRequestError: it belongs to another list.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        moment, orchestration_id, digest = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        at = datetime.fromisoformat(moment)
    except (ValueError, TypeError, binascii.Error) as exc:
        raise BadCursorError("not a cursor that a page gave") from exc
    if at.tzinfo is None or not isinstance(orchestration_id, str) or "\0" in orchestration_id:
        raise BadCursorError("not a cursor that a page gave")
    if digest != _digest(team, wanted):
        raise InvalidRequestError([problem("cursor", _OTHER_LIST)])
    return at, orchestration_id


def _digest(team: str, wanted: Wanted) -> str:
    """Of what makes the list what it is, however its filters were ordered."""
    parts = [
        team,
        wanted.sort,
        sorted(set(wanted.statuses)),
        wanted.repository,
        sorted(set(wanted.tags)),
        wanted.created_by,
        wanted.since,
        wanted.until,
        wanted.search,
    ]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:16]

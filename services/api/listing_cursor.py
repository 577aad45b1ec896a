"""The cursors of lists: each stands for a place on one list, and says which list that is."""

import hashlib
from datetime import datetime
from typing import Final

import orjson

from services.api.cursors import pack, place, unpack
from services.api.listing_plan import Wanted
from services.api.problems import InvalidRequestError, problem

_OTHER_LIST: Final = "belongs to a list with other filters or another sort; begin without it"


def make_cursor(at: datetime, orchestration_id: str, team: str, wanted: Wanted) -> str:
    """Stands for a place on this one list: behind the orchestration."""
    return pack([at, orchestration_id, _digest(team, wanted)])


def read_cursor(cursor: str, team: str, wanted: Wanted) -> tuple[datetime, str]:
    """The moment and the id of the place.

    Raises:
        BadCursorError: it is no cursor.
        InvalidRequestError: it belongs to another list.
    """
    moment, orchestration_id, digest = unpack(cursor, 3)
    behind = place(moment, orchestration_id)
    if digest != _digest(team, wanted):
        raise InvalidRequestError([problem("cursor", _OTHER_LIST)])
    return behind


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

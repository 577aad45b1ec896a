"""How API keys are shown."""

from datetime import datetime

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.api.auth import Permission
from services.api.cursors import BadCursorError, read_cursor, write_cursor
from services.api.keys import NewKey, is_id
from services.api.keys_table import KeyRecord
from services.api.responses import Json
from shared.moments import written
from shared.views import View


class NewKeyShape(BaseModel):
    """A key that was just made."""

    id: str
    key: str | None = Field(description="to be sent as X-API-Key; shown this once, so null when a request is repeated")
    name: str
    team: str
    permissions: list[Permission]
    expires_at: str | None
    created_at: str


class KeyShape(BaseModel):
    """A key as it is listed, without the key itself."""

    id: str
    name: str
    team: str
    permissions: list[Permission]
    expires_at: str | None
    created_at: str
    created_by: str = Field(description="the id of the key that made it; `operator` or `start` where there is none")
    revoked_at: str | None
    last_used_at: str | None = Field(description="to within about a minute")


class KeysPage(BaseModel):
    """One page of keys."""

    items: list[KeyShape]
    nextCursor: str | None = Field(default=None, description="absent on the last page")


class RevokedShape(BaseModel):
    """A key that lets nobody in any more."""

    id: str
    status: str
    message: str


def new_key_view(record: KeyRecord) -> View:
    """The answer to whoever made the key, still without its secret: see `with_secret`."""
    return {
        "id": record.id,
        "key": None,
        "name": record.name,
        "team": record.team,
        "permissions": record.permissions,
        "expires_at": written(record.expires_at),
        "created_at": written(record.created_at),
    }


def with_secret(answer: Response, key: NewKey) -> Response:
    """The answer with the key in it, which is put in after everything that is kept of the answer was kept."""
    view = orjson.loads(answer.body)
    return Json({**view, "key": key.text}, answer.status_code, {"Location": answer.headers["Location"]})


def key_view(record: KeyRecord) -> View:
    """A key on a list."""
    view = new_key_view(record)
    del view["key"]
    return {
        **view,
        "created_by": record.created_by,
        "revoked_at": written(record.revoked_at),
        "last_used_at": written(record.last_used_at),
    }


def key_cursor(record: KeyRecord) -> str:
    """Where a page that ends with this key goes on."""
    return write_cursor(record.created_at, record.id)


def read_key_cursor(cursor: str) -> tuple[datetime, str]:
    """Creation time and id of the last key of the page before.

    Raises:
        BadCursorError: it is not one that a page gave.
    """
    at, key_id = read_cursor(cursor)
    if not is_id(key_id):
        raise BadCursorError("not a cursor that a page gave")
    return at, key_id

"""API keys: make, list, revoke."""

import logging
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from services.api.auth import Admin, Permission, Principal
from services.api.bodies import read_json
from services.api.errors import ApiError
from services.api.idempotency import Once, RequestIds
from services.api.keys import NewKey, is_id, make_key, short_id
from services.api.keys_request import read_key, refuse_more_than_own
from services.api.keys_table import Draft, KeyRecord
from services.api.keys_view import (
    KeyShape,
    KeysPage,
    NewKeyShape,
    RevokedShape,
    key_cursor,
    key_view,
    new_key_view,
    read_key_cursor,
    with_secret,
)
from services.api.parts import TheParts
from services.api.responses import Json
from services.api.routes.answers import action, page, refuse_unknown_parameters
from services.api.routes.carrying_out import json_body, refuse_body
from services.api.routes.documented import AUTH_CODES, BODY_CODES, errors, good
from services.api.settings import TEAM_PATTERN

router = APIRouter(prefix="/api/keys", tags=["keys"])

_log = logging.getLogger(__name__)

_EXAMPLE: Final = {
    "id": "g497t03a",
    "name": "ci of the checkout team",
    "team": "checkout",
    "permissions": ["orchestrations:read", "orchestrations:write"],
    "expires_at": "2027-01-01T00:00:00Z",
    "created_at": "2026-11-20T09:30:00Z",
}
_KNOWN: Final = {
    **_EXAMPLE,
    "created_by": "operator",
    "revoked_at": None,
    "last_used_at": "2026-11-20T09:35:00Z",
}
_SHOWN_ONCE: Final = "cop_production_g497t03a_…"
_REVOKED_EXAMPLE: Final = {"id": "g497t03a", "status": "REVOKED", "message": "Revoked"}
_BODY: Final = json_body(
    "KeyRequest",
    {
        "of a pipeline": {
            "name": _EXAMPLE["name"],
            "permissions": _EXAMPLE["permissions"],
            "expiresAt": _EXAMPLE["expires_at"],
        }
    },
)


class PlannedKey(BaseModel):
    """A key to be made, without its secret, which is never stored."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    team: str
    permissions: list[Permission]
    expires_at: datetime | None


def _managed_team(
    principal: Admin,
    team: Annotated[
        str | None,
        Query(pattern=TEAM_PATTERN, max_length=64, description="another team than the key's own: the operator's only"),
    ] = None,
) -> str:
    if team not in (None, principal.team) and not principal.operator:
        raise ApiError("FORBIDDEN", "only the operator's key manages the keys of other teams")
    return team or principal.team


ManagedTeam = Annotated[str, Depends(_managed_team)]
KeyId = Annotated[str, Path(description="The key's `id`.", examples=[_EXAMPLE["id"]])]


@router.post(
    "",
    operation_id="createKey",
    summary="Make an API key",
    status_code=201,
    responses={
        201: good(NewKeyShape, "The key. It cannot be shown again.", {**_EXAMPLE, "key": _SHOWN_ONCE}),
        **errors(
            "INVALID_REQUEST",
            "MISSING_REQUIRED_FIELD",
            *AUTH_CODES,
            "PAYLOAD_TOO_LARGE",
            "UNSUPPORTED_MEDIA_TYPE",
            "IDEMPOTENCY_CONFLICT",
        ),
    },
    openapi_extra=_BODY,
)
async def create_key(request: Request, principal: Admin, parts: TheParts, once: Once) -> Response:
    """Makes a key for the asking key's own team, with no permission that the asking key lacks.

    `admin` lets a key manage keys and nothing else: it implies none of the other permissions. Only the operator's key
    (ORCHESTRATOR_API_KEY, or the first key that was printed) may name another team. What it makes there is an ordinary
    key of that team: no key made here is an operator's.

    With an `Idempotency-Key` a repeat makes no second key. It gets the same answer, but for `key`, which is null:
    if the first answer never came, revoke this key and make another.
    """
    refuse_unknown_parameters(request, set())
    body = await read_json(request)
    made: list[NewKey] = []

    async def plan(ids: RequestIds) -> PlannedKey:
        wanted = read_key(body, principal, parts.clock.now())
        return PlannedKey(
            id=short_id(ids.new("key")),
            name=wanted.name,
            team=wanted.team or principal.team,
            permissions=sorted(set(wanted.permissions)),
            expires_at=wanted.expires_at,
        )

    async def carry_out(planned: PlannedKey) -> Response:
        # The plan may be of another key of the team, which could do more.
        refuse_more_than_own(principal, planned.permissions, planned.team)
        key = make_key(parts.settings.environment, planned.id)
        record = await parts.access.keys.add(key, _draft(planned, principal))
        if record.sha256 == key.sha256:
            made.append(key)
            _log_audit("An API key was made", record, principal)
        return Json(new_key_view(record), 201, {"Location": f"/api/keys/{record.id}"})

    answer = await once.answer(principal.team, body, PlannedKey, plan, carry_out)
    return with_secret(answer, made[0]) if made else answer


@router.get(
    "",
    operation_id="listKeys",
    summary="List API keys, newest first",
    responses={
        200: good(
            KeysPage,
            "One page, revoked and expired ones included. The keys themselves are not known to anybody.",
            {"items": [_KNOWN]},
        ),
        **errors("INVALID_REQUEST", *AUTH_CODES),
    },
)
async def list_keys(
    request: Request,
    principal: Admin,
    team: ManagedTeam,
    parts: TheParts,
    limit: Annotated[int, Query(ge=1, le=100, description="Keys on a page, at most.")] = 20,
    cursor: Annotated[str | None, Query(max_length=500, description="a page's `nextCursor`")] = None,
) -> Response:
    """Lists the keys of the asking key's own team; the operator's key may name another with `team`."""
    refuse_unknown_parameters(request, {"limit", "cursor", "team"})
    after = read_key_cursor(cursor) if cursor is not None else None
    records = await parts.access.keys.page(team, limit=limit + 1, after=after)
    shown = records[:limit]
    more = key_cursor(shown[-1]) if len(records) > limit else None
    return Json(page([key_view(record) for record in shown], more))


@router.get(
    "/{key_id}",
    operation_id="getKey",
    summary="Get an API key",
    responses={
        200: good(KeyShape, "What is known of it.", _KNOWN),
        **errors("INVALID_REQUEST", *AUTH_CODES, "NOT_FOUND"),
    },
)
async def get_key(request: Request, principal: Admin, team: ManagedTeam, key_id: KeyId, parts: TheParts) -> Response:
    """Shows a key of the asking key's own team; the operator's key may name another with `team`."""
    refuse_unknown_parameters(request, {"team"})
    return Json(key_view(_found(await parts.access.keys.get(team, key_id) if is_id(key_id) else None)))


@router.delete(
    "/{key_id}",
    operation_id="revokeKey",
    summary="Revoke an API key",
    responses={
        200: good(RevokedShape, "It is revoked. Revoking twice is no error.", _REVOKED_EXAMPLE),
        **errors(*BODY_CODES, *AUTH_CODES, "NOT_FOUND"),
    },
)
async def revoke_key(request: Request, principal: Admin, team: ManagedTeam, key_id: KeyId, parts: TheParts) -> Response:
    """Nobody gets in with the key any more: usually at once, and on no replica later than 20 seconds from now.

    A key may revoke itself. The operator's key may name another team with `team`; without it, other teams' keys are
    not found. ORCHESTRATOR_API_KEY is no such key: it is revoked by changing the setting.
    """
    await refuse_body(request)
    refuse_unknown_parameters(request, {"team"})
    keys = parts.access.keys
    revoked = is_id(key_id) and await keys.revoke(team, key_id, by=principal.key_id)
    record = _found(await keys.get(team, key_id) if is_id(key_id) else None)
    # Told again as well: who repeats a revocation may not have learned how the first went.
    await parts.access.revocations.tell(key_id)
    if revoked:
        _log_audit("An API key was revoked", record, principal)
    return Json(action(key_id, "REVOKED", "Revoked" if revoked else "Already revoked"))


def _draft(planned: PlannedKey, principal: Principal) -> Draft:
    return Draft(planned.team, planned.name, planned.permissions, planned.expires_at, created_by=principal.key_id)


def _log_audit(what: str, record: KeyRecord, principal: Principal) -> None:
    audit = {"key_id": record.id, "team": record.team, "actor": principal.name, "actor_key_id": principal.key_id}
    _log.info(what, extra={"audit": audit, "permissions": record.permissions})


def _found(record: KeyRecord | None) -> KeyRecord:
    if record is None:
        raise ApiError("NOT_FOUND", "there is no API key with this id")
    return record

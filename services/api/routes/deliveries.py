"""Deliveries of notifications: what became of each, and once more on demand."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.api.auth import Reader, Writer
from services.api.deliveries import STATUSES, DeliveryStatus, StillTriedError, Wanted
from services.api.errors import ApiError
from services.api.parts import TheParts
from services.api.responses import ActionShape, Json
from services.api.routes.answers import action, page, refuse_unknown_parameters
from services.api.routes.carrying_out import refuse_anything
from services.api.routes.documented import AUTH_CODES, BODY_CODES, errors, good

router = APIRouter(prefix="/api/webhook-deliveries", tags=["deliveries"])

_EXAMPLE: Final = {
    "id": "0b0b8f6e-7e0e-5a53-9c1d-0a1f8f4c6f0e",
    "orchestration_id": "5f0c2a52-7f57-4f0c-8f57-3d1f8f4c6f0e",
    "channel": "webhook",
    "event": "orchestration.completed",
    "host": "hooks.example.com",
    "status": "FAILED",
    "tries": 10,
    "occurred_at": "2026-11-20T09:30:00Z",
    "updated_at": "2026-11-23T12:30:00Z",
    "next_try_at": None,
    "error": "WEBHOOK_DELIVERY_FAILED: rejected: answered 500",
}
_TRY: Final = {
    "number": 10,
    "started_at": "2026-11-23T12:30:00Z",
    "duration_ms": 120,
    "outcome": "rejected",
    "detail": "answered 500",
}
_TO_BE_SENT: Final = "To be sent once more"
_ACTION: Final = {"id": _EXAMPLE["id"], "status": "PENDING", "message": _TO_BE_SENT}


DeliveryId = Annotated[str, Path(description="The delivery's `id`.", examples=[_EXAMPLE["id"]])]


class DeliveryShape(BaseModel):
    """One event that one receiver is told."""

    id: str = Field(description="the same at every try; the receiver gets it as `webhook-id`")
    orchestration_id: str
    channel: str
    event: str
    host: str = Field(description="of the receiver; its whole address may hold a secret")
    status: DeliveryStatus
    tries: int
    occurred_at: str
    updated_at: str
    next_try_at: str | None
    error: str | None = Field(description="why it was given up; begins with WEBHOOK_DELIVERY_FAILED")


class TryShape(BaseModel):
    """One try. Without an `outcome` it is under way, or its process died: then it may have been received."""

    number: int
    started_at: str
    duration_ms: int | None
    outcome: str | None
    detail: str | None


class DeliveryDetailShape(DeliveryShape):
    attempts: list[TryShape] = Field(description="the last hundred, newest first")


class DeliveriesPage(BaseModel):
    items: list[DeliveryShape]
    nextCursor: str | None = Field(default=None, description="absent on the last page")


@router.get(
    "",
    operation_id="listWebhookDeliveries",
    summary="List deliveries of notifications, newest first",
    responses={
        200: good(DeliveriesPage, "One page.", {"items": [_EXAMPLE]}),
        **errors("INVALID_REQUEST", *AUTH_CODES),
    },
)
async def list_deliveries(
    request: Request,
    principal: Reader,
    parts: TheParts,
    orchestration: Annotated[
        str | None, Query(max_length=100, pattern="^[0-9A-Za-z-]*$", description="Of this orchestration.")
    ] = None,
    status: Annotated[DeliveryStatus | None, Query(description=f"One of {', '.join(STATUSES)}.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Items on a page, at most.")] = 20,
    cursor: Annotated[str | None, Query(max_length=500, description="A page's `nextCursor`.")] = None,
) -> Response:
    refuse_unknown_parameters(request, {"orchestration", "status", "limit", "cursor"})
    found = await parts.deliveries.page(principal.team, Wanted(orchestration, status), limit=limit, cursor=cursor)
    return Json(page(found.items, found.next_cursor))


@router.get(
    "/{delivery_id}",
    operation_id="getWebhookDelivery",
    summary="Get a delivery with its tries",
    responses={
        200: good(DeliveryDetailShape, "As it is now.", {**_EXAMPLE, "attempts": [_TRY]}),
        **errors("INVALID_REQUEST", *AUTH_CODES, "NOT_FOUND"),
    },
)
async def get_delivery(request: Request, principal: Reader, parts: TheParts, delivery_id: DeliveryId) -> Response:
    refuse_unknown_parameters(request, set())
    found = await parts.deliveries.find(principal.team, _storable(delivery_id))
    if found is None:
        raise _not_found()
    return Json(found)


@router.post(
    "/{delivery_id}/redeliver",
    operation_id="redeliverWebhook",
    summary="Send a delivery once more",
    status_code=202,
    responses={
        202: good(ActionShape, "It is sent as soon as possible, with all its tries and under the same id.", _ACTION),
        **errors(*BODY_CODES, *AUTH_CODES, "NOT_FOUND", "INVALID_STATE_TRANSITION"),
    },
)
async def redeliver(request: Request, principal: Writer, parts: TheParts, delivery_id: DeliveryId) -> Response:
    """For one that was delivered or given up, or of whose last try nothing is known for five minutes. Asked twice at
    once, it is sent once. No body is needed.
    """
    await refuse_anything(request)
    try:
        known = await parts.deliveries.redeliver(principal.team, _storable(delivery_id), parts.clock.now())
    except StillTriedError:
        raise ApiError("INVALID_STATE_TRANSITION", "the delivery is PENDING: it is still being tried") from None
    if not known:
        raise _not_found()
    location = {"Location": f"{router.prefix}/{delivery_id}"}
    return Json(action(delivery_id, "PENDING", _TO_BE_SENT), 202, location)


def _storable(delivery_id: str) -> str:
    if len(delivery_id) > 100 or "\0" in delivery_id:
        raise _not_found()
    return delivery_id


def _not_found() -> ApiError:
    return ApiError("NOT_FOUND", "there is no delivery with this id")

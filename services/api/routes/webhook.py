"""Webhooks of the provider: authenticated by their signature, and kept before they are answered."""

import hashlib
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.api.errors import ApiError
from services.api.parts import TheParts
from services.api.problems import InvalidRequestError, problem
from services.api.responses import Json, ReceivedShape
from services.api.routes.documented import RECEIPT_EXAMPLE, errors
from shared.jetstream.topology import RECEIPTS, receipt_subject
from shared.messages import Receipt
from shared.observability.metrics import WEBHOOKS_RECEIVED
from shared.webhooks import WebhookAddress, WebhookKeys

router = APIRouter(tags=["webhook"])

PATH: Final = "/api/cloud-agents/webhook"
MAX_BYTES: Final = 256 * 1024
_SIGNATURES: Final = ("x-webhook-signature", "x-cursor-signature")  # the older one where the newer one is absent
_KEPT: Final = ("x-webhook-", "x-cursor-")
_EVENTS: Final = frozenset({"statusChange"})
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}, "example": RECEIPT_EXAMPLE}},
    },
    "parameters": [
        {
            "name": "X-Webhook-Signature",
            "in": "header",
            "required": True,
            "schema": {"type": "string"},
            "description": "`sha256=` and the hex HMAC-SHA256 of the raw body. X-Cursor-Signature is taken, too.",
        }
    ],
}


@router.post(
    PATH,
    operation_id="receiveWebhook",
    summary="Take a webhook of the provider",
    status_code=202,
    responses={
        202: {"model": ReceivedShape, "description": "It is stored."},
        **errors("INVALID_REQUEST", "INVALID_SIGNATURE", "PAYLOAD_TOO_LARGE"),
    },
    openapi_extra=_BODY,
)
async def receive(
    request: Request,
    parts: TheParts,
    attempt: Annotated[str, Query(max_length=1000, description="the token of the attempt, from its URL")] = "",
) -> Response:
    """Needs no API key. It is a hint only: the agent is read again before anything is believed."""
    raw = await request.body()
    address = _authentic(parts.webhook_keys, attempt, raw, request)
    event = request.headers.get("X-Webhook-Event", "")
    label = event if event in _EVENTS else "other"
    if address is None:
        WEBHOOKS_RECEIVED.labels(label, "refused").inc()
        raise ApiError("INVALID_SIGNATURE", "the signature is not valid")
    receipt = Receipt(
        team=address.team,
        orchestration_id=address.orchestration_id,
        attempt_id=address.attempt_id,
        received_at=parts.clock.now().isoformat(),
        headers=_kept_headers(request),
        body=_text(raw),
    )
    await parts.publisher.publish(
        receipt_subject("cursor"), receipt.encode(), stream=RECEIPTS, msg_id=_message_id(address, raw)
    )
    WEBHOOKS_RECEIVED.labels(label, "received").inc()
    return Json({"received": True}, 202)


def _authentic(keys: WebhookKeys, token: str, raw: bytes, request: Request) -> WebhookAddress | None:
    """The attempt that it is about, None unless token and signature are ours and the provider's."""
    signature = next((request.headers[name] for name in _SIGNATURES if name in request.headers), None)
    address = keys.read_token(token)
    signed = keys.verify(address.attempt_id if address else "", raw, signature)
    return address if signed else None


def _message_id(address: WebhookAddress, raw: bytes) -> str:
    """The same for the same content: the provider's own id of a delivery is not signed."""
    return hashlib.sha256(address.attempt_id.encode() + b"\0" + raw).hexdigest()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError([problem("body", "is not text in UTF-8")]) from None


def _kept_headers(request: Request) -> dict[str, str]:
    return {
        name: value[:500]
        for name, value in request.headers.items()
        if name.startswith(_KEPT) and name not in _SIGNATURES
    }

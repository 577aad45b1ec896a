"""Webhooks of the provider: authenticated by their signature, and kept before they are answered."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.api.bodies import read_body
from services.api.errors import ApiError, unavailable
from services.api.parts import Parts, TheParts
from services.api.problems import InvalidRequestError, problem
from services.api.responses import Json, ReceivedShape
from services.api.routes.documented import RECEIPT_EXAMPLE, errors
from shared.jetstream.publish import Publisher
from shared.jetstream.topology import RECEIPTS, receipt_subject
from shared.messages import Receipt
from shared.observability.metrics import WEBHOOKS_RECEIVED
from shared.webhooks import WebhookAddress

router = APIRouter(tags=["webhook"])

PATH: Final = "/api/cloud-agents/webhook"
MAX_BYTES: Final = 256 * 1024
_SIGNATURES: Final = ("x-webhook-signature", "x-cursor-signature")  # the older one where the newer one is absent
_KEPT: Final = ("x-webhook-", "x-cursor-")
_EVENTS: Final = frozenset({"statusChange"})
_COUNTED: Final = {400: "refused", 401: "refused", 408: "refused", 413: "refused", 429: "limited"}
_STORE_SECONDS: Final = 4.5
"""However long the settings let other requests wait for the broker: after 5 s the provider takes it for failed."""
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
        **errors("INVALID_REQUEST", "INVALID_SIGNATURE", "PAYLOAD_TOO_LARGE", "RATE_LIMIT_EXCEEDED"),
    },
    openapi_extra=_BODY,
)
async def receive(
    request: Request,
    parts: TheParts,
    attempt: Annotated[str, Query(max_length=1000, description="the token of the attempt, from its URL")] = "",
) -> Response:
    """Needs no API key. It is a hint only: the agent is read again before anything is believed."""
    event = request.headers.get("X-Webhook-Event", "")
    label = event if event in _EVENTS else "other"
    with _counted(label):
        address, raw = await _genuine(request, parts, attempt)
        receipt = Receipt(
            team=address.team,
            orchestration_id=address.orchestration_id,
            attempt_id=address.attempt_id,
            received_at=parts.clock.now().isoformat(),
            headers=_kept_headers(request),
            body=_text(raw),
        )
        await _store(parts.publisher, receipt, _message_id(address, raw))
    return Json({"received": True}, 202)


@contextmanager
def _counted(event: str) -> Iterator[None]:
    """Counts what became of a webhook."""
    status = "failed"
    try:
        yield
        status = "received"
    except ApiError as error:
        status = _COUNTED.get(error.status, status)
        raise
    except InvalidRequestError:
        status = "refused"
        raise
    finally:
        WEBHOOKS_RECEIVED.labels(event, status).inc()


async def _genuine(request: Request, parts: Parts, token: str) -> tuple[WebhookAddress, bytes]:
    """The attempt that it is about, and its body.

    Raises:
        ApiError: 401 unless token and signature are ours and the provider's, 429 when too many came that were not,
            400, 408 or 413 for a body that does not come to its end, comes too slowly or is too large.
    """
    keys, limits = parts.webhook_keys, parts.webhook_limits
    source = request.client.host if request.client else ""
    address = keys.read_token(token)
    attempt_id = address.attempt_id if address else None
    limits.check(source, attempt_id)
    try:
        raw = await read_body(request)
        signature = next((request.headers[name] for name in _SIGNATURES if name in request.headers), None)
        signed = keys.verify(attempt_id or "", raw, signature)
        if address is None or not signed:
            raise ApiError("INVALID_SIGNATURE", "the signature is not valid")
    except ApiError:
        limits.note_refused(source, attempt_id)
        raise
    limits.note_genuine(address.attempt_id)
    return address, raw


async def _store(publisher: Publisher, receipt: Receipt, message_id: str) -> None:
    """Returns when the broker has it. The provider waits, so it is told in good time when that takes too long.

    Raises:
        ApiError: 503, it may or may not be stored; the provider is to send it again.
    """
    try:
        async with asyncio.timeout(_STORE_SECONDS):
            await publisher.publish(receipt_subject("cursor"), receipt.encode(), stream=RECEIPTS, msg_id=message_id)
    except TimeoutError:
        raise unavailable("the message broker does not answer") from None


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

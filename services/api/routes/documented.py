"""What the OpenAPI document says of every route: its errors, and one example of each."""

from typing import Any, Final

from pydantic import BaseModel

from services.api.responses import ErrorShape
from shared.domain.errors import HTTP_STATUS

_DESCRIPTIONS: Final = {
    400: "The request is not valid; `metadata.fields` names every field that is wrong.",
    401: "The key or signature is missing or wrong.",
    403: "The key lacks the permission.",
    404: "There is nothing under this id that the key may see.",
    408: "The body did not come in time.",
    409: "The state does not allow it; nothing was changed.",
    413: "The body is too large.",
    415: "The body is not `application/json`.",
    422: "The `Idempotency-Key` was used for another request within the last 24 hours; nothing was done.",
    429: "Too many requests with this key, or too many wrong keys or webhooks from this address; wait `Retry-After`.",
    500: "Something went wrong on our side.",
    502: "The provider of the agents, or GitHub, did not answer or refused to.",
    503: "The database or the message broker is away; try again after `Retry-After` seconds.",
}
_MESSAGES: Final = {
    "INVALID_REQUEST": "2 fields are wrong, the first is repository: must be owner/repo …",
    "INVALID_API_KEY": "the API key is not valid",
    "ORCHESTRATION_NOT_FOUND": "there is no orchestration with this id",
    "AGENT_NOT_FOUND": "there is no agent with this id",
    "CURSOR_API_ERROR": "the provider of the agents did not answer in time",
    "GITHUB_API_ERROR": "GitHub did not answer in time; nothing was created. Try again, or leave out checkRepository",
    "ALREADY_COMPLETED": "the orchestration is COMPLETED and cannot be activated again",
}


def good(model: type[BaseModel], description: str, example: Any) -> dict[str, Any]:
    """One of a route's good answers, with an example of its body."""
    return {"model": model, "description": description, "content": {"application/json": {"example": example}}}


def errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer these codes, and those that every route may answer."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, "INTERNAL_ERROR", "DATABASE_ERROR", "QUEUE_ERROR", "SERVICE_UNAVAILABLE"):
        status = HTTP_STATUS[code]
        answer = found.setdefault(
            status,
            {
                "model": ErrorShape,
                "description": _DESCRIPTIONS[status],
                "content": {"application/json": {"examples": {}}},
            },
        )
        answer["content"]["application/json"]["examples"][code] = {"value": _example(code, status)}
    return found


def untimely() -> dict[int | str, dict[str, Any]]:
    """The `responses` of every route that takes a body, for one that comes too slowly."""
    examples = {"INVALID_REQUEST": {"value": _error("INVALID_REQUEST", "the body did not come in time", 408)}}
    content = {"application/json": {"examples": examples}}
    return {408: {"model": ErrorShape, "description": _DESCRIPTIONS[408], "content": content}}


def _example(code: str, status: int) -> dict[str, Any]:
    details = {"fields": [{"field": "tasks[0].title", "message": "is required"}]} if status == 400 else {}
    return _error(code, _MESSAGES.get(code, code.replace("_", " ").lower()), status, **details)


def _error(code: str, message: str, status: int, **details: Any) -> dict[str, Any]:
    metadata = {"requestId": "7f1c0f0e6f5b4f0c9d2f3c1f0a6e2b11", **details}
    return {"error": {"code": code, "message": message, "statusCode": status, "metadata": metadata}}


BODY_CODES: Final = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
"""Of routes that look at a body, be it only to refuse one."""
AUTH_CODES: Final = ("UNAUTHORIZED", "INVALID_API_KEY", "FORBIDDEN", "RATE_LIMIT_EXCEEDED")

CREATE_EXAMPLE: Final = {
    "name": "Checkout clean-up",
    "repository": "acme/shop",
    "ref": "main",
    "tasks": [
        {
            "title": "Add input validation",
            "description": "Validate every field of the checkout form and answer 400 with the field's name.",
            "priority": "high",
        },
        {
            "title": "Write the tests",
            "description": "Cover the new validation with unit tests, one for each field.",
            "complexity": "simple",
            "dependsOn": ["Add input validation"],
        },
    ],
    "activate": True,
}
BULK_EXAMPLE: Final = {
    "repositories": ["acme/shop", {"repository": "acme/blog", "ref": "develop", "name": "Licence of the blog"}],
    "name": "Licence",
    "tasks": [
        {
            "title": "Add the licence",
            "description": "Add a LICENSE file with the MIT licence and name it in the README.",
            "complexity": "simple",
        }
    ],
}
ACTION_EXAMPLE: Final = {
    "id": "0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11",
    "status": "ACTIVE",
    "message": "Activated",
}
RECEIPT_EXAMPLE: Final = {
    "event": "statusChange",
    "timestamp": "2026-11-20T09:30:00Z",
    "id": "bc-0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11",
    "status": "FINISHED",
    "source": {"repository": "https://github.com/acme/shop", "ref": "main"},
    "target": {"url": "https://cursor.com/agents?id=bc-0b0e8c0a", "branchName": "cursor/validation"},
    "summary": "Added validation to every field",
}

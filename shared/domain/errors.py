"""Refusals of the domain and the product's error codes."""

from typing import Any


class Refusal(Exception):
    """A command that the state does not allow; nothing has changed.

    Args:
        code: one of the product's error codes, see `HTTP_STATUS`.
        message: for people, names the way out.
        metadata: details for programs.
    """

    def __init__(self, code: str, message: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.metadata = metadata or {}


HTTP_STATUS: dict[str, int] = {
    "INVALID_REQUEST": 400,
    "INVALID_REPOSITORY": 400,
    "INVALID_MODEL": 400,
    "INVALID_TASK": 400,
    "MISSING_REQUIRED_FIELD": 400,
    "UNAUTHORIZED": 401,
    "INVALID_API_KEY": 401,
    "INVALID_SIGNATURE": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "ORCHESTRATION_NOT_FOUND": 404,
    "TASK_NOT_FOUND": 404,
    "AGENT_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "INVALID_STATE_TRANSITION": 409,
    "ALREADY_ACTIVE": 409,
    "ALREADY_COMPLETED": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "IDEMPOTENCY_CONFLICT": 422,
    "RATE_LIMIT_EXCEEDED": 429,
    "QUOTA_EXCEEDED": 429,
    "INTERNAL_ERROR": 500,
    "DATABASE_ERROR": 500,
    "QUEUE_ERROR": 500,
    "CURSOR_API_ERROR": 502,
    "GITHUB_API_ERROR": 502,
    "SERVICE_UNAVAILABLE": 503,
}

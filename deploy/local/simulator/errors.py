"""The API's refusals: every known code with its status, and the shapes in which they are answered."""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

import orjson

CODES: Mapping[str, tuple[int, str]] = {
    "validation_error": (400, "The request is not valid."),
    "missing_body": (400, "A request body is required."),
    "invalid_model": (400, "The model is not available."),
    "invalid_branch_name": (400, "The branch name is not valid."),
    "repository_required": (400, "A repository is required."),
    "pr_resolution_failed": (400, "The pull request could not be resolved."),
    "invalid_last_event_id": (400, "Last-Event-ID does not belong to this run."),
    "usage_limit_exceeded": (400, "Usage-based pricing required: enable it in the dashboard to go on."),
    "unauthorized": (401, "Invalid User API Key"),
    "plan_required": (403, "Your plan does not include Cloud Agents."),
    "role_forbidden": (403, "Your role does not allow this."),
    "feature_unavailable": (403, "This feature is not enabled for your account."),
    "repository_access": (403, "You have no access to this repository."),
    "service_account_required": (403, "A service account key is required."),
    "integration_not_connected": (403, "Connect GitHub to use Cloud Agents."),
    "agent_not_found": (404, "Agent not found"),
    "run_not_found": (404, "Run not found"),
    "artifact_not_found": (404, "Artifact not found"),
    "api_key_not_found": (404, "API key not found"),
    "agent_busy": (409, "Agent already has an active run"),
    "agent_archived": (409, "Agent is archived"),
    "agent_id_conflict": (409, "An agent with this id exists already"),
    "run_not_cancellable": (409, "Run is not active"),
    "stream_expired": (410, "The stream's retention has elapsed."),
    "rate_limit_exceeded": (429, "Too many requests"),
    "internal_error": (500, "Internal server error"),
    "not_implemented": (501, "Not implemented"),
    "upstream_error": (502, "An upstream service failed."),
    "stream_unavailable": (503, "The stream is not available yet."),
}

_EXTRA: Mapping[str, dict[str, str]] = {
    "integration_not_connected": {
        "helpUrl": "https://cursor.com/dashboard/integrations",
        "provider": "github",
    },
}


class ApiError(Exception):
    """A refusal. `code` is one of `CODES`, which gives status and message where none is passed."""

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        usual, default = CODES[code]
        self.status = status or usual
        self.message = message or default
        self._headers = headers
        super().__init__(f"{code}: {self.message}")

    def body(self) -> dict[str, object]:
        if self.code == "unauthorized":
            # The documented code is never seen: the live API answers a bad key in this flat shape.
            return {"code": "error", "message": self.message}
        return {"error": {"code": self.code, "message": self.message, **_EXTRA.get(self.code, {})}}

    def as_text(self) -> bytes:
        """The shape that has nothing but a text."""
        return orjson.dumps({"error": self.message})

    def flat(self) -> bytes:
        """The shape that names the status and no code."""
        return orjson.dumps({"error": HTTPStatus(self.status).phrase, "message": self.message})

    def page(self) -> bytes:
        """What a proxy in between says: no JSON at all."""
        said = f"{self.status} {HTTPStatus(self.status).phrase}"
        return f"<html><head><title>{said}</title></head><body><h1>{said}</h1></body></html>".encode()

    def headers(self) -> dict[str, str]:
        if self._headers is not None:
            return dict(self._headers)
        return limit_headers(1, 100) if self.code == "rate_limit_exceeded" else {}


def limit_headers(retry_after: float, limit: int) -> dict[str, str]:
    """What a 429 tells a caller that may make `limit` calls and has to wait for `retry_after` seconds."""
    seconds = str(max(1, ceil(retry_after)))
    return {
        "Retry-After": seconds,
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": seconds,
    }

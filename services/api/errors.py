"""The one shape of every error, and what each failure looks like from outside."""

import logging
from collections.abc import Mapping
from typing import Any, Final

import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from services.api.allowed import allowed_methods
from services.api.cursors import BadCursorError
from services.api.problems import InvalidRequestError, path, problem, sentence
from services.api.responses import Json
from shared.domain.errors import HTTP_STATUS, Refusal
from shared.jetstream.errors import (
    PayloadTooLargeError,
    PublishRefusedError,
    PublishUnavailableError,
    StreamFullError,
)
from shared.observability.metrics import ERRORS
from shared.ports import LogFullError, LogUnavailableError

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = "5"
_BY_STATUS: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "PAYLOAD_TOO_LARGE"}


class ApiError(Exception):
    """An answer that is an error.

    Args:
        code: one of the product's error codes.
        message: for people; shows no internals.
        metadata: details for programs.
        status: where it is not the code's usual one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.metadata = dict(metadata or {})
        self.headers = dict(headers or {})
        self.status = status or HTTP_STATUS.get(code, 500)


def unavailable(message: str, **metadata: Any) -> ApiError:
    """Something that we need is away; it is worth trying again."""
    return ApiError("SERVICE_UNAVAILABLE", message, metadata=metadata)


def not_found() -> ApiError:
    return ApiError("ORCHESTRATION_NOT_FOUND", "there is no orchestration with this id")


def error_response(error: ApiError, request_id: str) -> Json:
    headers = dict(error.headers)
    if error.status in (429, 503):
        headers.setdefault("Retry-After", _RETRY_SECONDS)
    if error.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    body = {
        "code": error.code,
        "message": error.message,
        "statusCode": error.status,
        "metadata": {"requestId": request_id, **error.metadata},
    }
    ERRORS.labels("http", error.code).inc()
    return Json({"error": body}, status_code=error.status, headers=headers)


def translate(exc: Exception) -> ApiError:
    """What a failure looks like from outside; whatever nobody foresaw is INTERNAL_ERROR, and logged."""
    match exc:
        case ApiError():
            return exc
        case InvalidRequestError():
            return ApiError(exc.code, exc.message, metadata=exc.metadata)
        case RequestValidationError():
            return _invalid_parameters(exc)
        case BadCursorError():
            return ApiError(
                "INVALID_REQUEST",
                "cursor: is not one that a page gave",
                metadata={"fields": [{"field": "cursor", "message": "is not one that a page gave"}]},
            )
        case Refusal():
            return ApiError(exc.code, exc.message, metadata=exc.metadata)
        case HTTPException():
            return _plain(exc)
        case PayloadTooLargeError():
            return ApiError("PAYLOAD_TOO_LARGE", "the orchestration is larger than 512 KiB, the most that is stored")
        case psycopg.OperationalError():
            _log.warning("The database is away: %s", type(exc).__name__)
            return unavailable("the database does not answer")
        case psycopg.Error():
            _log.error("The database refused", exc_info=exc)
            return ApiError("DATABASE_ERROR", "the database refused")
        case PublishUnavailableError() | LogUnavailableError():
            _log.warning("The broker is away: %r", exc)
            return unavailable("the message broker does not answer")
        case LogFullError() | StreamFullError():
            _log.error("The broker has no room left: %r", exc)
            return unavailable("the message broker takes nothing at the moment")
        case PublishRefusedError():
            _log.error("The broker refused", exc_info=exc)
            return ApiError("QUEUE_ERROR", "the message broker refused")
        case _:
            _log.error("A request crashed", exc_info=exc)
            return ApiError("INTERNAL_ERROR", "something went wrong on our side")


def _invalid_parameters(exc: RequestValidationError) -> ApiError:
    # The first part of a place is where the parameter stands: query, path, header.
    problems = [problem(path(error["loc"][1:]), sentence(error["msg"])) for error in exc.errors()]
    invalid = InvalidRequestError(problems)
    return ApiError("INVALID_REQUEST", invalid.message, metadata=invalid.metadata)


def _plain(exc: HTTPException) -> ApiError:
    code = _BY_STATUS.get(exc.status_code, "INVALID_REQUEST" if exc.status_code < 500 else "INTERNAL_ERROR")
    message = {404: "there is nothing at this path", 405: "this path does not take this method"}.get(
        exc.status_code, "the request cannot be handled"
    )
    return ApiError(code, message, headers=exc.headers, status=exc.status_code)


def add_error_handlers(app: FastAPI) -> None:
    """Everything that a route or the framework raises, in the one shape."""

    async def answer(request: Request, exc: Exception) -> Json:
        error = translate(exc)
        if error.status == 405:
            # The framework names the methods of the first route of the path only.
            error.headers["Allow"] = ", ".join(allowed_methods(app, request.url.path))
        return error_response(error, request.state.request_id)

    for kind in _ANSWERED:
        app.add_exception_handler(kind, answer)


# The rest is caught outside of the application, where it is logged as a crash.
_ANSWERED: Final[tuple[type[Exception], ...]] = (
    ApiError,
    InvalidRequestError,
    RequestValidationError,
    BadCursorError,
    Refusal,
    HTTPException,
    psycopg.Error,
    PayloadTooLargeError,
    PublishRefusedError,
    PublishUnavailableError,
    LogFullError,
    LogUnavailableError,
)

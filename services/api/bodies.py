"""Reading a request's JSON body."""

from typing import Any

import orjson
from fastapi import Request

from services.api.errors import ApiError
from services.api.problems import InvalidRequestError, Problem


async def read_json(request: Request) -> Any:
    """The value that the body holds, at most as large as `BodyLimit` lets through.

    Raises:
        ApiError: 415 for another content type.
        InvalidRequestError: not JSON; says where.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError("UNSUPPORTED_MEDIA_TYPE", "the body must be JSON, with Content-Type: application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError("UNSUPPORTED_MEDIA_TYPE", "the body must not be compressed")
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as exc:
        place = f"line {exc.lineno}, column {exc.colno}"
        raise InvalidRequestError([Problem("body", f"is not valid JSON at {place}", "INVALID_REQUEST")]) from None

"""Reading a request's body."""

import codecs
import json
from email.message import Message
from typing import Any, Final, NoReturn

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from services.api.errors import ApiError
from services.api.problems import InvalidRequestError, Problem

_TOO_DEEP: Final = "limit"  # in what orjson says of it, and of nothing else


async def read_body(request: Request) -> bytes:
    """The raw body, at most as large and as slow as `BodyLimit` lets through.

    Raises:
        ApiError: 400 for a client that leaves before the end of it, which is no fault of ours; 408, 413.
    """
    try:
        return await request.body()
    except ClientDisconnect:
        raise ApiError("INVALID_REQUEST", "the body did not come to its end") from None


async def read_json(request: Request) -> Any:
    """The value that the body holds.

    Raises:
        ApiError: 415 for another content type, another character set, or a compressed body; as `read_body`.
        InvalidRequestError: not JSON; says where. Also if a name comes twice in one object: readers of JSON differ in
            which of the two values they take.
    """
    _check_kind(request)
    body = await read_body(request)
    if not body:
        _refuse("is missing; it must be a JSON object")
    try:
        value = orjson.loads(body)
        # The numbers are of no interest here, and long ones take time to read.
        json.loads(body, object_pairs_hook=_distinct, parse_int=len, parse_float=len)
    except orjson.JSONDecodeError as exc:
        if _TOO_DEEP in exc.msg:
            _refuse("is nested too deeply")
        _refuse(f"is not valid JSON at line {exc.lineno}, column {exc.colno}")
    except RecursionError:
        _refuse("is nested too deeply")
    return value


def _check_kind(request: Request) -> None:
    kind = Message()
    kind["Content-Type"] = request.headers.get("Content-Type", "text/plain")
    if kind.get_content_type() != "application/json":
        raise ApiError("UNSUPPORTED_MEDIA_TYPE", "the body must be JSON, with Content-Type: application/json")
    if not _is_utf_8(kind.get_content_charset("utf-8")):
        raise ApiError("UNSUPPORTED_MEDIA_TYPE", "the body must be written in UTF-8")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError("UNSUPPORTED_MEDIA_TYPE", "the body must not be compressed")


def _is_utf_8(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name in ("utf-8", "ascii")
    except LookupError:
        return False


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    """Looks at the names of one object."""
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            _refuse(f"has the name {name[:100]!r} twice in one object")
        names.add(name)


def _refuse(message: str) -> NoReturn:
    raise InvalidRequestError([Problem("body", message, "INVALID_REQUEST")]) from None

"""What surrounds every request: its id, the headers of every answer, the limit of bodies, crashes."""

import asyncio
import re
import time
import uuid
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import ApiError, error_response, translate
from shared.observability.logging import log_context

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_READ_SECONDS: Final = 10.0
"""A whole body must have come by then, so that nobody can hold connections by sending a byte now and then."""
_DRAINED_BYTES: Final = 8 * 1024 * 1024
_DRAIN_SECONDS: Final = 2.0
_ONLY_TLS: Final = "max-age=31536000"
"""Told where the request came by TLS, or by a proxy that is trusted and says so: for a year nothing else is tried."""

_REQUESTS = Counter("http_requests", "Requests answered", ["route", "method", "status"])
_SECONDS = Histogram("http_request_duration_seconds", "Until the head of the answer", ["route", "method"])


class RequestFrame:
    """Outermost: gives each request an id, each answer its headers, and turns a crash into the one error shape."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("X-Request-ID"))
        scope.setdefault("state", {})["request_id"] = request_id
        if scope["type"] == "websocket":
            with log_context(request=request_id):
                await self._websocket(scope, receive, send, request_id)
            return
        begun = time.monotonic()
        started = False

        async def framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(MutableHeaders(scope=message), request_id, scope)
                _count(scope, message["status"], time.monotonic() - begun)
            await send(message)

        with log_context(request=request_id):
            try:
                await self._app(scope, receive, framed)
            except Exception as exc:
                if started:
                    raise
                await error_response(translate(exc), request_id)(scope, receive, framed)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """The same for a WebSocket: it is refused in the one error shape, and closed with 1011 by a crash."""
        answered = accepted = False

        async def framed(message: Message) -> None:
            nonlocal answered, accepted
            if message["type"] == "websocket.close" and not answered:
                # The framework's way to say that there is no such path; the client is to be told like any other.
                await error_response(translate(HTTPException(404)), request_id)(scope, receive, framed)
                return
            if message["type"] in ("websocket.accept", "websocket.http.response.start"):
                answered, accepted = True, message["type"] == "websocket.accept"
                _add_headers(MutableHeaders(scope=message), request_id, scope)
                _count_websocket(scope, message.get("status", 101))
            await send(message)

        try:
            await self._app(scope, receive, framed)
            if not answered:
                raise RuntimeError("a WebSocket was neither accepted nor refused")
        except Exception as exc:
            error = translate(exc)
            if accepted:
                await _close(send, error.code)
            elif not answered:
                await error_response(error, request_id)(scope, receive, framed)


async def _close(send: Send, reason: str) -> None:
    try:
        await send({"type": "websocket.close", "code": 1011, "reason": reason})
    except (OSError, RuntimeError):
        return  # it is closed already


def _request_id(given: str | None) -> str:
    return given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _add_headers(headers: MutableHeaders, request_id: str, scope: Scope) -> None:
    headers["X-Request-ID"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = "frame-ancestors 'none'"
    if scope["scheme"] in ("https", "wss"):
        headers["Strict-Transport-Security"] = _ONLY_TLS
    headers.setdefault("Cache-Control", "no-store")


def _count_websocket(scope: Scope, status: int) -> None:
    _REQUESTS.labels(_route(scope), "WEBSOCKET", str(status)).inc()


def _route(scope: Scope) -> str:
    """The route's pattern, never the path: it holds ids."""
    return getattr(scope.get("route"), "path", "unknown")


def _count(scope: Scope, status: int, seconds: float) -> None:
    # Methods are whatever a client makes up.
    route = _route(scope)
    method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE") else "other"
    _REQUESTS.labels(route, method, str(status)).inc()
    _SECONDS.labels(route, method).observe(seconds)


class BodyLimit:
    """Refuses a body that is too large by its announced length, else as soon as too much has come.

    Args:
        limit: in bytes; `smaller`: the limit of single paths.
    """

    def __init__(self, app: ASGIApp, *, limit: int, smaller: dict[str, int] | None = None) -> None:
        self._app = app
        self._limit = limit
        self._smaller = smaller or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._smaller.get(scope["path"], self._limit)
        announced = Headers(scope=scope).get("Content-Length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
            await _drain(receive)
            raise _too_large(limit)
        await self._app(scope, _limited(receive, limit), send)


def _limited(receive: Receive, limit: int) -> Receive:
    received = 0
    complete = False
    deadline = asyncio.get_running_loop().time() + _READ_SECONDS

    async def limited() -> Message:
        nonlocal received, complete
        if complete:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise ApiError("INVALID_REQUEST", "the body did not come in time", status=408) from None
        received += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if received > limit:
            if not complete:
                await _drain(receive)
            raise _too_large(limit)
        return message

    return limited


async def _drain(receive: Receive) -> None:
    """Throw away a little more: a client that is still sending when we close never sees the answer."""
    left = _DRAINED_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0:
                message = await receive()
                if not message.get("more_body", False):
                    return
                left -= max(1, len(message.get("body", b"")))
    except TimeoutError:
        return


def _too_large(limit: int) -> ApiError:
    # What is left of the body is not read, so the connection is of no more use.
    message = f"the body has more than {limit // 1024} KiB"
    return ApiError("PAYLOAD_TOO_LARGE", message, headers={"Connection": "close"})

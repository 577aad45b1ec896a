"""uvicorn's HTTP protocol with limits on what comes before a request is one: its head.

Nothing in the application can set these, for it is asked only once the head is complete.
"""

import asyncio
import json
import logging
import uuid
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_log = logging.getLogger(__name__)

HEAD_BYTES: Final = 32 * 1024
"""Of the address and all headers: one header that never ends would fill the memory."""
HEAD_SECONDS: Final = 10.0
"""From the connection, or the first byte of a further request, until the head is complete."""

_TOO_LARGE: Final = f"the address and the headers have more than {HEAD_BYTES // 1024} KiB"
_TOO_SLOW: Final = "the headers did not come in time"
_NO_HTTP: Final = "this is not a request that HTTP/1.1 knows"


class HeadTooLargeError(Exception):
    """Ends the parser, which ends the connection."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is too large or comes too slowly, and what is no HTTP, in the one shape of all errors."""

    head_seconds = HEAD_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _has_begun = False  # a head, in the data that came last
    _has_ended = False  # a request, in the data that came last
    _came = 0  # bytes of the head, without those that its beginning came with
    _too_large = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._has_begun = self._has_ended = False
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # it is a WebSocket's by now
            return
        if self._in_head and not self._has_begun:
            self._came += len(data)
            if self._came > HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)
                return
        if self._is_idle() and self._has_ended and not self._in_head:
            self._keep_alive()
        elif self._in_head or self._is_idle():
            self._await_head()

    def on_message_begin(self) -> None:
        self._in_head, self._has_begun, self._came = True, True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._too_large = True
            raise HeadTooLargeError
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._has_ended = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser could not go on with."""
        if self._too_large:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, _NO_HTTP)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _keep_alive(self) -> None:
        """For the next request, as after any other: this one was answered before all of it had come."""
        self._stop_waiting()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _await_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._on_late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_late(self) -> None:
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, _TOO_SLOW)
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer and close; only close while another request of the connection is being answered."""
        if not self.transport.is_closing() and self._is_idle():
            _log.info("A request was refused before it was complete: %s", message)
            self.transport.write(_answer(status, message))
        self.transport.close()


def _answer(status: HTTPStatus, message: str) -> bytes:
    request_id = uuid.uuid4().hex
    error = {
        "code": "INVALID_REQUEST",
        "message": message,
        "statusCode": status.value,
        "metadata": {"requestId": request_id},
    }
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"X-Request-ID: {request_id}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body

"""Liveness, readiness and metrics of a service over HTTP, and the server that both they and the API run on."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from shared.observability.http_protocol import BoundedProtocol

_MOST_FROM_WEBSOCKET: Final = 4096
"""Bytes of one message of a client; nothing of ours takes any."""
_CLIENT_STANDS_STILL_MS: Final = 20_000
_UNSENT_BYTES: Final = 128 * 1024
_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than proxies and clients keep a connection that is not used, 60 s as a rule: closed here at the moment at
which they use it again, it would lose them a request, and nobody could tell whether that had been carried out."""


@dataclass(frozen=True, slots=True)
class Check:
    """The answer of one check; `message` says what is wrong, or what to know."""

    ok: bool
    message: str = ""


class Readiness:
    """Whether the service takes work: its checks pass and it is not stopping."""

    def __init__(self) -> None:
        self.checks: dict[str, Callable[[], Awaitable[Check]]] = {}
        self.started = False
        self.stopping = False

    async def answer(self) -> tuple[bool, dict[str, Any]]:
        results = {name: await check() for name, check in self.checks.items()}
        ready = self.started and not self.stopping and all(result.ok for result in results.values())
        return ready, {
            "status": "ready" if ready else "stopping" if self.stopping else "not ready",
            "checks": {
                name: {"status": "pass" if result.ok else "fail", "message": result.message}
                for name, result in results.items()
            },
        }


def health_app(readiness: Readiness) -> Starlette:
    """`/health/live`, `/health/ready` (503 when not) and `/metrics`."""

    async def live(_: Request) -> JSONResponse:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> JSONResponse:
        ok, body = await readiness.answer()
        return JSONResponse(body, status_code=200 if ok else 503)

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Mount("/metrics", make_asgi_app()),
        ]
    )


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process decides when it stops."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Leaves out what uvicorn says of WebSockets: a line for each, as of no other request, and an error for each
    that is refused with an answer of its own.
    """
    said = str(record.msg)
    return not said.startswith('%s - "WebSocket') and said != "ASGI callable returned without completing handshake."


def _bound_clients(listener: socket.socket) -> None:
    """Limits for every connection: what may wait in the kernel, and for how long nothing may be taken of it.

    Without them a client that stands still is buffered megabytes for, and stays connected for good.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _CLIENT_STANDS_STILL_MS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


@asynccontextmanager
async def http_server(app: Any, host: str, port: int, *, stop_seconds: float = 20.0) -> AsyncIterator[int]:
    """Serve `app` inside; gives the port, which is a free one when `port` is 0.

    On leaving, what is under way may finish within `stop_seconds`.

    Raises:
        OSError: the address cannot be bound.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        http=BoundedProtocol,
        timeout_graceful_shutdown=max(1, int(stop_seconds)),
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        ws="websockets-sansio",  # keeps no task of its own for a connection
        ws_max_size=_MOST_FROM_WEBSOCKET,
        ws_per_message_deflate=False,  # its windows would cost more memory than all the rest of a connection
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_logging)
    listener = socket.create_server((host, port), backlog=2048)
    _bound_clients(listener)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name=f"http:{port}")
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()

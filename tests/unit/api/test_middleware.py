"""What surrounds every request, on a tiny application: ids, headers, limits, crashes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Scope

from services.api import middleware
from services.api.errors import add_error_handlers
from services.api.head import HeadAsGet
from services.api.middleware import BodyLimit, RequestFrame

LIMIT = 1000


def make_app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def beats() -> AsyncIterator[bytes]:
            while True:
                yield b"beat"
                await asyncio.sleep(0.01)

        return StreamingResponse(beats(), headers={"X-Kind": "endless"})

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("postgresql://user:secret@db/orchestrator")

    add_error_handlers(app)
    app.add_middleware(BodyLimit, limit=LIMIT, smaller={"/small": 10})
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestFrame)
    return app


@pytest.fixture(name="http")
async def _http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize(("size", "status"), [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 413)])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_may_be_as_long_as_the_limit(
    http: httpx.AsyncClient, size: int, status: int, announced: bool
) -> None:
    content: Any = b"x" * size if announced else chunks(size, 1)
    response = await http.post("/echo", content=content)
    assert response.status_code == status
    if status == 413:
        assert response.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"


async def test_too_long_a_body_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_DRAINED_BYTES", 800)
    given = 0
    sent: list[Message] = []

    async def receive() -> Message:
        nonlocal given
        given += 1
        return {"type": "http.request", "body": b"x" * 400, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http", "method": "POST", "path": "/echo", "raw_path": b"/echo", "query_string": b"", "headers": [],
        "http_version": "1.1", "scheme": "http", "server": ("api", 80), "client": ("c", 1), "root_path": "",
    }  # fmt: skip
    await make_app()(scope, receive, send)
    assert sent[0]["status"] == 413
    assert given == 5


async def test_a_body_that_trickles_is_given_up(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_READ_SECONDS", 0.05)

    async def trickle() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    response = await http.post("/echo", content=trickle())
    assert response.status_code == 408
    assert response.json()["error"]["statusCode"] == 408


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1._Z", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a\tb", False), ("", False)],
)
async def test_a_request_id_is_kept_where_it_is_harmless(http: httpx.AsyncClient, given: str, kept: bool) -> None:
    response = await http.get("/nothing", headers={"X-Request-ID": given})
    request_id = response.headers["X-Request-ID"]
    assert (request_id == given) is kept
    assert response.json()["error"]["metadata"]["requestId"] == request_id


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/echo/", 404, "NOT_FOUND"),
        ("DELETE", "/echo", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/crash", 500, "INTERNAL_ERROR"),
    ],
)
async def test_every_error_has_the_one_shape(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "statusCode", "metadata"}
    assert (body["error"]["code"], body["error"]["statusCode"]) == (code, status)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "Server" not in response.headers
    assert "Access-Control-Allow-Origin" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("path", "status"), [("/endless", 200), ("/nothing", 404), ("/echo", 405), ("/crash", 500)])
async def test_head_is_answered_as_get_without_a_body(http: httpx.AsyncClient, path: str, status: int) -> None:
    async with asyncio.timeout(30):
        response = await http.head(path)
    assert response.status_code == status
    assert response.headers["X-Request-ID"]
    assert response.headers.get("X-Kind") == ("endless" if status == 200 else None)


async def test_only_tls_is_asked_for_where_it_is_there() -> None:
    for scheme, told in (("http", None), ("https", "max-age=31536000")):
        transport = httpx.ASGITransport(app=make_app())
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://api") as client:
            assert (await client.get("/nothing")).headers.get("Strict-Transport-Security") == told


async def test_a_crash_shows_nothing_of_the_inside_and_is_logged_with_its_traceback(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await http.get("/crash")
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]

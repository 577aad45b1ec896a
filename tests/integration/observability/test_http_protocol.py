"""Requests that never become one: too much, too slow, or no HTTP at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from shared.observability.health import http_server
from shared.observability.http_protocol import HEAD_BYTES, HEAD_SECONDS, BoundedProtocol


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def _echo_words(websocket: WebSocket) -> None:
    await websocket.accept()
    async for word in websocket.iter_text():
        await websocket.send_text(word)


def serving() -> AbstractAsyncContextManager[int]:
    """A server inside, on the port that is given."""
    routes = [Route("/", _echo, methods=["GET", "POST"]), WebSocketRoute("/words", _echo_words)]
    return http_server(Starlette(routes=routes), "127.0.0.1", 0, stop_seconds=1)


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(30):
                yield reader, writer
        finally:
            writer.close()


async def refusal(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The error that the connection ends with."""
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    error: dict[str, Any] = json.loads(body)["error"]
    assert head.startswith(f"HTTP/1.1 {error['statusCode']} ".encode())
    assert f"X-Request-ID: {error['metadata']['requestId']}".encode() in head
    assert error["code"] == "INVALID_REQUEST"
    return error


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))


async def test_a_head_that_is_too_large_is_refused() -> None:
    async with connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * HEAD_BYTES + b"\r\n\r\n")
        assert (await refusal(reader))["statusCode"] == 431


async def test_a_header_that_never_ends_is_refused_before_it_has_filled_the_memory() -> None:
    async with connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-Endless: ")
        sent = 0
        while not reader.at_eof() and sent < 64 * 1024 * 1024:
            try:
                writer.write(b"a" * 65_536)
                await writer.drain()
            except ConnectionError:
                break
            sent += 65_536
            await asyncio.sleep(0)
    assert sent < 32 * 1024 * 1024


async def test_a_head_as_large_as_it_may_be_and_many_requests_on_one_connection_are_served() -> None:
    async with connection() as (reader, writer):
        for _ in range(5):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * (HEAD_BYTES - 100) + b"\r\n\r\n")
            assert await answer(reader) == b"0"
        body = b"b" * 200_000
        request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + body
        writer.write(request + request)
        assert [await answer(reader), await answer(reader)] == [b"200000", b"200000"]


@pytest.mark.parametrize(
    "noise", [b"NONSENSE / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\xa5", b"GET / HTTP/9\r\n"]
)
async def test_what_is_no_http_is_told_so(noise: bytes) -> None:
    async with connection() as (reader, writer):
        writer.write(noise)
        assert (await refusal(reader))["statusCode"] == 400


async def test_a_head_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 0.2)
    async with connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a")
        assert (await refusal(reader))["statusCode"] == 408


async def test_a_connection_on_which_nothing_is_asked_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 0.2)
    async with connection() as (reader, _):
        assert await reader.read() == b""


@pytest.fixture
async def pass_the_time_for_a_head(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Lets the clock of the loop jump by more than that, and what is due by then happen."""
    loop = asyncio.get_running_loop()
    now, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: now() + ahead)

    async def jump() -> None:
        nonlocal ahead
        ahead = HEAD_SECONDS + 1
        await asyncio.sleep(0.05)

    return jump


async def test_a_body_may_take_longer_than_a_head(pass_the_time_for_a_head: Callable[[], Awaitable[None]]) -> None:
    async with connection() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await pass_the_time_for_a_head()
        writer.write(b"ab")
        assert await answer(reader) == b"2"


async def test_a_connection_is_kept_whose_request_was_answered_before_all_of_it_had_come(
    pass_the_time_for_a_head: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, on_message_complete = asyncio.Event(), BoundedProtocol.on_message_complete

    def complete(protocol: BoundedProtocol) -> None:
        on_message_complete(protocol)
        whole.set()

    monkeypatch.setattr(BoundedProtocol, "on_message_complete", complete)
    async with connection() as (reader, writer):
        writer.write(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        assert await reader.readexactly(9) == b"Not Found"
        writer.write(b"ab")
        await whole.wait()
        await pass_the_time_for_a_head()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await answer(reader) == b"0"


async def test_a_websocket_lives_longer_than_a_head_may_take(
    pass_the_time_for_a_head: Callable[[], Awaitable[None]],
) -> None:
    async with serving() as port, connect(f"ws://127.0.0.1:{port}/words", proxy=None) as websocket:
        await pass_the_time_for_a_head()
        await websocket.send("still here")
        assert await websocket.recv() == "still here"

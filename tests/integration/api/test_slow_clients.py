"""Clients that stand still: cut off with a hint to resume, at no cost to the others."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from services.api.listener import Cut, Listener
from services.api.live import Limits
from shared.domain import commands as cmd
from tests.integration.api.live_clients import Seen, follow_websocket, websocket
from tests.integration.api.system import KEY, Running, running_api
from tests.support.eventually import eventually

Client = Callable[[], Awaitable[list[dict[str, Any]]]]
"""A client that has connected and stands still: called, it reads on to the end."""

_FILLER = "x" * 40_000


def small_socket(api: Running) -> socket.socket:
    """A connection whose kernel takes little on behalf of its program."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", int(api.url.rsplit(":", 1)[1])))
    connection.setblocking(False)
    return connection


@asynccontextmanager
async def slow_sse(api: Running, orchestration_id: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(sock=small_socket(api), limit=1024)
    head = (
        f"GET /api/orchestrations/{orchestration_id}/stream?after=0 HTTP/1.1\r\nHost: api\r\nX-API-Key: {KEY}\r\n\r\n"
    )
    writer.write(head.encode())

    async def read_on() -> list[dict[str, Any]]:
        body = bytearray()
        while chunk := await reader.read(65536):
            body += chunk
            if body.endswith(b"0\r\n\r\n"):
                break
        # The frame of each chunk stands on lines of its own, between the lines of the events.
        return [json.loads(line[6:]) for line in bytes(body).split(b"\n") if line.startswith(b"data: ")]

    try:
        yield read_on
    finally:
        writer.transport.abort()


@asynccontextmanager
async def slow_websocket(api: Running, orchestration_id: str) -> AsyncIterator[Client]:
    async with websocket(api.url, orchestration_id, "?after=0", sock=small_socket(api), max_queue=1) as connection:

        async def read_on() -> list[dict[str, Any]]:
            found = []
            try:
                async for frame in connection:
                    found.append(json.loads(frame))
            except ConnectionClosedError:
                assert connection.close_code == 1013
            return found

        try:
            yield read_on
        finally:
            connection.transport.abort()


def slow_one(api: Running) -> Listener:
    """The listener that is furthest behind."""
    (topic,) = api.parts.hub._topics.values()
    return max(topic.listeners, key=lambda listener: (listener.cut_off is not None, listener.waiting_bytes))


async def rename_until(api: Running, orchestration_id: str, done: Callable[[], bool], seen: Seen | None = None) -> None:
    """Commit what makes large messages until it is so, each when the one before was `seen`."""
    number = 0
    while not done():
        number += 1
        assert number < 2000, "the client was never cut off"
        changes = {"name": f"name {number}", "metadata": {"filler": _FILLER}}
        decided = await api.dispatcher.decide(orchestration_id, cmd.UpdateOrchestration(changes=changes))
        if seen is not None:
            await eventually(partial(_has_seen, seen, decided.sequence), interval=0.001)


def _has_seen(seen: Seen, sequence: int) -> bool:
    return seen.after >= sequence


@pytest.mark.parametrize("stand_still", [slow_sse, slow_websocket])
async def test_who_stands_still_is_cut_off_told_where_to_resume_and_delays_nobody(
    api: Running, stand_still: Callable[[Running, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.parts.hub, "_limits", Limits(changes=10))  # the real one takes many times as long to fill
    mine = (await api.create())["id"]
    quick = Seen()
    following = asyncio.create_task(follow_websocket(api.url, mine, quick))
    await eventually(lambda: quick.messages)
    async with stand_still(api, mine) as read_on:
        await eventually(lambda: api.parts.hub.listeners == 2)
        await rename_until(api, mine, lambda: slow_one(api).cut_off is Cut.SLOW, quick)
        newest = api.parts.reader._newest.of("default", mine)
        await eventually(lambda: quick.after == newest, timeout=30)
        found = [message for message in await read_on() if message["type"] != "heartbeat"]
    assert found[-1]["type"] == "resume"
    assert found[-1]["reason"] == "slow"
    assert found[-1]["after"] == max(message["id"] for message in found[:-1])
    rest = Seen(after=found[-1]["after"])
    await api.dispatcher.decide(mine, cmd.CancelOrchestration())
    await follow_websocket(api.url, mine, rest)
    await following
    assert quick.connections == 1
    assert found[:-1] + rest.messages == quick.messages


async def test_who_takes_nothing_at_all_is_dropped(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, stream_send_seconds=0.5) as api:
        mine = (await api.create())["id"]
        async with slow_sse(api, mine), slow_websocket(api, mine):
            await eventually(lambda: api.parts.hub.listeners == 2)
            await rename_until(api, mine, lambda: api.parts.hub.listeners == 0)
            assert api.parts.hub.waiting_bytes == 0

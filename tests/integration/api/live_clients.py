"""Clients that follow an orchestration live and resume by themselves, by SSE and by WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx_sse
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.integration.api.system import KEY

_AWAY = (OSError, TimeoutError, httpx.TransportError, ConnectionClosed, InvalidHandshake, InvalidMessage)


@dataclass
class Seen:
    """What one client was told: whole commits only, as a client has to that resumes behind the last of them."""

    after: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    _half: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sequences(self) -> list[int]:
        """The commits that it was told, one entry for each time."""
        return [message["id"] for message in self.messages if not message.get("more")]

    def ended(self) -> bool:
        return bool(self.messages) and self.messages[-1]["type"] == "orchestration_completed"

    def connected(self) -> None:
        self.connections += 1
        self._half.clear()

    def take(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            return  # a heartbeat, or the hint to resume
        self._half.append(message)
        if not message.get("more"):
            self.messages += self._half
            self._half.clear()
            self.after = message["id"]


async def follow_sse(url: str, orchestration_id: str, seen: Seen) -> None:
    """Until the orchestration has ended, connecting again whenever that is needed."""
    headers = {"X-API-Key": KEY}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
        while not seen.ended():
            try:
                resume = {"Last-Event-ID": str(seen.after)}
                path = f"/api/orchestrations/{orchestration_id}/stream"
                async with httpx_sse.aconnect_sse(http, "GET", path, headers=resume) as source:
                    await _listen_sse(source, seen)
            except _AWAY:
                await asyncio.sleep(0.05)


async def _listen_sse(source: httpx_sse.EventSource, seen: Seen) -> None:
    if source.response.status_code == 503:
        raise TimeoutError("not there yet")
    source.response.raise_for_status()
    seen.connected()
    async for event in source.aiter_sse():
        if event.data:
            message = event.json()
            assert "more" in message or "id" not in message or event.id == str(message["id"])
            seen.take(message)
        if seen.ended():
            return


async def follow_websocket(url: str, orchestration_id: str, seen: Seen) -> None:
    """Until the orchestration has ended, connecting again whenever that is needed."""
    while not seen.ended():
        try:
            async with websocket(url, orchestration_id, f"?after={seen.after}") as connection:
                seen.connected()
                async for frame in connection:
                    seen.take(json.loads(frame))
                    if seen.ended():
                        return
        except _AWAY:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def websocket(
    url: str, orchestration_id: str, query: str = "", *, key: str | None = KEY, **options: Any
) -> AsyncIterator[ClientConnection]:
    """An open WebSocket; `options` are those of the client library."""
    address = f"{url.replace('http', 'ws', 1)}/ws/orchestrations/{orchestration_id}{query}"
    headers = {"X-API-Key": key} if key else {}
    given = {"additional_headers": headers, "proxy": None, "open_timeout": 60, "close_timeout": 5, "max_size": None}
    async with connect(address, **(given | options)) as connection:
        yield connection


async def news(connection: ClientConnection) -> dict[str, Any]:
    """The next message that is no heartbeat, which comes whenever nothing else has come for a while."""
    while True:
        message: dict[str, Any] = json.loads(await connection.recv())
        if message["type"] != "heartbeat":
            return message

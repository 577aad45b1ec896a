"""Every route asks for a permission, and each permission opens its routes alone. Finds the routes by itself."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from services.api.app import make_app
from services.api.auth import ALL_PERMISSIONS, Gate, Permission, Principal, Reader
from services.api.failed_attempts import FailedAttempts
from services.api.parts import Parts
from services.api.permissions import PUBLIC, Access, accesses, permissions_page
from services.api.request_limit import RequestQuota, Share

PAGE = Path(__file__).parents[3] / "docs" / "permissions.md"
SOME_ID = "0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11"
PERMISSIONS = get_args(Permission)
KEYS: dict[bytes, frozenset[Permission]] = {
    **{f"only-{permission}".encode(): frozenset({permission}) for permission in PERMISSIONS},
    **{f"all-but-{permission}".encode(): ALL_PERMISSIONS - {permission} for permission in PERMISSIONS},
    b"none": frozenset(),
}


class Holders:
    """Keys that are their own description."""

    def recognises(self, key: bytes) -> bool:
        return key in KEYS

    async def authenticate(self, key: bytes) -> Principal | None:
        return Principal("a", key.decode(), KEYS[key]) if key in KEYS else None


class Unlimited:
    async def take(self, key_id: str, limit: int, share: int) -> Share:
        raise AssertionError("there is no limit")


def app_behind_the_gate() -> FastAPI:
    """The application with a gate and nothing behind it."""
    gate = Gate([Holders()], FailedAttempts(0), RequestQuota(Unlimited(), 0))
    return make_app(cast(Parts, SimpleNamespace(access=SimpleNamespace(gate=gate))))


APP = app_behind_the_gate()
CLOSED = [access for access in accesses(APP) if not access.is_public]


@pytest.fixture(name="client")
async def _client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(APP)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


def address(access: Access) -> str:
    return re.sub(r"\{[^}]+\}", SOME_ID, access.path)


async def status_of(client: httpx.AsyncClient, access: Access, key: str | None) -> int:
    headers = {} if key is None else {"X-API-Key": key}
    if access.method == "WS":
        return await websocket_status(address(access), headers)
    return (await client.request(access.method, address(access), headers=headers, json={})).status_code


async def websocket_status(path: str, headers: dict[str, str]) -> int:
    """What a WebSocket's opening is answered; 101 if it is accepted."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"} if not sent else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "subprotocols": [], "state": {},
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    await APP(scope, receive, send)
    return 101 if sent[0]["type"] == "websocket.accept" else int(sent[0]["status"])


def test_every_route_needs_one_permission_or_is_meant_to_be_open() -> None:
    forgotten = [access for access in CLOSED if len(access.permissions) != 1]
    assert not forgotten, "name a permission, or add the path to PUBLIC if everybody may ask it"


def test_what_is_open_is_there_and_asks_for_nothing() -> None:
    opened = [access for access in accesses(APP) if access.is_public]
    assert {access.path for access in opened} == PUBLIC
    assert not any(access.permissions for access in opened)


def test_a_route_that_forgot_its_permission_is_found() -> None:
    router = APIRouter()

    @router.get("/api/forgotten")
    async def forgotten() -> None: ...

    @router.get("/api/remembered")
    async def remembered(principal: Reader) -> None: ...

    app = FastAPI(openapi_url=None)
    app.include_router(router)
    assert [(access.path, access.permissions) for access in accesses(app)] == [
        ("/api/forgotten", frozenset()),
        ("/api/remembered", frozenset({"orchestrations:read"})),
    ]


@pytest.mark.parametrize("access", CLOSED, ids=lambda access: f"{access.method} {access.path}")
async def test_each_permission_opens_its_routes_and_no_other(client: httpx.AsyncClient, access: Access) -> None:
    [needed] = access.permissions
    for key, permissions in KEYS.items():
        status = await status_of(client, access, key.decode())
        # Nothing is behind the gate, so who is let in finds a wall or a crash, but never a refusal.
        assert (status == 403) == (needed not in permissions), f"{key.decode()}: {status}"
        assert status not in (101, 401)
        assert not 200 <= status < 300
    assert await status_of(client, access, None) == 401
    assert await status_of(client, access, "nobody's") == 401


def test_the_page_of_permissions_is_what_the_routes_ask_for() -> None:
    assert PAGE.read_text() == permissions_page(), "run `make docs`"

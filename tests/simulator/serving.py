"""Serves applications on free ports, and the requests that most tests begin with."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from deploy.local.simulator import SimulatorSettings, create_app
from deploy.local.simulator.clock import Clock
from tests.support.eventually import eventually

REPOSITORY = "https://github.com/acme/widgets"
SECRET = "a-webhook-secret-of-at-least-32-characters"
QUICK: dict[str, Any] = {
    "create_seconds": 0,
    "duration_seconds": 0.05,
    "cancel_seconds": 0.05,
    "follow_up_seconds": 0,
    "follow_up_lag_seconds": 0,
    "webhook_backoff_seconds": 0.01,
}
FOREVER = "[[sim:slow=600]]"
BY = pytest.mark.parametrize("by_marker", [False, True], ids=["by switch", "by marker"])


def on(by_marker: bool, name: str, value: object = True, *, count: int | None = None) -> tuple[str, dict[str, Any]]:
    """The marker for a prompt, or else the switches, that bring the fault about."""
    if not by_marker:
        return "", {name: value if count is None else {"count": count}}
    return f"[[sim:{name}]]" if value is True else f"[[sim:{name}={value}]]", {}


def bound_socket() -> socket.socket:
    """A socket on a free port that nobody serves yet: who connects is refused."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    return bound


@contextmanager
def serving(app: ASGIApp, bound: socket.socket | None = None) -> Iterator[str]:
    """Serve in a thread of its own, as clients of a real server would find it; gives the base URL.

    The socket, one that is `bound` already or a new one, listens before the server runs, so nobody has to wait for it.
    """
    listener = bound or bound_socket()
    listener.listen()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, timeout_keep_alive=60)
    )
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()


@asynccontextmanager
async def simulator(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client, with a key, of a simulator with these settings, quick where they say nothing."""
    app = create_app(SimulatorSettings(**{**QUICK, **settings}))
    with serving(app) as url:
        async with client_of(url) as client:
            yield client


def client_of(url: str, key: str = "key") -> httpx.AsyncClient:
    """A client with a key. Without TLS, whose authorities would take longer to load than most tests take."""
    return httpx.AsyncClient(base_url=url, auth=(key, ""), verify=False, trust_env=False, timeout=30)


@asynccontextmanager
async def in_process(clock: Clock | None = None, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """As `simulator`, without a network in between: quicker, but no connection can break."""
    app = create_app(SimulatorSettings(**{**QUICK, **settings}), clock)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(base_url="http://simulator", transport=transport, auth=("key", "")) as client:
        try:
            yield client
        finally:
            await app.state.simulator.aclose()


def v0_body(text: str = "Add a README", **fields: Any) -> dict[str, Any]:
    return {"prompt": {"text": text}, "source": {"repository": REPOSITORY, "ref": "main"}, **fields}


def v1_body(text: str = "Add a README", **fields: Any) -> dict[str, Any]:
    return {"prompt": {"text": text}, "repos": [{"url": REPOSITORY, "startingRef": "main"}], **fields}


async def create_v0(client: httpx.AsyncClient, text: str = "Add a README", **fields: Any) -> dict[str, Any]:
    return json_of(await client.post("/v0/agents", json=v0_body(text, **fields)), 201)


async def create_v1(client: httpx.AsyncClient, text: str = "Add a README", **fields: Any) -> dict[str, Any]:
    return json_of(await client.post("/v1/agents", json=v1_body(text, **fields)), 201)


def run_path(created: dict[str, Any]) -> str:
    """The path of the run that a create or a further run on v1 answered with."""
    return f"/v1/agents/{created['run']['agentId']}/runs/{created['run']['id']}"


async def agent_when(client: httpx.AsyncClient, agent_id: str, status: str) -> dict[str, Any]:
    """The v0 agent once it has reached the status."""
    return await _when(client, f"/v0/agents/{agent_id}", status)


async def run_when(client: httpx.AsyncClient, created: dict[str, Any], status: str) -> dict[str, Any]:
    """The v1 run once it has reached the status."""
    return await _when(client, run_path(created), status)


async def run_ended(client: httpx.AsyncClient, created: dict[str, Any]) -> dict[str, Any]:
    """The v1 run once it has ended, in whatever way."""

    async def ended() -> dict[str, Any]:
        found = json_of(await client.get(run_path(created)))
        assert found["status"] not in ("CREATING", "RUNNING")
        return found

    return await eventually(ended)


async def _when(client: httpx.AsyncClient, path: str, status: str) -> dict[str, Any]:
    async def reached() -> dict[str, Any]:
        found = json_of(await client.get(path))
        assert found["status"] == status
        return found

    return await eventually(reached)


async def hang_up_once(seen: Callable[[], Awaitable[object]], call: Coroutine[Any, Any, httpx.Response]) -> None:
    """Hang up on a call that goes unanswered, once what it brings about is seen: not before it has arrived at all."""
    calling = asyncio.create_task(call)
    try:
        await eventually(seen)
        answered, _ = await asyncio.wait([calling], timeout=0.05)
        assert not answered
    finally:
        calling.cancel()
        await asyncio.wait([calling])


async def stats(client: httpx.AsyncClient) -> dict[str, Any]:
    return json_of(await client.get("/_sim/stats"))


def json_of(response: httpx.Response, status: int = 200) -> dict[str, Any]:
    assert response.status_code == status, response.text
    content: dict[str, Any] = response.json()
    return content


def refusal(response: httpx.Response, status: int, code: str) -> str:
    """The message of a refusal that has to have this status and code."""
    error = json_of(response, status)["error"]
    assert error["code"] == code
    message: str = error["message"]
    return message


async def faults(client: httpx.AsyncClient, **switches: Any) -> None:
    """Turn these on and all others off."""
    json_of(await client.put("/_sim/faults", json=switches))


async def struck(client: httpx.AsyncClient) -> dict[str, int]:
    """How often each fault has struck."""
    counted: dict[str, int] = (await stats(client))["faults"]
    return counted

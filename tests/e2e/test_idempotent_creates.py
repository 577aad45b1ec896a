"""Requests with an Idempotency-Key, repeated until they are answered, while what serves them is killed."""

import asyncio
from functools import partial
from itertools import count
from typing import Any

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CLIENTS = 6
KILLED = ("nats", "api", "postgres")


async def test_every_request_creates_one_orchestration_whatever_is_killed() -> None:
    async with running_system(REQUESTS_PER_MINUTE="0", REPLY_SECONDS="5") as system:
        stop, answered = asyncio.Event(), dict[str, bytes]()
        clients = [asyncio.create_task(_create_until(stop, system, answered, n)) for n in range(CLIENTS)]
        for name in KILLED:
            await _kill(system, name)
            await _more_than(answered, len(answered))
        stop.set()
        await asyncio.gather(*clients)

        for key in list(answered)[:: max(1, len(answered) // 10)]:
            again = await system.api.post("/api/orchestrations", json=_body(key), headers={"Idempotency-Key": key})
            assert (again.status_code, again.content) == (201, answered[key])

        async def all_are_listed() -> None:
            assert sorted(await _names(system)) == sorted(answered)

        await eventually(all_are_listed, timeout=30, interval=0.5)


def _body(key: str) -> dict[str, Any]:
    return {"repository": "acme/shop", "tasks": [task("One")], "name": key}


async def _create_until(stop: asyncio.Event, system: RunningSystem, answered: dict[str, bytes], client: int) -> None:
    """One orchestration after the other, each request repeated until it is answered for good."""
    for number in count():
        if stop.is_set():
            return
        key = f"{client}-{number}"
        answered[key] = await eventually(partial(_try, system, key), timeout=120, interval=0.2)


async def _more_than(answered: dict[str, bytes], before: int) -> None:
    await eventually(lambda: len(answered) > before, timeout=120)


async def _try(system: RunningSystem, key: str) -> Any:
    try:
        answer = await system.api.post(
            "/api/orchestrations", json=_body(key), headers={"Idempotency-Key": key}, timeout=15
        )
    except httpx.TransportError:
        return None
    assert answer.status_code in (201, 202) or answer.status_code >= 500, answer.text
    return answer.content if answer.status_code == 201 else None


async def _kill(system: RunningSystem, name: str) -> None:
    """Kill it in the middle of the work, and see that another one takes its place."""
    before = system.record()[name]["pid"]
    system.kill(name)
    await eventually(lambda: system.record()[name]["pid"] not in (before, None), timeout=120)


async def _names(system: RunningSystem) -> list[str]:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await system.api.get("/api/orchestrations", params={"limit": "100", **cursor})).json()
        found += [item["name"] for item in page["items"]]
        if "nextCursor" not in page:
            return found
        cursor = {"cursor": page["nextCursor"]}

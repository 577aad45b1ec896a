"""What was written through one replica is read from another at once, however far the rows are behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.client import Client

from services.api.guard import JetStreamProbe
from services.api.projector import Projector, running
from services.api.source import JetStreamSource
from shared.envelope import Stored
from tests.integration.api.system import Running, running_api
from tests.support.eventually import eventually

ROUNDS = 25
AT_ONCE = 5


class LateSource(JetStreamSource):
    """The log as the projector of a loaded database sees it: each batch comes so many seconds late."""

    def __init__(self, nc: Client, late: float) -> None:
        super().__init__(nc)
        self._late = late

    async def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
        async for batch in super().follow(after=after):
            await asyncio.sleep(self._late)
            yield batch


@asynccontextmanager
async def replicas(nats_url: str, database_url: str, *, late: float | None) -> AsyncIterator[tuple[Running, Running]]:
    """Two apis; the rows are `late` seconds behind the log, or never come."""
    alone: dict[str, Any] = {"run_projector": False} | ({"visible_seconds": 0.05} if late is None else {})
    async with (
        running_api(nats_url, database_url, **alone) as one,
        running_api(nats_url, database_url, prepared=True, dispatching=False, **alone) as other,
    ):
        if late is None:
            yield one, other
            return
        nc = one.runtime.nc
        projector = Projector(database_url, LateSource(nc, late), JetStreamProbe(nc))
        async with running(projector):
            yield one, other


async def write_and_read(one: Running, other: Running, number: int, *, listed: bool) -> None:
    """Each write goes to the one, each read to the other, with nothing in between."""
    created = await one.create(name=f"n{number}")
    path = f"/api/orchestrations/{created['id']}"
    if not listed:
        await heard(other, of=one, orchestration_id=created["id"])
    assert await shown(other, path) == created
    assert [event["type"] for event in await items(other, f"{path}/events")] == ["orchestration.created"]
    if listed:
        assert created["id"] in [item["id"] for item in await items(other, "/api/orchestrations")]
    activated = await other.http.post(f"{path}/activate")
    assert activated.json()["message"] == "Activated"
    if not listed:
        await heard(one, of=other, orchestration_id=created["id"])
    assert (await shown(one, path))["status"] == "ACTIVE"
    assert (await items(one, f"{path}/tasks"))[0]["waiting_for"] == "slot"
    assert len(await items(one, f"{path}/logs")) == 3
    if listed:
        statuses = {item["id"]: item["status"] for item in await items(one, "/api/orchestrations")}
        assert statuses[created["id"]] == "ACTIVE"


async def heard(api: Running, *, of: Running, orchestration_id: str) -> None:
    """What the other one wrote has come with the log: where rows never come, that is all that tells of it."""
    newest, written = api.parts.reader._newest, of.parts.reader._newest.of("default", orchestration_id)
    await eventually(lambda: newest.of("default", orchestration_id) >= written)


async def shown(api: Running, path: str) -> dict[str, Any]:
    found = (await api.http.get(path)).json()
    return {**found["orchestration"], "tasks": found["tasks"]}


async def items(api: Running, path: str) -> list[dict[str, Any]]:
    response = await api.http.get(path)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["items"]
    return found


async def rounds(one: Running, other: Running, count: int, *, listed: bool) -> None:
    for begin in range(0, count, AT_ONCE):
        numbers = range(begin, min(count, begin + AT_ONCE))
        await asyncio.gather(*(write_and_read(one, other, number, listed=listed) for number in numbers))


@pytest.mark.long
async def test_a_write_is_read_from_the_other_replica_at_once(nats_url: str, database_url: str) -> None:
    async with replicas(nats_url, database_url, late=0) as (one, other):
        await rounds(one, other, ROUNDS, listed=True)
        await rounds(other, one, ROUNDS, listed=True)


async def test_rows_that_are_late_are_waited_for(nats_url: str, database_url: str) -> None:
    async with replicas(nats_url, database_url, late=0.2) as (one, other):
        await rounds(one, other, 10, listed=True)


async def test_rows_that_never_come_are_made_up_for_by_the_log(nats_url: str, database_url: str) -> None:
    async with replicas(nats_url, database_url, late=None) as (one, other):
        await rounds(one, other, 5, listed=False)


async def test_a_replica_that_came_later_knows_the_past_that_no_row_shows(nats_url: str, database_url: str) -> None:
    """It has not heard of these commits itself: it began to follow the log behind them."""
    async with replicas(nats_url, database_url, late=None) as (one, other):
        created = await one.create()
        path = f"/api/orchestrations/{created['id']}"
        await one.http.post(f"{path}/cancel")
        await heard(other, of=one, orchestration_id=created["id"])
        now = (await other.http.get(f"{path}/events")).json()["items"][-1]["occurred_at"]
        alone: dict[str, Any] = {"run_projector": False, "visible_seconds": 0.05}
        async with running_api(nats_url, database_url, prepared=True, dispatching=False, **alone) as later:
            for what in ("events", "logs"):
                assert await items(later, f"{path}/{what}") == await items(other, f"{path}/{what}")
            then = await later.http.get(path, params={"at": now})
            assert then.json()["orchestration"]["status"] == "CANCELLED"

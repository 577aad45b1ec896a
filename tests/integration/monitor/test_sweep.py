"""A sweep on real servers: planted orphans are stopped, by the clock and on request, and nobody else's agents ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from nats.aio.msg import Msg

from deploy.local.nats import NatsServer
from services.api.sweeps import Sweeps
from services.monitor import sweep as sweep_module
from shared.cursor.provider import ApiVersion
from shared.domain.state import Attempt
from shared.postgres.migrate import migrate
from shared.sweeping import SWEEP_SUBJECT
from tests.integration.api.holders import holding, make_key
from tests.integration.api.system import KEY, NOBODY, Running, running_api
from tests.integration.dispatcher.system import System, system
from tests.simulator.serving import FOREVER
from tests.support.eventually import eventually
from tests.support.orphans import come_up, give_up, status_of

both = pytest.mark.parametrize("version", ["v0", "v1"])
SWEEP = "/api/cloud-agents/sweep"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "_APART_SECONDS", 0.1)
    monkeypatch.setattr(sweep_module, "_LOOK_PAUSE_SECONDS", 0.3)


@dataclass
class Swept:
    """An api and a monitor. Nothing launches agents: the tests plant them."""

    s: System
    api: Running

    async def give_up(self, team: str = "default") -> Attempt:
        return await give_up(self.s.nc, self.s.version, team)

    async def plant(self, attempt: Attempt | None = None) -> str:
        return await come_up(self.s.provider, self.s.version, attempt)

    async def status(self, agent_id: str) -> str:
        return await status_of(self.s.provider, agent_id)

    async def sweep(self, *, key: str = KEY, **body: Any) -> dict[str, Any]:
        """The report."""
        answer = await self.api.http.post(SWEEP, json=body, headers={"X-API-Key": key})
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        return report

    async def shown(self, most: int) -> None:
        """The rows claim so many agents."""

        async def claimed() -> None:
            assert (await self.sweep(dryRun=True))["ours"] == most

        await eventually(claimed)


@asynccontextmanager
async def swept(
    nats: NatsServer, database_url: str, version: ApiVersion = "v1", *, monitors: int = 1, **monitor: Any
) -> AsyncIterator[Swept]:
    """`monitor`: settings of each."""
    await asyncio.to_thread(migrate, database_url)
    settings = {"database_url": database_url, **monitor}
    async with (
        system(nats, version, dispatchers=0, monitors=monitors, monitor=settings) as s,
        running_api(nats.url, database_url, dispatching=False, prepared=True) as api,
    ):
        yield Swept(s, api)


@both
async def test_an_orphan_among_the_agents_of_others_is_shown_then_stopped_and_they_are_left_alone(
    nats: NatsServer, database_url: str, version: ApiVersion
) -> None:
    async with swept(nats, database_url, version) as w:
        orphan = await w.plant(await w.give_up())
        others = [await w.plant() for _ in range(105)]
        await w.shown(1)

        looked = await w.sweep(dryRun=True)
        assert [(found["agentId"], found["action"]) for found in looked["orphans"]] == [(orphan, "would_stop")]
        assert await w.status(orphan) in ("CREATING", "RUNNING")

        report = await w.sweep()
        assert (report["checked"], report["ours"], report["unread"], report["dryRun"]) == (106, 1, 0, False)
        [found] = report["orphans"]
        assert (found["agentId"], found["action"]) == (orphan, "stopped")
        assert found["url"].startswith("https://cursor.com/agents")
        assert await w.status(orphan) == "STOPPED"
        assert (await w.s.stats())["running"] == len(others)
        assert (await w.sweep())["orphans"] == []


async def test_a_run_that_a_person_starts_on_what_was_stopped_is_left_alone(
    nats: NatsServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with swept(nats, database_url) as w:
        orphan = await w.plant(await w.give_up())
        await w.shown(1)
        assert [found["action"] for found in (await w.sweep())["orphans"]] == ["stopped"]
        # So late that no request of ours could have been meant.
        monkeypatch.setattr("services.monitor.orphans._LATE", -sweep_module._SOON)
        answer = await w.s.provider.post(f"/v1/agents/{orphan}/runs", json={"prompt": {"text": f"Go on. {FOREVER}"}})
        assert answer.status_code == 201, answer.text
        report = await w.sweep()
        assert [(found["agentId"], found["action"]) for found in report["orphans"]] == [(orphan, "left")]
        assert await w.status(orphan) in ("CREATING", "RUNNING")


async def test_orphans_are_stopped_by_the_clock_whoever_of_two_monitors_looks_first(
    nats: NatsServer, database_url: str
) -> None:
    async with swept(nats, database_url, monitors=2, sweep_seconds=0.5) as w:
        orphan, other = await w.plant(await w.give_up()), await w.plant()

        async def stopped() -> None:
            assert await w.status(orphan) == "STOPPED"

        await eventually(stopped, timeout=30)
        assert await w.status(other) in ("CREATING", "RUNNING")


async def test_an_administrator_sees_and_stops_the_agents_of_their_own_team_only_and_nobody_else_any(
    nats: NatsServer, database_url: str
) -> None:
    async with swept(nats, database_url) as w:
        orphan = await w.plant(await w.give_up("red"))
        await w.shown(1)
        for permissions in (["agents:write", "queue:write"], ["orchestrations:read", "orchestrations:write"]):
            async with holding(w.api, (await make_key(w.api, "red", permissions))["key"]) as client:
                answer = await client.post(SWEEP)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
        report = await w.sweep(key=(await make_key(w.api, "blue", ["admin"]))["key"])
        assert (report["ours"], report["orphans"]) == (0, [])
        wrong: list[dict[str, Any]] = [{"json": {"dryrun": True}}, {"json": {"dryRun": "yes"}}, {"json": []}]
        for request in (*wrong, {"params": {"dryRun": "1"}}):
            assert (await w.api.http.post(SWEEP, **request)).status_code == 400, request
        report = await w.sweep(key=(await make_key(w.api, "red", ["admin"]))["key"])
        assert [(found["agentId"], found["action"]) for found in report["orphans"]] == [(orphan, "stopped")]
        assert (await w.api.http.post(SWEEP)).status_code == 200, "no body is needed"


async def refused(api: Running) -> tuple[int, str, str]:
    answer: httpx.Response = await api.http.post(SWEEP)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


async def test_without_a_monitor_its_database_the_provider_or_an_answer_in_time_that_is_said(
    nats: NatsServer, database_url: str
) -> None:
    await asyncio.to_thread(migrate, database_url)
    async with (
        system(nats, dispatchers=0, monitors=0) as s,
        running_api(nats.url, database_url, dispatching=False, prepared=True) as api,
    ):
        status, code, message = await refused(api)
        assert (status, code) == (503, "SERVICE_UNAVAILABLE")
        assert "no monitor" in message

        async def say_nothing(_: Msg) -> None: ...

        await s.nc.subscribe(SWEEP_SUBJECT, cb=say_nothing)
        await s.nc.flush()
        object.__setattr__(api.parts, "sweeps", Sweeps(api.runtime.nc, seconds=0.1))
        status, code, message = await refused(api)
        assert (status, code) == (503, "SERVICE_UNAVAILABLE")
        assert "goes on" in message
    async with (
        system(nats, dispatchers=0, monitor={"database_url": None}),
        running_api(nats.url, database_url, dispatching=False, prepared=True) as api,
    ):
        status, code, message = await refused(api)
        assert (status, code) == (503, "SERVICE_UNAVAILABLE")
        assert "DATABASE_URL" in message
    async with swept(nats, database_url, cursor_api_url=NOBODY) as w:
        status, code, message = await refused(w.api)
        assert (status, code) == (502, "CURSOR_API_ERROR")

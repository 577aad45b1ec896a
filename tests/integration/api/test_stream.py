"""Live updates over HTTP: in order, without a gap, across restarts of the broker and of the api."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx_sse

from deploy.local.nats import NatsServer
from shared.domain import commands as cmd
from shared.domain.events import AgentStatus
from shared.domain.ids import derive_id
from tests.integration.api.system import Running, running_api
from tests.support.eventually import eventually

Told = tuple[int, str]


@asynccontextmanager
async def stream(
    api: Running, orchestration_id: str, *, after: int | None = None
) -> AsyncIterator[AsyncIterator[httpx_sse.ServerSentEvent]]:
    headers = {"Last-Event-ID": str(after)} if after is not None else {}
    path = f"/api/orchestrations/{orchestration_id}/stream"
    async with httpx_sse.aconnect_sse(api.http, "GET", path, headers=headers) as source:
        source.response.raise_for_status()
        async with aclosing(source.aiter_sse()) as events:
            # The client library makes an empty event of a comment; others do not.
            yield (event async for event in events if event.data)


async def told(events: AsyncIterator[httpx_sse.ServerSentEvent], *, until: str) -> list[dict[str, Any]]:
    """Messages up to one of the type `until`."""
    found = []
    async for event in events:
        assert event.event == "message"
        found.append(event.json())
        if found[-1]["type"] == until:
            return found
    raise AssertionError(f"the stream ended after {found[-1:]}")


async def run_task(api: Running, orchestration_id: str, task: dict[str, Any], number: int = 1) -> None:
    """What launcher and monitor would do, in three commits."""
    attempt = derive_id("attempt", task["id"], number)
    agent = f"bc-{attempt}"
    decide = api.dispatcher.decide
    await decide(
        orchestration_id, cmd.StartAttempt(attempt_id=attempt, agent_id=agent, api_version="v1", branch_name="b")
    )
    await decide(
        orchestration_id,
        cmd.RecordAgent(
            attempt_id=attempt, agent_id=agent, status=AgentStatus.RUNNING, provider_status="RUNNING", run_id="run-1"
        ),
    )
    await decide(
        orchestration_id,
        cmd.ObserveAgent(
            attempt_id=attempt,
            agent_id=agent,
            status=AgentStatus.FINISHED,
            provider_status="FINISHED",
            source="poll",
            branch="b",
        ),
    )


def tasks(count: int) -> list[dict[str, str]]:
    return [{"title": f"t{i}", "description": "Do what is described."} for i in range(count)]


async def test_a_stream_shows_the_state_then_every_change_then_the_end(api: Running) -> None:
    created = await api.create(tasks=tasks(2))
    async with stream(api, created["id"]) as events:
        first = await anext(events)
        assert first.json()["type"] == "status"
        assert first.json()["data"]["orchestration"] == {k: v for k, v in created.items() if k != "tasks"}
        await api.http.post(f"/api/orchestrations/{created['id']}/activate")
        for task in created["tasks"]:
            await run_task(api, created["id"], task)
        found = await told(events, until="orchestration_completed")
    places = [message["id"] for message in found]
    assert places == sorted(places)
    assert found[-1]["data"]["status"] == "COMPLETED"
    assert found[-1]["data"]["statistics"]["completedTasks"] == 2
    final = (await api.http.get(f"/api/orchestrations/{created['id']}")).json()
    latest = {m["task"]["id"]: m["task"] for m in found if m["type"] == "task_updated"}
    assert list(latest.values()) == final["tasks"]


async def test_a_stream_can_be_resumed_at_every_id_without_gap_or_repeat(api: Running) -> None:
    created = await api.create(activate=True, tasks=tasks(2))
    async with stream(api, created["id"]) as events:
        start = (await anext(events)).json()["id"]
        for task in created["tasks"]:
            await run_task(api, created["id"], task)
        whole = await told(events, until="orchestration_completed")
    for after in sorted({start, *(message["id"] for message in whole[:-1])}):
        rest = [message for message in whole if message["id"] > after]
        if rest:
            async with stream(api, created["id"], after=after) as events:
                assert await told(events, until="orchestration_completed") == rest


async def test_the_query_resumes_like_the_header(api: Running) -> None:
    created = await api.create(activate=True)
    path = f"/api/orchestrations/{created['id']}/stream"
    async with httpx_sse.aconnect_sse(api.http, "GET", path, params={"after": 0}) as source:
        assert (await anext(source.aiter_sse())).json()["type"] == "status"


async def test_a_place_that_nobody_can_have_been_told_is_refused(api: Running) -> None:
    created = await api.create()
    for place in ("", "x", "-1", "1.5", "9" * 19, "9" * 30, "٣", "5 "):
        response = await api.http.get(f"/api/orchestrations/{created['id']}/stream", params={"after": place})
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "INVALID_REQUEST"


async def test_a_stream_goes_on_through_a_restart_of_the_broker(api: Running, nats: NatsServer) -> None:
    created = await api.create(activate=True, tasks=tasks(3))
    async with stream(api, created["id"]) as events:
        assert (await anext(events)).json()["type"] == "status"
        await run_task(api, created["id"], created["tasks"][0])
        nats.kill()
        await eventually(lambda: not api.runtime.nc.is_connected)
        nats.start()
        await eventually(lambda: api.runtime.nc.is_connected)
        for task in created["tasks"][1:]:
            await run_task(api, created["id"], task)
        found = await told(events, until="orchestration_completed")
    async with stream(api, created["id"], after=found[0]["id"] - 1) as events:
        assert await told(events, until="orchestration_completed") == found


async def test_a_stream_is_resumed_at_another_api_without_gap_or_repeat(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url) as api:
        created = await api.create(activate=True, tasks=tasks(3))
        async with stream(api, created["id"], after=0) as events:
            await run_task(api, created["id"], created["tasks"][0])
            seen = [(await anext(events)).json() for _ in range(3)]
        last = seen[-1]["id"] - 1  # its last commit came in half
        await run_task(api, created["id"], created["tasks"][1])
    async with running_api(nats_url, database_url, prepared=True) as api:
        await run_task(api, created["id"], created["tasks"][2])
        async with stream(api, created["id"], after=last) as events:
            rest = await told(events, until="orchestration_completed")
        async with stream(api, created["id"], after=0) as events:
            whole = await told(events, until="orchestration_completed")
    assert [m for m in seen if m["id"] <= last] + rest == whole


async def test_stopping_sends_clients_away_with_a_hint_and_waits_for_nobody(nats_url: str, database_url: str) -> None:
    ending: list[httpx_sse.ServerSentEvent] = []

    async def listen(api: Running, orchestration_id: str, joined: asyncio.Event) -> None:
        async with stream(api, orchestration_id) as events:
            async for event in events:
                joined.set()
                ending.append(event)

    async with running_api(nats_url, database_url) as api:
        created = await api.create()
        joined = asyncio.Event()
        listening = asyncio.create_task(listen(api, created["id"], joined))
        await joined.wait()
        api.parts.hub.close()
        await asyncio.wait_for(listening, 30)
        refused = await api.http.get(f"/api/orchestrations/{created['id']}/stream")
        assert refused.status_code == 503
    assert ending[-1].event == "resume"
    assert ending[-1].json() == {"type": "resume", "reason": "stopping", "after": ending[0].json()["id"]}


async def test_a_client_that_goes_leaves_nothing_behind(api: Running) -> None:
    created = await api.create()
    async with stream(api, created["id"]) as events:
        await anext(events)
        assert api.parts.hub.listeners == 1
    await eventually(lambda: api.parts.hub.listeners == 0)


async def test_a_stream_of_what_has_ended_closes_by_itself(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, idle_after_end_seconds=0.2) as api:
        created = await api.create(activate=True)
        await run_task(api, created["id"], created["tasks"][0])
        async with stream(api, created["id"]) as events:
            found = [event.json()["type"] async for event in events]
        assert found == ["status"]


async def test_a_quiet_stream_has_a_heartbeat(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, heartbeat_seconds=0.05) as api:
        created = await api.create()
        async with api.http.stream("GET", f"/api/orchestrations/{created['id']}/stream") as response:
            beats = 0
            async for line in response.aiter_lines():
                beats += line == ": heartbeat"
                if beats == 3:
                    break

"""What the simulator tells about itself."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from deploy.local.simulator import SimulatorSettings
from deploy.local.simulator.agents import NewAgent, Repository
from deploy.local.simulator.app import Simulator
from deploy.local.simulator.clock import LoopClock
from deploy.local.simulator.journal import Entry, Journal
from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import (
    FOREVER,
    REPOSITORY,
    agent_when,
    create_v0,
    create_v1,
    in_process,
    json_of,
    refusal,
    run_path,
    run_when,
    simulator,
    stats,
    v1_body,
)
from tests.support.eventually import eventually

AGENT_ID = "bc-00000000-0000-4000-8000-000000000001"


async def test_it_counts_creates_by_the_first_line_of_the_prompt() -> None:
    async with simulator() as client:
        await create_v1(client, "Task: one\nfirst attempt")
        await create_v0(client, "\nTask: one \nsecond attempt")
        await create_v1(client, "Task: two")
        await client.post("/v1/agents", json=v1_body("Task: three", nonsense=1))
        counted = await stats(client)
        assert counted["creates"] == 3
        assert counted["creates_by_prompt"] == {"Task: one": 2, "Task: two": 1}


async def test_follow_ups_are_counted_apart_from_creates_on_both_versions() -> None:
    async with simulator() as client:
        created = await create_v1(client, FOREVER)
        path = f"/v1/agents/{created['agent']['id']}"
        more = {"prompt": {"text": "More\nof it"}}
        refusal(await client.post(f"{path}/runs", json=more), 409, "agent_busy")
        await client.post(f"{path.replace('v1', 'v0')}/stop")
        json_of(await client.post(f"{path}/runs", json=more), 201)
        await client.post(f"{path.replace('v1', 'v0')}/followup", json=more)
        json_of(await client.delete(path))
        refusal(await client.delete(path), 404, "agent_not_found")
        counted = await stats(client)
        assert (counted["creates"], counted["follow_ups"], counted["deletes"]) == (1, 2, 1)
        assert counted["follow_ups_by_prompt"] == {"More": 2}


async def test_it_knows_how_many_run_and_how_many_ran_at_most() -> None:
    async with simulator() as client:
        made = [await create_v1(client, FOREVER) for _ in range(3)]
        assert (await stats(client))["running"] == 3
        await client.delete(f"/v1/agents/{made[0]['agent']['id']}")
        await client.post(f"/v0/agents/{made[1]['agent']['id']}/stop")
        await client.post(f"{run_path(made[2])}/cancel")
        await run_when(client, made[2], "CANCELLED")
        await run_when(client, await create_v1(client), "FINISHED")
        counted = await stats(client)
        assert (counted["running"], counted["max_running"]) == (0, 3)


async def test_it_counts_calls_by_route_and_not_its_own_questions() -> None:
    async with simulator() as client:
        created = await create_v1(client)
        await client.get(run_path(created))
        await client.get(run_path(created))
        await client.get("/v1/me", auth=None)
        await stats(client)
        assert (await stats(client))["calls"] == {
            "POST /v1/agents": 1,
            "GET /v1/agents/{id}/runs/{runId}": 2,
            "GET /v1/me": 1,
        }


async def test_a_reset_forgets_agents_counts_and_spent_failures() -> None:
    async with simulator() as client:
        await run_when(client, await create_v1(client, "Task\n[[sim:fail=1]]"), "ERROR")
        await create_v1(client, FOREVER)
        json_of(await client.post("/_sim/reset"))
        counted = await stats(client)
        assert counted["creates"] == counted["running"] == counted["max_running"] == 0
        assert counted["creates_by_prompt"] == counted["calls"] == {}
        assert json_of(await client.get("/v0/agents")) == {"agents": []}
        await run_when(client, await create_v1(client, "Task\n[[sim:fail=1]]"), "ERROR")


async def test_a_create_that_waits_through_a_reset_leaves_the_counts_alone() -> None:
    async with simulator(create_seconds=0.3) as client:
        waiting = asyncio.create_task(create_v1(client, "Early"))
        assert await eventually(lambda: _creates(client)) == 1
        await client.post("/_sim/reset")
        await waiting
        later = await create_v0(client, "Later")
        await agent_when(client, later["id"], "FINISHED")
        counted = await stats(client)
        assert (counted["creates"], counted["running"], counted["max_running"]) == (1, 0, 1)


@pytest.mark.parametrize("agents", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_agents_at_work_cost_timers_and_no_tasks(agents: int) -> None:
    simulator = Simulator(SimulatorSettings(duration_seconds=0.2, create_seconds=0), LoopClock())
    tasks = len(asyncio.all_tasks())
    for number in range(agents):
        new = NewAgent(f"Task {number}", (Repository(REPOSITORY),))
        simulator.store.create(new, simulator.store.subject(new.prompt, new.repositories))
    assert simulator.stats.running == agents
    assert len(asyncio.all_tasks()) == tasks
    await eventually(lambda: simulator.stats.running == 0)
    assert len(asyncio.all_tasks()) == tasks


async def test_it_counts_what_each_attempt_and_each_prompt_has_running_at_most() -> None:
    async with simulator() as client:
        for _ in range(2):
            await create_v0(client, f"Task {FOREVER}", target={"branchName": "attempt-1"})
        first = await create_v1(client, f"Task {FOREVER}", agentId=AGENT_ID)
        json_of(await client.delete(f"/v1/agents/{AGENT_ID}"))
        await create_v1(client, f"Task {FOREVER}", agentId=AGENT_ID)
        await create_v1(client, f"Other {FOREVER}")
        counted = await stats(client)
        assert counted["creates_by_attempt"] == {"attempt-1": 2, AGENT_ID: 2}
        assert counted["max_running_by_attempt"] == {"attempt-1": 2, AGENT_ID: 1}
        line = f"Task {FOREVER}"
        assert counted["max_running_by_prompt"] == {line: 3, f"Other {FOREVER}": 1}
        assert counted["running_by_prompt"] == {line: 3, f"Other {FOREVER}": 1}
        assert first["agent"]["id"] == AGENT_ID

        for agent in json_of(await client.get("/v0/agents"))["agents"]:
            json_of(await client.delete(f"/v0/agents/{agent['id']}"))
        await create_v0(client, f"Task {FOREVER}", target={"branchName": "attempt-1"})
        later = await stats(client)
        assert later["running_by_prompt"] == {line: 1}
        for most in ("max_running_by_attempt", "max_running_by_prompt"):
            assert later[most] == counted[most]


async def test_the_journal_has_every_agent_with_its_changes_and_times_also_when_it_is_gone() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=10) as client:
        old = await create_v0(client, "One\nmore", target={"branchName": "attempt-1"})
        await clock.move(2)
        new = await create_v1(client, "Two", agentId=AGENT_ID)
        await clock.move(3)
        await client.post(f"{run_path(new)}/cancel")
        await clock.move(5)
        json_of(await client.delete(f"/v0/agents/{old['id']}"))
        one, two = json_of(await client.get("/_sim/agents"))["agents"]
        assert (one["id"], one["api"], one["attempt"], one["branch"]) == (old["id"], "v0", "attempt-1", "attempt-1")
        assert (one["prompt"], one["created_at"], one["gone_at"]) == ("One", _at(0), _at(10))
        [run] = one["runs"]
        assert _changes(run) == [("CREATING", _at(0)), ("RUNNING", _at(1)), ("FINISHED", _at(10))]
        assert (two["id"], two["api"], two["attempt"], two["branch"]) == (AGENT_ID, "v1", AGENT_ID, "cursor/two-c674")
        [run] = two["runs"]
        assert _changes(run) == [("CREATING", _at(2)), ("RUNNING", _at(3)), ("CANCELLED", "2026-11-01T12:00:05.050Z")]
        assert "gone_at" not in two
        await client.post("/_sim/reset")
        assert json_of(await client.get("/_sim/agents")) == {"agents": []}


async def test_an_agent_that_is_told_to_go_on_for_ever_does_not_fill_the_memory() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=0) as client:
        path = f"/v1/agents/{(await create_v1(client))['agent']['id']}"
        for number in range(60):
            await clock.move(1)
            more = {"prompt": {"text": f"More {number}" + "x" * 70_000}}
            json_of(await client.post(f"{path}/runs", json=more), 201)
        listed = json_of(await client.get(f"{path}/runs", params={"limit": 100}))["items"]
        messages = json_of(await client.get(f"{path.replace('v1', 'v0')}/conversation"))["messages"]
        assert (len(listed), len(messages)) == (50, 100)
        assert messages[-1]["text"].startswith("More 59x")
        assert len(messages[-1]["text"]) == 64 * 1024
        assert listed[0]["id"] == json_of(await client.get(path))["latestRunId"]


def test_the_journal_forgets_the_oldest() -> None:
    journal, at = Journal(keeps=2), datetime(2026, 11, 1, tzinfo=UTC)
    first, _, last = (journal.add(Entry(f"bc-{number}", "v1", None, None, "Task", at)) for number in range(3))
    assert [entry["id"] for entry in journal.view()] == ["bc-1", "bc-2"]
    for number in range(1_001):
        last.note(f"run-{number}", "CREATING", at)
    assert (len(last.runs), next(iter(last.runs)), first.runs) == (1_000, "run-1", {})


def _changes(run: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["status"], change["at"]) for change in run["changes"]]


def _at(seconds: int) -> str:
    return f"2026-11-01T12:00:{seconds:02}.000Z"


async def _creates(client: httpx.AsyncClient) -> int:
    counted: int = (await stats(client))["creates"]
    return counted

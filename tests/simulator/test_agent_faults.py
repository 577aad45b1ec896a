"""Agents that leave the smooth course, by switch and by marker."""

from typing import Any

import httpx
import pytest

from deploy.local.simulator.lives import UNKNOWN_WORD
from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import BY, create_v0, create_v1, in_process, json_of, on, refusal, run_path, stats, struck

WITH_PR: dict[str, Any] = {"target": {"autoCreatePr": True, "branchName": "feature/x"}}
# A run takes ten seconds here, of which one in CREATING.
TEN: dict[str, Any] = {"duration_seconds": 10, "cancel_seconds": 1}


@pytest.mark.parametrize(("name", "end"), [("fail", "ERROR"), ("expire", "EXPIRED"), ("nochange", "FINISHED")])
async def test_the_ends_that_markers_ask_for_can_be_switched_on(name: str, end: str) -> None:
    clock = HandClock()
    async with in_process(clock, **TEN, faults={name: {"count": 1}}) as client:
        first, second = await create_v1(client, "First"), await create_v1(client, "Second")
        await clock.move(10)
        run = await _read(client, run_path(first))
        assert run["status"] == end
        assert "git" not in run
        assert "git" in await _read(client, run_path(second))
        assert await struck(client) == {name: 1}


async def test_a_run_that_is_to_fail_anyway_does_not_use_up_a_lack_of_changes() -> None:
    async with in_process(duration_seconds=0, faults={"fail": {"count": 1}, "nochange": {"count": 1}}) as client:
        await create_v1(client, "First")
        assert await struck(client) == {"fail": 1}
        await create_v1(client, "Second")
        assert await struck(client) == {"fail": 1, "nochange": 1}


async def test_slow_can_be_switched_on_and_a_marker_comes_before_it() -> None:
    clock = HandClock()
    async with in_process(clock, **TEN, faults={"slow": 600}) as client:
        slow, quick = await create_v1(client), await create_v1(client, "Quick [[sim:slow=1]]")
        await clock.move(599)
        assert (await _read(client, run_path(slow)))["status"] == "RUNNING"
        assert (await _read(client, run_path(quick)))["durationMs"] == 1000
        await clock.move(1)
        assert (await _read(client, run_path(slow)))["status"] == "FINISHED"
        assert await struck(client) == {"slow": 2}


async def test_markers_for_the_end_of_a_run_are_counted_as_well() -> None:
    async with in_process(duration_seconds=0) as client:
        for text in ("A [[sim:fail=1]]", "A [[sim:fail=1]]", "B [[sim:expire]]", "C [[sim:nochange]]"):
            await create_v1(client, text)
        await client.post("/v1/agents", json={"prompt": {"text": "[[sim:refuse=role_forbidden]]"}})
        assert await struck(client) == {"fail": 1, "expire": 1, "nochange": 1, "refuse": 1}


@BY
async def test_an_agent_can_be_creating_for_ever_until_it_is_stopped(by_marker: bool) -> None:
    marker, switches = on(by_marker, "creating_forever")
    clock = HandClock()
    async with in_process(clock, faults=switches) as client:
        path = f"/v0/agents/{(await create_v0(client, f'Stuck {marker}'))['id']}"
        await clock.move(100_000)
        assert (await _read(client, path))["status"] == "CREATING"
        json_of(await client.post(f"{path}/stop"))
        assert (await _read(client, path))["status"] == "STOPPED"


@BY
async def test_an_agent_can_vanish_while_it_works(by_marker: bool) -> None:
    marker, switches = on(by_marker, "vanish", 5)
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        created = await create_v1(client, f"Gone {marker}")
        await clock.move(5.9)
        assert (await _read(client, run_path(created)))["status"] == "RUNNING"
        await clock.move(0.1)
        refusal(await client.get(run_path(created)), 404, "agent_not_found")
        refusal(await client.get(f"/v0/agents/{created['agent']['id']}"), 404, "agent_not_found")
        assert await _read(client, "/v1/agents") == {"items": []}
        counted = await stats(client)
        assert (counted["running"], counted["deletes"], counted["faults"]) == (0, 0, {"vanish": 1})


@BY
async def test_an_unknown_word_can_stand_for_running_or_for_the_end(by_marker: bool) -> None:
    for name, others in (("unknown_status", (UNKNOWN_WORD, "FINISHED")), ("unknown_end", ("RUNNING", UNKNOWN_WORD))):
        marker, switches = on(by_marker, name)
        clock = HandClock()
        async with in_process(clock, **TEN, faults=switches) as client:
            created = await create_v1(client, f"Odd {marker}")
            for word in others:
                await clock.move(5)
                assert (await _read(client, run_path(created)))["status"] == word
                assert (await _read(client, f"/v0/agents/{created['agent']['id']}"))["status"] == word
            assert (await stats(client))["running"] == 0


LATE: dict[str, Any] = {
    "branch_late": lambda agent: agent["target"].get("branchName"),
    "pr_late": lambda agent: agent["target"].get("prUrl"),
    "summary_late": lambda agent: agent.get("summary"),
}


@BY
@pytest.mark.parametrize("name", sorted(LATE))
async def test_branch_pull_request_and_summary_can_come_later_than_the_end(name: str, by_marker: bool) -> None:
    marker, switches = on(by_marker, name, 30)
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        path = f"/v0/agents/{(await create_v0(client, f'Late {marker}', **WITH_PR))['id']}"
        await clock.move(39.9)
        finished = await _read(client, path)
        assert finished["status"] == "FINISHED"
        assert {fault for fault, of in LATE.items() if not of(finished)} == {
            "branch_late": {"branch_late", "pr_late"},
        }.get(name, {name})
        run = await _latest_run(client, path)
        assert ("git" in run, "result" in run) == (name != "branch_late", name != "summary_late")
        await clock.move(0.1)
        later = await _read(client, path)
        assert all(of(later) for of in LATE.values())
        assert await struck(client) == {name: 1}


@BY
async def test_usage_can_be_refused_as_for_accounts_that_do_not_have_it(by_marker: bool) -> None:
    marker, switches = on(by_marker, "usage_unavailable")
    async with in_process(faults=switches) as client:
        created = await create_v1(client, f"Task {marker}")
        refused = await client.get(f"/v1/agents/{created['agent']['id']}/usage")
        refusal(refused, 403, "feature_unavailable")
        json_of(await client.get(run_path(created)))


@BY
async def test_usage_can_come_later_than_the_end(by_marker: bool) -> None:
    marker, switches = on(by_marker, "usage_late", 30)
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        usage = f"/v1/agents/{(await create_v1(client, f'Late {marker}'))['agent']['id']}/usage"
        await clock.move(39.9)
        assert (await _read(client, usage))["cost"] == {"rawCostCents": 0, "chargedCents": 0}
        await clock.move(0.1)
        assert (await _read(client, usage))["cost"]["chargedCents"] > 0


STOPS: list[tuple[str, object, list[str]]] = [
    ("stop_finishes", True, ["FINISHED", "FINISHED"]),
    ("stop_late", 30, ["RUNNING", "STOPPED"]),
    ("stop_ignored", True, ["RUNNING", "RUNNING"]),
]


@BY
@pytest.mark.parametrize(("name", "value", "states"), STOPS)
async def test_a_stop_can_lead_to_finished_be_late_or_be_ignored(
    name: str, value: object, states: list[str], by_marker: bool
) -> None:
    marker, switches = on(by_marker, name, value)
    clock = HandClock()
    async with in_process(clock, **TEN, faults=switches) as client:
        paths = [f"/v0/agents/{(await create_v0(client, f'{n}: {marker} [[sim:slow=600]]'))['id']}" for n in "AB"]
        await clock.move(100)
        json_of(await client.post(f"{paths[0]}/stop"))
        run = await _latest_run(client, paths[1])
        json_of(await client.post(f"/v1/agents/{run['agentId']}/runs/{run['id']}/cancel"))
        for state in states:
            await clock.move(15)
            assert [(await _read(client, path))["status"] for path in paths] == [state, state]
        assert (await struck(client))[name] == 2


async def _read(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    return json_of(await client.get(path))


async def _latest_run(client: httpx.AsyncClient, v0_path: str) -> dict[str, Any]:
    path = v0_path.replace("v0", "v1")
    return await _read(client, f"{path}/runs/{(await _read(client, path))['latestRunId']}")

"""Orchestrations and agents are steered while they run, on both versions of the API: no agent is made twice."""

import asyncio
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LONG = "[[sim:slow=600]]"
WAIT = 120.0
MORE = "And a test, please."


@pytest.mark.parametrize("version", ["v1", pytest.param("v0", marks=pytest.mark.long)])
async def test_orchestrations_are_steered_while_their_agents_run(version: str) -> None:
    settings = {"CURSOR_API_VERSION": version, "MAX_CONCURRENT_AGENTS": "10", "SIMULATOR_CANCEL_SECONDS": "0.3"}
    async with running_system(**settings) as system:
        orchestration_id, agent_id = await _a_paused_agent_is_to_go_on(system)
        if version == "v0":  # which cannot tell apart by itself what was asked of it twice
            await _the_dispatcher_dies(system)
        async with asyncio.TaskGroup() as together:  # they wait more than they work
            together.create_task(_it_goes_on_where_it_was_and_further(system, orchestration_id, agent_id))
            for scenario in (
                _a_drained_agent_finishes_first,
                _a_cancel_stops_every_agent,
                _a_deleted_orchestration_is_gone_once_its_agents_are,
                _an_agent_that_is_stopped_by_hand_fails_its_task_and_the_rest_goes_on,
            ):
                together.create_task(scenario(system))
        stats = await system.simulator()
        assert stats["running"] == 0
        assert stats["deletes"] == 1
        assert set(stats["creates_by_prompt"].values()) == {1}
        assert list(stats["follow_ups_by_prompt"].values()) == [1, 1]  # a resume, and a prompt of the user


async def _a_paused_agent_is_to_go_on(system: RunningSystem) -> tuple[str, str]:
    """Gives the orchestration, which was resumed, and the agent."""
    orchestration_id = await system.create([task("Paused", LONG), task("After it")], activate=True)
    agent_id = await _agent_at_work(system, orchestration_id)
    paused = await _post(system, f"orchestrations/{orchestration_id}/pause")
    assert (paused["status"], paused["message"]) == ("PAUSED", "Paused")
    assert (await _post(system, f"orchestrations/{orchestration_id}/pause"))["message"] == "Already paused"
    stopped = await _until_task(system, orchestration_id, 0, status="PENDING", waiting_for="pause")
    assert stopped["retry_count"] == 0
    assert (await system.simulator())["running"] == 0
    # What is left to do takes no time; the follow-up's own marker says so.
    patch = await system.api.patch(f"/api/tasks/{stopped['id']}", json={"title": "Resumed [[sim:slow=0.3]]"})
    assert patch.status_code == 200, patch.text
    assert (await _post(system, f"orchestrations/{orchestration_id}/resume"))["message"] == "Resumed"
    return orchestration_id, agent_id


async def _the_dispatcher_dies(system: RunningSystem) -> None:
    """The ticket was in its hands: what it sent is found again, by the next one, and nothing is sent twice."""
    dead = system.record()["dispatcher"]["pid"]
    system.kill("dispatcher")
    await eventually(lambda: system.record()["dispatcher"]["pid"] not in (dead, None), timeout=WAIT)

    async def decides_again() -> bool:
        answer = await system.api.get("/health")
        return bool(answer.json()["checks"]["worker"]["status"] == "pass")

    await eventually(decides_again, timeout=WAIT, interval=0.2)


async def _it_goes_on_where_it_was_and_further(system: RunningSystem, orchestration_id: str, agent_id: str) -> None:
    ended = await system.until_ended(orchestration_id, timeout=WAIT)
    assert ended["orchestration"]["status"] == "COMPLETED"
    resumed = ended["tasks"][0]
    assert (resumed["cloud_agent_id"], resumed["retry_count"]) == (agent_id, 0)
    assert [attempt["ending"] for attempt in resumed["attempts"]] == ["STOPPED", "COMPLETED"]
    await _it_is_told_more_after_it_has_finished(system, orchestration_id, agent_id)
    await _a_task_is_added_after_the_end(system, orchestration_id)
    await _it_is_deleted(system, agent_id)


async def _it_is_told_more_after_it_has_finished(system: RunningSystem, orchestration_id: str, agent_id: str) -> None:
    assert (await _post(system, f"cloud-agents/{agent_id}/followup", {"prompt": MORE}))["message"] == "Queued"
    told = (await _until_status(system, orchestration_id, "COMPLETED"))["tasks"][0]
    assert [attempt["ending"] for attempt in told["attempts"]] == ["STOPPED", "COMPLETED", "COMPLETED"]
    assert told["cloud_agent_id"] == agent_id
    assert "And a test" in told["result_summary"]
    assert (await system.simulator())["follow_ups_by_prompt"][MORE] == 1
    talk = (await system.api.get(f"/api/cloud-agents/{agent_id}/conversation")).json()["messages"]
    assert [message["author"] for message in talk if message["author"] == "user"] == ["user"] * 3


async def _a_task_is_added_after_the_end(system: RunningSystem, orchestration_id: str) -> None:
    more = {**task("Then do"), "dependsOn": ["After it"]}
    added = await _post(system, f"orchestrations/{orchestration_id}/tasks", more, expect=201)
    ended = await _until_status(system, orchestration_id, "COMPLETED")
    assert [one["id"] for one in ended["tasks"]][-1] == added["id"]
    assert ended["orchestration"]["summary"] == "All 3 tasks completed successfully"


async def _it_is_deleted(system: RunningSystem, agent_id: str) -> None:
    answer = await system.api.delete(f"/api/cloud-agents/{agent_id}")
    assert answer.status_code == 202, answer.text

    async def gone() -> None:
        answer = await system.api.get(f"/api/cloud-agents/{agent_id}/status")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "AGENT_NOT_FOUND")

    await eventually(gone, timeout=WAIT, interval=0.2)


async def _a_drained_agent_finishes_first(system: RunningSystem) -> None:
    orchestration_id = await system.create([task("Drained", LONG), task("Held back")], activate=True)
    agent_id = await _agent_at_work(system, orchestration_id)
    await _post(system, f"orchestrations/{orchestration_id}/pause", {"mode": "drain"})
    await system.finish(agent_id)
    await _until_task(system, orchestration_id, 0, status="COMPLETED")
    held = await _until_task(system, orchestration_id, 1, status="PENDING", waiting_for="pause")
    assert held["attempts"] == []
    await _post(system, f"orchestrations/{orchestration_id}/resume")
    assert (await system.until_ended(orchestration_id, timeout=WAIT))["orchestration"]["status"] == "COMPLETED"


async def _a_cancel_stops_every_agent(system: RunningSystem) -> None:
    tasks = [task(f"Cancelled {number}", LONG) for number in range(3)]
    orchestration_id = await system.create(tasks, activate=True, executionMode="parallel")
    await _agent_at_work(system, orchestration_id)  # the others may be on their way: their creates are not answered yet
    assert (await _post(system, f"orchestrations/{orchestration_id}/cancel"))["status"] in ("CANCELLING", "CANCELLED")
    ended = await _until_status(system, orchestration_id, "CANCELLED")
    assert {one["status"] for one in ended["tasks"]} == {"CANCELLED"}
    assert (await _post(system, f"orchestrations/{orchestration_id}/cancel"))["message"] == "Already cancelled"


async def _a_deleted_orchestration_is_gone_once_its_agents_are(system: RunningSystem) -> None:
    orchestration_id = await system.create([task("Deleted", LONG)], activate=True)
    await _agent_at_work(system, orchestration_id)
    answer = await system.api.delete(f"/api/orchestrations/{orchestration_id}")
    assert answer.status_code == 202, answer.text

    async def gone() -> bool:
        return (await system.api.get(f"/api/orchestrations/{orchestration_id}")).status_code == 404

    await eventually(gone, timeout=WAIT, interval=0.1)


async def _an_agent_that_is_stopped_by_hand_fails_its_task_and_the_rest_goes_on(system: RunningSystem) -> None:
    tasks = [task("Stopped", LONG), task("Goes on")]
    orchestration_id = await system.create(tasks, activate=True, failurePolicy="continue")
    agent_id = await _agent_at_work(system, orchestration_id)
    await _post(system, f"cloud-agents/{agent_id}/stop", expect=202)
    ended = await system.until_ended(orchestration_id, timeout=WAIT)
    assert ended["orchestration"]["status"] == "PARTIAL_COMPLETED"
    stopped = ended["tasks"][0]
    assert (stopped["status"], stopped["error_code"], stopped["retry_count"]) == ("FAILED", "AGENT_STOPPED", 0)
    assert (await system.api.get(f"/api/cloud-agents/{agent_id}")).json()["status"] == "STOPPED"


async def _post(system: RunningSystem, path: str, body: Any = None, *, expect: int = 200) -> dict[str, Any]:
    answer = await system.api.post(f"/api/{path}", json=body)
    assert answer.status_code == expect, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def _until_task(system: RunningSystem, orchestration_id: str, index: int, **wanted: Any) -> dict[str, Any]:
    """The task once its fields are these."""

    async def there() -> Any:
        found = (await system.get(orchestration_id))["tasks"][index]
        assert {name: found[name] for name in wanted} == wanted
        return found

    found: dict[str, Any] = await eventually(there, timeout=WAIT, interval=0.1)
    return found


async def _until_status(system: RunningSystem, orchestration_id: str, status: str) -> dict[str, Any]:
    async def there() -> Any:
        found = await system.get(orchestration_id)
        assert found["orchestration"]["status"] == status
        return found

    found: dict[str, Any] = await eventually(there, timeout=WAIT, interval=0.1)
    return found


async def _agent_at_work(system: RunningSystem, orchestration_id: str) -> str:
    found = await _until_task(system, orchestration_id, 0, status="PROCESSING", cloud_agent_status="RUNNING")
    agent_id: str = found["cloud_agent_id"]
    return agent_id

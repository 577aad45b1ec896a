"""What people do with orchestrations day by day, on the whole system: every agent ends, and is made once."""

from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

LONG = "[[sim:slow=600]]"
WAIT = 30.0


async def post(system: RunningSystem, path: str, body: Any = None, *, expect: int = 200) -> dict[str, Any]:
    answer = await system.api.post(f"/api/{path}", json=body)
    assert answer.status_code == expect, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def until_task(system: RunningSystem, orchestration_id: str, index: int, **wanted: Any) -> dict[str, Any]:
    """The task once its fields are these."""

    async def there() -> Any:
        found = (await system.get(orchestration_id))["tasks"][index]
        assert {name: found[name] for name in wanted} == wanted
        return found

    found: dict[str, Any] = await eventually(there, timeout=WAIT, interval=0.1)
    return found


async def until_status(system: RunningSystem, orchestration_id: str, status: str) -> dict[str, Any]:
    async def there() -> Any:
        found = await system.get(orchestration_id)
        assert found["orchestration"]["status"] == status
        return found

    found: dict[str, Any] = await eventually(there, timeout=WAIT, interval=0.1)
    return found


async def running_agent(system: RunningSystem, orchestration_id: str, index: int = 0) -> str:
    found = await until_task(system, orchestration_id, index, status="PROCESSING", cloud_agent_status="RUNNING")
    agent_id: str = found["cloud_agent_id"]
    return agent_id


@pytest.mark.parametrize("version", ["v1", "v0"])
async def test_orchestrations_are_steered_while_their_agents_run(version: str) -> None:
    settings = {"CURSOR_API_VERSION": version, "MAX_CONCURRENT_AGENTS": "5", "SIMULATOR_CANCEL_SECONDS": "0.3"}
    async with running_system(**settings) as system:
        await _a_paused_agent_goes_on_where_it_was(system)
        await _a_drained_one_finishes_first(system)
        await _a_cancel_stops_every_agent(system)
        await _a_deleted_one_is_gone_once_its_agents_are(system)
        stats = await system.simulator()
        assert stats["running"] == 0
        assert max(stats["creates_by_prompt"].values()) == 1
        assert max(stats["follow_ups_by_prompt"].values()) == 1


async def _a_paused_agent_goes_on_where_it_was(system: RunningSystem) -> None:
    before = await system.simulator()
    orchestration_id = await system.create([task("Paused", LONG), task("After it")], activate=True)
    agent_id = await running_agent(system, orchestration_id)
    paused = await post(system, f"orchestrations/{orchestration_id}/pause")
    assert (paused["status"], paused["message"]) == ("PAUSED", "Paused")
    assert (await post(system, f"orchestrations/{orchestration_id}/pause"))["message"] == "Already paused"
    stopped = await until_task(system, orchestration_id, 0, status="PENDING", waiting_for="pause")
    assert stopped["retry_count"] == 0
    assert (await system.simulator())["running"] == before["running"]
    # What is left to do takes no time; the follow-up's own marker says so.
    patch = await system.api.patch(f"/api/tasks/{stopped['id']}", json={"title": "Resumed [[sim:slow=0.3]]"})
    assert patch.status_code == 200, patch.text
    assert (await post(system, f"orchestrations/{orchestration_id}/resume"))["message"] == "Resumed"
    ended = await system.until_ended(orchestration_id)
    assert ended["orchestration"]["status"] == "COMPLETED"
    resumed = ended["tasks"][0]
    assert (resumed["cloud_agent_id"], resumed["retry_count"]) == (agent_id, 0)
    assert [attempt["ending"] for attempt in resumed["attempts"]] == ["STOPPED", "COMPLETED"]
    after = await system.simulator()
    assert after["creates"] - before["creates"] == 2
    assert after["follow_ups"] - before["follow_ups"] == 1


async def _a_drained_one_finishes_first(system: RunningSystem) -> None:
    orchestration_id = await system.create([task("Drained", "[[sim:slow=2]]"), task("Held back")], activate=True)
    await running_agent(system, orchestration_id)
    await post(system, f"orchestrations/{orchestration_id}/pause", {"mode": "drain"})
    await until_task(system, orchestration_id, 0, status="COMPLETED")
    held = await until_task(system, orchestration_id, 1, status="PENDING", waiting_for="pause")
    assert held["attempts"] == []
    await post(system, f"orchestrations/{orchestration_id}/resume")
    assert (await system.until_ended(orchestration_id))["orchestration"]["status"] == "COMPLETED"


async def _a_cancel_stops_every_agent(system: RunningSystem) -> None:
    tasks = [task(f"Cancelled {number}", LONG) for number in range(3)]
    orchestration_id = await system.create(tasks, activate=True, executionMode="parallel")
    await running_agent(system, orchestration_id)  # the others may be on their way: their creates are not answered yet
    assert (await post(system, f"orchestrations/{orchestration_id}/cancel"))["status"] in ("CANCELLING", "CANCELLED")
    ended = await until_status(system, orchestration_id, "CANCELLED")
    assert {one["status"] for one in ended["tasks"]} == {"CANCELLED"}
    assert (await system.simulator())["running"] == 0
    assert (await post(system, f"orchestrations/{orchestration_id}/cancel"))["message"] == "Already cancelled"


async def _a_deleted_one_is_gone_once_its_agents_are(system: RunningSystem) -> None:
    orchestration_id = await system.create([task("Deleted", LONG)], activate=True)
    await running_agent(system, orchestration_id)
    answer = await system.api.delete(f"/api/orchestrations/{orchestration_id}")
    assert answer.status_code == 202, answer.text

    async def gone() -> bool:
        return (await system.api.get(f"/api/orchestrations/{orchestration_id}")).status_code == 404

    await eventually(gone, timeout=WAIT)
    assert (await system.simulator())["running"] == 0


async def test_people_step_in_where_an_orchestration_ended_or_goes_astray() -> None:
    async with running_system(MAX_CONCURRENT_AGENTS="1", RETRY_BACKOFF_SECONDS="0.2") as system:
        await _a_failed_task_is_retried_by_hand_and_the_rest_goes_on(system)
        await _a_task_is_added_after_the_first_has_ended(system)
        await _an_agent_is_told_more_after_it_has_finished(system)
        await _a_stopped_agent_s_task_is_skipped(system)
        await _a_hotfix_goes_before_what_waits(system)
        await _many_repositories_get_the_same_tasks(system)
        await _a_schedule_makes_one_at_each_time(system)


async def _a_failed_task_is_retried_by_hand_and_the_rest_goes_on(system: RunningSystem) -> None:
    flaky = {**task("By hand", "[[sim:fail=1]]"), "maxRetries": 0}
    orchestration_id = await system.create([flaky, task("Given up at first")], activate=True)
    ended = await system.until_ended(orchestration_id)
    assert [one["status"] for one in ended["tasks"]] == ["FAILED", "CANCELLED"]
    answer = await post(system, f"tasks/{ended['tasks'][0]['id']}/retry")
    assert answer["status"] == "PENDING"
    again = await until_status(system, orchestration_id, "COMPLETED")
    assert [one["status"] for one in again["tasks"]] == ["COMPLETED", "COMPLETED"]
    assert again["orchestration"]["summary"] == "All 2 tasks completed successfully"


async def _a_task_is_added_after_the_first_has_ended(system: RunningSystem) -> None:
    orchestration_id = await system.create([task("Look first")], activate=True)
    first = (await system.until_ended(orchestration_id))["tasks"][0]
    assert first["outcome"] == "DELIVERED"
    more = {**task("Then do"), "dependsOn": ["Look first"]}
    added = await post(system, f"orchestrations/{orchestration_id}/tasks", more, expect=201)
    ended = await until_status(system, orchestration_id, "COMPLETED")
    assert [one["id"] for one in ended["tasks"]] == [first["id"], added["id"]]


async def _an_agent_is_told_more_after_it_has_finished(system: RunningSystem) -> None:
    orchestration_id = await system.create([task("Told more")], activate=True)
    agent_id = (await system.until_ended(orchestration_id))["tasks"][0]["cloud_agent_id"]
    prompt = "Also mention it in the changelog, please."
    await post(system, f"cloud-agents/{agent_id}/followup", {"prompt": prompt})
    again = await until_status(system, orchestration_id, "COMPLETED")
    assert again["tasks"][0]["cloud_agent_id"] == agent_id
    conversation = (await system.api.get(f"/api/cloud-agents/{agent_id}/conversation")).json()
    assert any(message["text"].startswith(prompt) for message in conversation["messages"])
    deleted = await system.api.delete(f"/api/cloud-agents/{agent_id}")
    assert deleted.status_code == 202, deleted.text

    async def gone() -> bool:
        return (await system.api.get(f"/api/cloud-agents/{agent_id}/status")).status_code == 404

    await eventually(gone, timeout=WAIT)


async def _a_stopped_agent_s_task_is_skipped(system: RunningSystem) -> None:
    tasks = [task("Stopped", LONG), task("Goes on")]
    orchestration_id = await system.create(tasks, activate=True, failurePolicy="continue")
    agent_id = await running_agent(system, orchestration_id)
    await post(system, f"cloud-agents/{agent_id}/stop", expect=202)
    stopped = await until_task(system, orchestration_id, 0, status="FAILED")
    assert stopped["error_code"] == "AGENT_STOPPED"
    ended = await system.until_ended(orchestration_id)
    assert ended["orchestration"]["status"] == "PARTIAL_COMPLETED"


async def _a_hotfix_goes_before_what_waits(system: RunningSystem) -> None:
    filler = await system.create([task("At work", "[[sim:slow=2]]")], activate=True)
    await running_agent(system, filler)
    low = await system.create([{**task("Some time"), "priority": "low"}], activate=True)
    await until_task(system, low, 0, waiting_for="slot")
    hotfix = await system.create([{**task("Hotfix"), "priority": "high"}], activate=True)
    await until_task(system, hotfix, 0, waiting_for="slot")
    first = (await system.until_ended(hotfix))["tasks"][0]["started_at"]
    assert first < (await system.until_ended(low))["tasks"][0]["started_at"]


async def _many_repositories_get_the_same_tasks(system: RunningSystem) -> None:
    wanted = {"repositories": ["acme/one", "acme/two", "not a repository"], "tasks": [task("Everywhere")]}
    made = await post(system, "orchestrations/bulk", {**wanted, "activate": True})
    assert (made["created"], made["failed"]) == (2, 1)
    assert made["items"][2]["error"]["code"] == "INVALID_REPOSITORY"
    for item in made["items"][:2]:
        ended = await system.until_ended(item["orchestration"]["id"])
        assert ended["orchestration"]["status"] == "COMPLETED"


async def _a_schedule_makes_one_at_each_time(system: RunningSystem) -> None:
    orchestration_id = await system.create([task("Each second")], schedule={"cron": "* * * * * *"}, name="Each second")

    async def twice() -> Any:
        found = await system.get(orchestration_id)
        return found if found["orchestration"]["runs"]["count"] >= 2 else None

    found = await eventually(twice, timeout=WAIT, interval=0.2)
    assert found["orchestration"]["status"] == "PENDING"
    assert (await post(system, f"orchestrations/{orchestration_id}/cancel"))["status"] == "CANCELLED"
    run = await system.until_ended(found["orchestration"]["runs"]["last_id"])
    assert run["orchestration"]["schedule_id"] == orchestration_id

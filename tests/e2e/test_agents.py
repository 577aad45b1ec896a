"""Agents on the whole system: paused and continued, told more, stopped and deleted, on both versions of the API."""

from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


async def test_v1_agents_are_paused_continued_told_more_stopped_and_deleted() -> None:
    async with running_system() as system:
        orchestration_id, agent_id = await _pause_and_resume(system)
        await _goes_on_with_the_same_agent(system, orchestration_id, agent_id)
        await _is_told_more(system, orchestration_id, agent_id)
        await _is_stopped_by_hand(system)
        await _is_deleted(system, agent_id)


async def test_v0_agents_are_too_though_the_dispatcher_dies_while_one_is_continued() -> None:
    async with running_system(CURSOR_API_VERSION="v0") as system:
        orchestration_id, agent_id = await _pause_and_resume(system)
        # Whoever took the ticket dies: what it sent is found again, and nothing is sent twice.
        system.kill("dispatcher")
        await _goes_on_with_the_same_agent(system, orchestration_id, agent_id)
        await _is_told_more(system, orchestration_id, agent_id)
        await _is_stopped_by_hand(system)


async def _pause_and_resume(system: RunningSystem) -> tuple[str, str]:
    """The orchestration and its agent, which was stopped by the pause and is about to go on."""
    orchestration_id = await system.create([task("Only", "[[sim:slow=3]]")], activate=True)
    agent_id = await _agent_at_work(system, orchestration_id)
    await _do(system, f"orchestrations/{orchestration_id}/pause")
    paused = await _until(system, orchestration_id, lambda one: one["attempts"][-1]["ending"] == "STOPPED")
    assert (paused["status"], paused["retry_count"], paused["waiting_for"]) == ("PENDING", 0, "pause")
    await _do(system, f"orchestrations/{orchestration_id}/resume")
    return orchestration_id, agent_id


async def _goes_on_with_the_same_agent(system: RunningSystem, orchestration_id: str, agent_id: str) -> None:
    [only] = (await system.until_ended(orchestration_id, timeout=90))["tasks"]
    assert (only["status"], only["retry_count"], only["cloud_agent_id"]) == ("COMPLETED", 0, agent_id)
    assert [attempt["ending"] for attempt in only["attempts"]] == ["STOPPED", "COMPLETED"]
    await _told(system, creates=1, follow_ups=1)


async def _is_told_more(system: RunningSystem, orchestration_id: str, agent_id: str) -> None:
    more = await _do(system, f"cloud-agents/{agent_id}/followup", json={"prompt": "And a test, please."})
    assert more["message"] == "Queued"
    [only] = (await system.until_ended(orchestration_id, timeout=90))["tasks"]
    assert [attempt["ending"] for attempt in only["attempts"]] == ["STOPPED", "COMPLETED", "COMPLETED"]
    assert "And a test" in only["result_summary"]
    stats = await _told(system, creates=1, follow_ups=2)
    assert stats["follow_ups_by_prompt"]["And a test, please."] == 1
    talk = (await system.api.get(f"/api/cloud-agents/{agent_id}/conversation")).json()["messages"]
    assert [message["author"] for message in talk if message["author"] == "user"] == ["user"] * 3


async def _is_stopped_by_hand(system: RunningSystem) -> None:
    orchestration_id = await system.create([task("Long", "[[sim:slow=600]]")], activate=True)
    agent_id = await _agent_at_work(system, orchestration_id)
    answer = await system.api.post(f"/api/cloud-agents/{agent_id}/stop")
    assert answer.status_code == 202, answer.text
    [long] = (await system.until_ended(orchestration_id))["tasks"]
    assert (long["status"], long["error_code"], long["retry_count"]) == ("FAILED", "AGENT_STOPPED", 0)
    assert (await system.api.get(f"/api/cloud-agents/{agent_id}")).json()["status"] == "STOPPED"
    await _told(system, creates=2, follow_ups=2)


async def _is_deleted(system: RunningSystem, agent_id: str) -> None:
    answer = await system.api.delete(f"/api/cloud-agents/{agent_id}")
    assert answer.status_code == 202, answer.text

    async def is_gone() -> bool:
        return bool((await system.simulator())["deletes"] == 1)

    await eventually(is_gone, timeout=30)
    gone = await system.api.get(f"/api/cloud-agents/{agent_id}/status")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "AGENT_NOT_FOUND")


async def _do(system: RunningSystem, path: str, **request: Any) -> dict[str, Any]:
    answer = await system.api.post(f"/api/{path}", **request)
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.json()
    return done


async def _until(system: RunningSystem, orchestration_id: str, reached: Any) -> dict[str, Any]:
    """The only task once `reached` holds of it."""

    async def look() -> Any:
        only: dict[str, Any] = (await system.get(orchestration_id))["tasks"][0]
        return only if reached(only) else None

    found: dict[str, Any] = await eventually(look, timeout=60, interval=0.1)
    return found


async def _agent_at_work(system: RunningSystem, orchestration_id: str) -> str:
    at_work = await _until(system, orchestration_id, lambda one: one["cloud_agent_status"] == "RUNNING")
    agent_id: str = at_work["cloud_agent_id"]
    return agent_id


async def _told(system: RunningSystem, *, creates: int, follow_ups: int) -> dict[str, Any]:
    stats = await system.simulator()
    assert (stats["creates"], stats["follow_ups"], stats["running"]) == (creates, follow_ups, 0)
    return stats

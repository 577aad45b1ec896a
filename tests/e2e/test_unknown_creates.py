"""What is asked while an agent's create has no answer yet is remembered, and carried out once the agent is known."""

import asyncio
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.long]

LONG = "[[sim:slow=600]]"
WAIT = 90.0


@pytest.mark.parametrize("version", ["v1", "v0"])
async def test_what_is_asked_while_creates_are_unanswered_is_carried_out_when_they_are(version: str) -> None:
    settings = {
        "CURSOR_API_VERSION": version,
        "MAX_CONCURRENT_AGENTS": "4",
        # Each command has to arrive within this, also on a slow machine.
        "SIMULATOR_CREATE_SECONDS": "6",
        "SIMULATOR_CANCEL_SECONDS": "0.3",
        "POLL_INTERVAL_SECONDS": "1",
    }
    scenarios = [_a_pause, _a_cancel, _a_delete]
    if version == "v1":  # v0 chooses the id, so nobody could name the agent
        scenarios.append(_a_stop_by_hand)
    async with running_system(**settings) as system:
        async with asyncio.TaskGroup() as together:  # they wait more than they work
            for scenario in scenarios:
                together.create_task(scenario(system))
        stats = await system.simulator()
        assert (stats["creates"], stats["running"], stats["follow_ups"]) == (len(scenarios), 0, 0)


async def _a_pause(system: RunningSystem) -> None:
    orchestration_id, _ = await _creating(system, "Paused")
    await _post(system, f"orchestrations/{orchestration_id}/pause")
    only = await _until(system, orchestration_id, lambda one: one["attempts"][-1]["ending"] == "STOPPED")
    assert (only["status"], only["waiting_for"], only["retry_count"]) == ("PENDING", "pause", 0)
    await _it_was_asked_before_the_agent_was_known(system, orchestration_id)


async def _a_cancel(system: RunningSystem) -> None:
    orchestration_id, _ = await _creating(system, "Cancelled")
    assert (await _post(system, f"orchestrations/{orchestration_id}/cancel"))["status"] == "CANCELLING"
    ended = await system.until_ended(orchestration_id, timeout=WAIT)
    assert ended["orchestration"]["status"] == "CANCELLED"
    assert [one["status"] for one in ended["tasks"]] == ["CANCELLED"]
    await _it_was_asked_before_the_agent_was_known(system, orchestration_id)


async def _a_delete(system: RunningSystem) -> None:
    orchestration_id, _ = await _creating(system, "Deleted")
    answer = await system.api.delete(f"/api/orchestrations/{orchestration_id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "CANCELLING")

    async def is_gone() -> bool:
        return (await system.api.get(f"/api/orchestrations/{orchestration_id}")).status_code == 404

    await eventually(is_gone, timeout=WAIT, interval=0.2)


async def _a_stop_by_hand(system: RunningSystem) -> None:
    orchestration_id, agent_id = await _creating(system, "Stopped")
    answer = await system.api.post(f"/api/cloud-agents/{agent_id}/stop")
    assert answer.status_code == 202, answer.text
    [only] = (await system.until_ended(orchestration_id, timeout=WAIT))["tasks"]
    assert (only["status"], only["error_code"], only["retry_count"]) == ("FAILED", "AGENT_STOPPED", 0)
    await _it_was_asked_before_the_agent_was_known(system, orchestration_id)


async def _creating(system: RunningSystem, title: str) -> tuple[str, str | None]:
    """The orchestration, and its agent's id as far as it is known, whose create is under way."""
    orchestration_id = await system.create([task(title, LONG)], activate=True)
    only = await _until(system, orchestration_id, lambda one: one["status"] == "PROCESSING")
    return orchestration_id, only["cloud_agent_id"]


async def _it_was_asked_before_the_agent_was_known(system: RunningSystem, orchestration_id: str) -> None:
    answer = await system.api.get(f"/api/orchestrations/{orchestration_id}/events?limit=100")
    types = [event["type"] for event in answer.json()["items"]]
    assert types.index("attempt.stop_requested") < types.index("agent.created"), types


async def _until(system: RunningSystem, orchestration_id: str, reached: Any) -> dict[str, Any]:
    """The only task once `reached` holds of it."""

    async def look() -> Any:
        [only] = (await system.get(orchestration_id))["tasks"]
        return only if reached(only) else None

    found: dict[str, Any] = await eventually(look, timeout=WAIT, interval=0.1)
    return found


async def _post(system: RunningSystem, path: str) -> dict[str, Any]:
    answer = await system.api.post(f"/api/{path}")
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.json()
    return done

"""Kill -9 of any service while an orchestration runs: it completes, and no agent is created twice."""

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

FIVE = [task(f"Task {number}", "[[sim:slow=1.5]]") for number in range(1, 6)]


@pytest.mark.parametrize("version", ["v1", "v0"])
async def test_an_orchestration_survives_the_death_of_each_service_in_turn(version: str) -> None:
    async with running_system(CURSOR_API_VERSION=version) as system:
        orchestration_id = await system.create(FIVE, activate=True)
        for completed, name in enumerate(("api", "dispatcher", "monitor", "notifier")):
            await _until_completed(system, orchestration_id, completed)
            await _kill(system, name)
        ended = await system.until_ended(orchestration_id, timeout=120)
        assert ended["orchestration"]["status"] == "COMPLETED"
        stats = await system.simulator()
        assert stats["creates"] == 5
        assert stats["max_running"] == 1


async def _kill(system: RunningSystem, name: str) -> None:
    """Kill it and see that another one takes its place."""
    before = system.record()[name]["pid"]
    system.kill(name)
    await eventually(lambda: system.record()[name]["pid"] not in (before, None), timeout=20)


async def _until_completed(system: RunningSystem, orchestration_id: str, count: int) -> None:
    """Wait until so many tasks are completed and the next one is in the provider's hands."""

    async def so_far() -> bool:
        try:
            statistics = (await system.get(orchestration_id))["statistics"]
        except httpx.TransportError:
            return False
        return bool(statistics["completedTasks"] >= count and statistics["processingTasks"])

    await eventually(so_far, timeout=60)

"""Kill -9 of any service while an orchestration runs: it completes, and no agent is created twice."""

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SERVICES = ("api", "dispatcher", "monitor", "notifier")
TWO = [task("While it dies", "[[sim:slow=2]]"), task("And after that")]


@pytest.mark.parametrize("version", ["v1", pytest.param("v0", marks=pytest.mark.long)])
async def test_an_orchestration_survives_the_death_of_each_service(version: str) -> None:
    # What the dead had in hand comes again after 3 s instead of 30.
    async with running_system(CURSOR_API_VERSION=version, ACK_WAIT_SECONDS="3") as system:
        for name in SERVICES:
            orchestration_id = await system.create(TWO, activate=True, name=name)
            await _until_at_work(system, orchestration_id)
            await _kill(system, name)
            ended = await system.until_ended(orchestration_id, timeout=120)
            assert ended["orchestration"]["status"] == "COMPLETED", name
            assert [one["retry_count"] for one in ended["tasks"]] == [0, 0], name
        stats = await system.simulator()
        assert stats["creates"] == 2 * len(SERVICES)
        assert stats["max_running"] == 1


async def _kill(system: RunningSystem, name: str) -> None:
    """Kill it and see that another one takes its place."""
    before = system.record()[name]["pid"]
    system.kill(name)
    await eventually(lambda: system.record()[name]["pid"] not in (before, None), timeout=120)


async def _until_at_work(system: RunningSystem, orchestration_id: str) -> None:
    """Wait until the first task is in the provider's hands."""

    async def at_work() -> bool:
        try:
            return bool((await system.get(orchestration_id))["statistics"]["processingTasks"])
        except httpx.TransportError:
            return False

    await eventually(at_work, timeout=120)

"""Stops on a real broker, while the simulated provider refuses, forgets and garbles them."""

from typing import Any

import pytest

from deploy.local.nats import NatsServer
from services.monitor import pauses
from shared.cursor.provider import ApiVersion
from shared.domain.commands import (
    CancelOrchestration,
    DeleteOrchestration,
    PauseOrchestration,
)
from shared.domain.events import OrchestrationStatus
from tests.integration.dispatcher.system import NO_POLLS, system, task
from tests.simulator.serving import FOREVER
from tests.support.eventually import eventually

BEFORE, AFTER, UNANSWERED = "stop_error_before", "stop_error_after", "stop_reset_after"
ASKS = (CancelOrchestration, DeleteOrchestration, PauseOrchestration)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "_FIRST_STOP_PAUSE_SECONDS", 0.2)


@pytest.mark.parametrize(
    ("version", "faults"),
    [
        ("v0", {BEFORE: {"count": 4}, "stop_finishes": True}),
        ("v1", {BEFORE: {"count": 4}, UNANSWERED: {"count": 2}, AFTER: True}),
        ("v0", {"create_reset_after": 0.5, BEFORE: 0.4, AFTER: 0.3, "stop_ignored": 0.3, "read_error": 0.2}),
        ("v1", {"create_reset_after": 0.5, BEFORE: 0.4, AFTER: 0.3, "stop_ignored": 0.3, "read_error": 0.2}),
    ],
)
async def test_no_agent_is_left_at_work_whatever_becomes_of_the_stops(
    nats: NatsServer, version: ApiVersion, faults: dict[str, Any]
) -> None:
    # What is to stop is looked at in a hurry, or not at all.
    async with system(nats, version, monitor=NO_POLLS, dispatcher={"max_concurrent_agents": 20}, faults=faults) as s:
        orchestrations = [await s.submit(task(f"task-{number}", marker=FOREVER)) for number in range(9)]

        async def at_work() -> None:
            assert (await s.stats())["running"] >= 3

        await eventually(at_work, timeout=60)
        for number, orchestration in enumerate(orchestrations):
            await s.do(orchestration, ASKS[number % 3]())

        async def over() -> None:
            for number, orchestration in enumerate(orchestrations):
                state = await s.state(orchestration)
                paused = ASKS[number % 3] is PauseOrchestration
                assert state.status is (OrchestrationStatus.PAUSED if paused else OrchestrationStatus.CANCELLED)
                assert not list(state.active_attempts())

        await eventually(over, timeout=120, interval=0.2)
        stats = await s.stats()
        assert stats["running"] == 0
        assert max(stats["creates_by_attempt"].values()) == 1

"""What becomes of orchestrations and tasks is counted, each once."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from shared.domain import commands as cmd
from shared.domain.events import AgentStatus
from shared.envelope import encode
from shared.memory import MemoryEventLog
from tests.unit.dispatcher.reconciling import Dispatcher, dispatcher
from tests.unit.dispatcher.world import ORCHESTRATION, TEAM, delivery, make_task

MODERATE = {"priority": "medium", "complexity": "moderate"}


def sample(name: str, labels: Mapping[str, str]) -> float:
    return REGISTRY.get_sample_value(name, dict(labels)) or 0.0


class Counted:
    """How much more the metrics show than at first."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for metric in REGISTRY.collect():
            for one in metric.samples:
                self._before[one.name, tuple(sorted(one.labels.items()))] = one.value

    def more(self, name: str, **labels: str) -> float:
        return sample(name, labels) - self._before.get((name, tuple(sorted(labels.items()))), 0.0)


async def take_all(d: Dispatcher, *, deliveries: int = 1) -> None:
    reconciler = d.reconciler()
    for stored in await MemoryEventLog.read(d.w.log, TEAM, ORCHESTRATION):
        await reconciler.on_commit(delivery(encode(stored.commit), deliveries=deliveries, sequence=stored.sequence))


async def test_a_life_is_counted_from_its_creation_to_its_end() -> None:
    async with dispatcher() as d:
        await d.w.create(make_task("a"))
        await d.w.launch()
        d.w.clock.advance(timedelta(seconds=90))
        await d.w.observe(AgentStatus.FINISHED)
        counted = Counted()
        await take_all(d)
    assert [counted.more("orchestrations_total", status=word) for word in ("PENDING", "ACTIVE", "COMPLETED")] == [1] * 3
    assert counted.more("tasks_total", status="COMPLETED", **MODERATE) == 1
    for name in ("orchestration_duration_seconds", "task_duration_seconds"):
        labels = {"status": "COMPLETED"} | ({"complexity": "moderate"} if name.startswith("task") else {})
        assert counted.more(f"{name}_count", **labels) == 1
        assert counted.more(f"{name}_sum", **labels) == pytest.approx(90, abs=5)


async def test_what_is_cancelled_before_it_began_has_no_duration() -> None:
    async with dispatcher() as d:
        await d.w.create(make_task("a"), make_task("b"))
        await d.w.do(cmd.CancelOrchestration())
        counted = Counted()
        await take_all(d)
    assert counted.more("tasks_total", status="CANCELLED", **MODERATE) == 2
    assert counted.more("task_duration_seconds_count", status="CANCELLED", complexity="moderate") == 0
    assert counted.more("orchestrations_total", status="CANCELLED") == 1


async def test_a_commit_that_is_delivered_again_is_not_counted_again() -> None:
    async with dispatcher() as d:
        await d.w.create(make_task("a"))
        counted = Counted()
        await take_all(d, deliveries=2)
    assert counted.more("orchestrations_total", status="PENDING") == 0

"""A finished agent is looked at again for what it has not shown yet, whoever saw it first and whatever crashes."""

from datetime import timedelta
from typing import Any

import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentUsage, ApiVersion
from shared.domain.commands import CancelOrchestration
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.patience import Patience
from tests.unit.dispatcher.scripted import GONE, UNAVAILABLE
from tests.unit.monitor.follower import Monitor, monitor
from tests.unit.monitor.test_receipts import PRESENT

FINISHED = AgentStatus.FINISHED
GRACE = timedelta(minutes=1)
HURRIED = "watch.v0-hurried.a"
A_MINUTE = Patience(result_grace=GRACE)
PR = "https://github.com/acme/shop/pull/7"
ALL: dict[str, Any] = {"branch": "cursor/a", "pr_url": PR, "summary": "Done."}
NO_PR = {**ALL, "pr_url": None}


async def pass_by(m: Monitor, pause: float | None) -> None:
    assert pause is not None, "it is not looked at again"
    m.w.clock.advance(timedelta(seconds=pause))


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_a_result_that_is_there_is_taken_at_the_first_look(version: ApiVersion) -> None:
    async with monitor(version, patience=A_MINUTE) as m:
        m.show(FINISHED, **ALL)
        assert await m.poll(subject=HURRIED) is None
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_what_comes_late_is_looked_for_at_doubling_pauses_until_the_grace_is_over() -> None:
    async with monitor("v0", patience=A_MINUTE) as m:
        m.show(FINISHED, **NO_PR)
        pauses = []
        while (pause := await m.poll(subject=HURRIED)) is not None:
            assert ((await m.task()).status, (await m.attempt()).status) == (TaskStatus.PROCESSING, FINISHED)
            pauses.append(pause)
            await pass_by(m, pause)
        assert pauses == [2, 2, 4, 8, 16, 28]
        task = await m.task()
        assert task.result is not None
        assert (task.status, task.result.branch, task.result.pr_url) == (TaskStatus.COMPLETED, "cursor/a", None)


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_a_pull_request_that_comes_five_seconds_late_is_found(version: ApiVersion) -> None:
    async with monitor(version, patience=A_MINUTE) as m:
        m.show(FINISHED, **NO_PR)
        for _ in range(3):
            await pass_by(m, await m.poll(subject=HURRIED))
        m.show(FINISHED, **ALL)
        assert await m.poll(subject=HURRIED) is None
        task = await m.task()
        assert task.result is not None
        assert task.result.pr_url == PR


async def test_usage_that_is_zero_at_first_is_looked_for() -> None:
    async with monitor("v1", patience=A_MINUTE, model="o3") as m:
        m.show(FINISHED, **ALL, duration_ms=60_000)
        m.provider.usages = [AgentUsage(0, 0, 0, cost=0.0), UNAVAILABLE, AgentUsage(10, 5, 15, cost=0.42)]
        for _ in range(2):
            await pass_by(m, await m.poll(subject=HURRIED))
        assert await m.poll(subject=HURRIED) is None
        attempt = await m.attempt()
        assert attempt.usage is not None
        assert (attempt.usage.total_tokens, attempt.cost) == (15, 0.42)


async def test_usage_that_is_known_is_not_asked_for_again() -> None:
    async with monitor("v1", patience=A_MINUTE) as m:
        m.show(FINISHED, **NO_PR)
        m.provider.usages = [AgentUsage(10, 5, 15, cost=0.42), AgentUsage(99, 99, 198, cost=9.9)]
        await pass_by(m, await m.poll(subject=HURRIED))
        m.show(FINISHED, **ALL)
        assert await m.poll(subject=HURRIED) is None
        assert (await m.attempt()).cost == 0.42


async def test_without_usage_the_time_that_is_waited_costs_nothing() -> None:
    async with monitor("v0", patience=A_MINUTE, model="o3") as m:
        m.w.clock.advance(timedelta(minutes=3))
        m.show(FINISHED, **NO_PR)
        while (pause := await m.poll(subject=HURRIED)) is not None:
            await pass_by(m, pause)
        attempt = await m.attempt()
        assert attempt.cost == pytest.approx(0.30)
        assert attempt.duration_ms == 180_000


async def test_a_webhook_begins_the_grace_and_a_message_of_its_own_ends_it() -> None:
    async with monitor("v0", patience=A_MINUTE) as m:
        m.show(FINISHED, **NO_PR)
        assert await m.receive(PRESENT) is None
        assert await m.poll(deliveries=1, subject=HURRIED) == 2
        m.w.clock.advance(GRACE)
        assert await m.poll(subject=HURRIED) is None
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_another_process_goes_on_with_the_grace_where_one_died() -> None:
    async with monitor("v0", patience=A_MINUTE) as m:
        m.show(FINISHED, **NO_PR)
        await pass_by(m, await m.poll(subject=HURRIED))
        m.restart()
        m.w.clock.advance(GRACE - timedelta(seconds=2, microseconds=1))
        assert await m.poll(subject=HURRIED) is not None
        m.w.clock.advance(timedelta(microseconds=1))
        assert await m.poll(subject=HURRIED) is None


@pytest.mark.parametrize("error", [UNAVAILABLE, GONE])
async def test_an_error_of_the_provider_ends_nothing_though_the_grace_is_over(error: ProviderError) -> None:
    async with monitor("v0", patience=A_MINUTE, timeout_minutes=1) as m:
        m.show(FINISHED, **NO_PR)
        await m.poll(subject=HURRIED)
        m.provider.gets = [error]
        m.w.clock.advance(timedelta(hours=1))
        pause = await m.poll(subject=HURRIED)
        assert pause is not None
        assert pause >= 20, "it is asked ever more rarely"
        assert m.provider.stops == [], "there is nothing to stop"
        m.show(FINISHED, **ALL)
        assert await m.poll(subject=HURRIED) is None
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_a_cancel_takes_what_was_seen_and_asks_nobody() -> None:
    async with monitor("v1", patience=A_MINUTE) as m:
        m.show(FINISHED, **NO_PR)
        await m.poll(subject=HURRIED)
        reads = len(m.provider.reads)
        await m.w.do(CancelOrchestration())
        assert (await m.w.state()).status is OrchestrationStatus.CANCELLED
        task = await m.task()
        assert task.result is not None
        assert (task.status, task.result.branch) == (TaskStatus.COMPLETED, "cursor/a")
        assert await m.poll(subject=HURRIED) is None
        assert (len(m.provider.reads), m.provider.stops) == (reads, [])


async def test_should_the_message_for_the_result_be_lost_the_other_one_ends_the_attempt() -> None:
    async with monitor("v0", patience=A_MINUTE) as m:
        m.show(FINISHED, **NO_PR)
        for _ in range(7):
            await pass_by(m, await m.poll())
        m.w.clock.advance(GRACE)
        assert await m.poll() is None
        assert (await m.task()).status is TaskStatus.COMPLETED

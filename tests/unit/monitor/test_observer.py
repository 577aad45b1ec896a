"""What a look at an agent leads to."""

import asyncio
from datetime import timedelta

import pytest

from services.monitor.observer import UnknownAttemptError
from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentUsage
from shared.domain.events import AgentStatus, AgentStatusChanged, TaskStatus
from shared.domain.state import Phase
from shared.messages import Watched
from tests.unit.dispatcher.scripted import GONE, THROTTLED, UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, TEAM
from tests.unit.monitor.follower import Monitor, monitor


async def look(m: Monitor) -> None:
    await m.observer.look(await m.watched(), "poll")


@pytest.mark.parametrize(
    ("status", "task", "code"),
    [
        (AgentStatus.CREATING, TaskStatus.PROCESSING, None),
        (AgentStatus.RUNNING, TaskStatus.PROCESSING, None),
        (AgentStatus.UNKNOWN, TaskStatus.PROCESSING, None),
        (AgentStatus.FINISHED, TaskStatus.COMPLETED, None),
        (AgentStatus.FAILED, TaskStatus.FAILED, "AGENT_FAILED"),
        (AgentStatus.EXPIRED, TaskStatus.FAILED, "AGENT_EXPIRED"),
        (AgentStatus.STOPPED, TaskStatus.FAILED, "AGENT_STOPPED"),
    ],
)
async def test_each_status_of_an_agent_leads_to_one_of_the_task(
    status: AgentStatus, task: TaskStatus, code: str | None
) -> None:
    async with monitor() as m:
        m.show(status)
        await look(m)
        after = await m.task()
        assert after.status is task
        assert (after.failure.code if after.failure else None) == code
        assert (await m.attempt()).is_active == (not status.is_terminal)
        assert (await m.attempt()).status is status


async def test_the_result_is_what_the_provider_shows() -> None:
    async with monitor() as m:
        m.show(AgentStatus.FINISHED, branch="cursor/a", pr_url="https://x/1", summary="Done.", duration_ms=90_000)
        m.provider.usages = [AgentUsage(10, 5, 15, cost=0.42)]
        await look(m)
        task, attempt = await m.task(), await m.attempt()
        assert task.result is not None
        assert (task.result.branch, task.result.pr_url, task.result.summary) == ("cursor/a", "https://x/1", "Done.")
        assert (attempt.cost, attempt.duration_ms) == (0.42, 90_000)
        assert attempt.usage is not None
        assert attempt.usage.total_tokens == 15


@pytest.mark.parametrize("usage", [None, UNAVAILABLE, GONE, AgentUsage(0, 0, 0, cost=0.0), AgentUsage(0, 0, 0)])
async def test_without_usage_the_cost_is_estimated_from_the_run(usage: AgentUsage | ProviderError | None) -> None:
    async with monitor(model="o3") as m:
        m.show(AgentStatus.FINISHED, duration_ms=120_000)
        m.provider.usages = [usage]
        await look(m)
        assert (await m.attempt()).cost == pytest.approx(0.20)
        assert (await m.attempt()).usage is None
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_without_a_duration_the_cost_is_estimated_from_the_time_since_the_start() -> None:
    async with monitor(model="o3") as m:
        m.w.clock.advance(timedelta(minutes=3))
        m.show(AgentStatus.FAILED)
        await look(m)
        assert (await m.attempt()).cost == pytest.approx(0.30)


async def test_seeing_the_same_again_changes_nothing() -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        await look(m)
        before = await m.w.events()
        for _ in range(5):
            await look(m)
        assert await m.w.events() == before


async def test_many_looks_at_once_end_the_task_once() -> None:
    async with monitor() as m:
        m.show(AgentStatus.FINISHED)
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(look(m))
        assert [event.type for event in await m.w.events()].count("task.completed") == 1


async def test_an_attempt_that_has_ended_is_not_looked_at_again() -> None:
    async with monitor() as m:
        m.show(AgentStatus.FINISHED)
        await look(m)
        m.show(AgentStatus.RUNNING)
        reads = len(m.provider.reads)
        await look(m)
        assert len(m.provider.reads) == reads
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_a_status_never_goes_back_to_creating() -> None:
    async with monitor() as m:
        for status in (AgentStatus.RUNNING, AgentStatus.CREATING):
            m.show(status)
            await look(m)
        seen = [event.status for event in await m.w.events() if isinstance(event, AgentStatusChanged)]
        assert seen == [AgentStatus.RUNNING]


@pytest.mark.parametrize("error", [UNAVAILABLE, THROTTLED, ProviderError("unauthorized", "no", status=401)])
async def test_an_error_of_the_provider_ends_nothing(error: ProviderError) -> None:
    async with monitor() as m:
        m.provider.gets = [error]
        before = await m.w.events()
        for _ in range(50):
            with pytest.raises(ProviderError):
                await look(m)
        assert await m.w.events() == before
        assert m.provider.stops == []


async def test_an_unknown_attempt_is_said_to_be_unknown() -> None:
    async with monitor() as m:
        for orchestration in (ORCHESTRATION, "orc-unknown"):
            with pytest.raises(UnknownAttemptError):
                await m.observer.look(Watched(TEAM, orchestration, "no-such", "2026-11-01T12:00:00Z"), "poll")


# Deadlines and stops


async def test_a_stop_is_asked_for_at_every_look_after_the_deadline_until_the_agent_has_stopped() -> None:
    async with monitor(timeout_minutes=10) as m:
        m.show(AgentStatus.RUNNING)
        m.w.clock.advance(timedelta(minutes=9))
        await look(m)
        assert m.provider.stops == []
        m.w.clock.advance(timedelta(minutes=1))
        for times in (1, 2, 3):
            await look(m)
            assert len(m.provider.stops) == times
            assert (await m.attempt()).stop_reason == "TIMEOUT"
            assert (await m.task()).status is TaskStatus.PROCESSING
        m.show(AgentStatus.STOPPED)
        await look(m)
        task = await m.task()
        assert task.failure is not None
        assert task.failure.code == "TIMEOUT"
        assert len(m.provider.stops) == 3


async def test_an_agent_in_a_state_without_a_known_name_that_has_nothing_to_stop_has_stopped() -> None:
    async with monitor() as m:
        m.show(AgentStatus.UNKNOWN, provider_status="HIBERNATING")
        m.provider.nothing_to_stop = True
        await look(m)
        assert (await m.attempt()).is_active
        m.w.clock.advance(timedelta(hours=3))
        await look(m)
        attempt = await m.attempt()
        assert (attempt.status, attempt.provider_status) == (AgentStatus.STOPPED, "HIBERNATING")
        assert (attempt.is_active, attempt.stop_reason) == (False, "TIMEOUT")


async def test_an_agent_at_work_that_has_nothing_to_stop_is_not_believed_to_have_stopped() -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        m.provider.nothing_to_stop = True
        m.w.clock.advance(timedelta(hours=3))
        for times in (1, 2):
            await look(m)
            assert (await m.attempt()).is_active
            assert len(m.provider.stops) == times


async def test_a_stop_that_fails_leaves_the_attempt_under_way() -> None:
    async with monitor(timeout_minutes=1) as m:
        m.show(AgentStatus.RUNNING)
        m.provider.stop_error = UNAVAILABLE
        m.w.clock.advance(timedelta(minutes=2))
        for _ in range(3):
            with pytest.raises(ProviderError):
                await look(m)
        assert len(m.provider.stops) == 3
        assert (await m.attempt()).phase is Phase.CREATED
        assert (await m.attempt()).stop_reason == "TIMEOUT"


@pytest.mark.parametrize("status", [AgentStatus.FINISHED, AgentStatus.STOPPED, AgentStatus.FAILED])
async def test_on_v0_whatever_end_follows_our_stop_counts_as_stopped(status: AgentStatus) -> None:
    async with monitor("v0", timeout_minutes=1) as m:
        m.show(AgentStatus.RUNNING)
        m.w.clock.advance(timedelta(minutes=2))
        await look(m)
        m.show(status)
        await look(m)
        task = await m.task()
        assert task.failure is not None
        assert task.failure.code == "TIMEOUT"


async def test_on_v1_an_agent_that_finished_before_our_stop_reached_it_has_finished() -> None:
    async with monitor("v1", timeout_minutes=1) as m:
        m.show(AgentStatus.RUNNING)
        m.w.clock.advance(timedelta(minutes=2))
        await look(m)
        m.show(AgentStatus.FINISHED)
        await look(m)
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_an_agent_that_is_gone_after_our_stop_has_stopped() -> None:
    async with monitor(timeout_minutes=1) as m:
        m.show(AgentStatus.RUNNING)
        m.w.clock.advance(timedelta(minutes=2))
        await look(m)
        m.provider.gets, m.provider.stop_error = [GONE], GONE
        await look(m)
        assert (await m.attempt()).phase is Phase.ENDED
        task = await m.task()
        assert task.failure is not None
        assert task.failure.code == "TIMEOUT"


async def test_an_agent_that_is_seen_at_work_has_not_stopped_because_its_stop_does_not_find_it() -> None:
    async with monitor(timeout_minutes=1) as m:
        m.show(AgentStatus.RUNNING)
        m.w.clock.advance(timedelta(minutes=2))
        m.provider.stop_error = GONE
        with pytest.raises(ProviderError):
            await look(m)
        assert (await m.attempt()).phase is Phase.CREATED


async def test_an_agent_that_somebody_deleted_ends_with_its_deadline_if_that_comes_first() -> None:
    async with monitor(timeout_minutes=2) as m:
        m.provider.gets = [GONE]
        await look(m)
        m.w.clock.advance(timedelta(minutes=2))
        m.provider.stop_error = GONE
        await look(m)
        assert (await m.attempt()).stop_reason == "TIMEOUT"
        task = await m.task()
        assert task.failure is not None
        assert task.failure.code == "TIMEOUT"


async def test_an_agent_that_cannot_be_read_is_stopped_at_its_deadline_all_the_same() -> None:
    async with monitor(timeout_minutes=10) as m:
        m.provider.gets = [UNAVAILABLE]
        m.w.clock.advance(timedelta(minutes=10))
        with pytest.raises(ProviderError):
            await look(m)
        assert (await m.attempt()).stop_reason == "TIMEOUT"
        assert len(m.provider.stops) == 1
        assert (await m.attempt()).phase is Phase.CREATED, "it may well be running"

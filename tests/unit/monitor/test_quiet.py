"""Attempts without news are read, and what launches or follows them is put back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.cursor.provider import ApiVersion
from shared.domain.commands import PauseOrchestration
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from tests.unit.dispatcher.scripted import UNAVAILABLE
from tests.unit.monitor.sweeping import Sweeping, sweeping

both = pytest.mark.parametrize("version", ["v0", "v1"])


@both
async def test_an_attempt_without_news_is_read_and_its_end_is_seen(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.w.launch()
        await keep_followed(s)
        attempt = await s.w.attempt()
        s.show(attempt.agent_id or "", AgentStatus.FINISHED, run_id=attempt.run_id)
        s.w.clock.advance(timedelta(hours=1, minutes=59))
        assert (await s.sweep()).settled == ()
        assert (await s.w.task()).status is TaskStatus.PROCESSING
        s.w.clock.advance(timedelta(minutes=1))
        [settled] = (await s.sweep()).settled
        assert (settled.attempt_id, settled.agent_id, settled.action) == (attempt.attempt_id, attempt.agent_id, "ended")
        assert (await s.w.task()).status is TaskStatus.COMPLETED


@both
async def test_one_that_goes_on_working_is_no_news(version: ApiVersion) -> None:
    async with sweeping(version, timeout_minutes=1000) as s:
        await s.w.launch()
        attempt = await s.w.attempt()
        s.show(attempt.agent_id or "", AgentStatus.CREATING, run_id=attempt.run_id)
        await keep_followed(s)
        s.w.clock.advance(timedelta(hours=3))
        report = await s.sweep()
        assert (report.orphans, report.settled) == ((), ())
        assert len(s.provider.reads) == 1


@both
async def test_what_should_follow_it_is_put_back_should_it_be_lost(version: ApiVersion) -> None:
    async with sweeping(version, timeout_minutes=1000) as s:
        await s.w.launch()
        attempt = await s.w.attempt()
        s.show(attempt.agent_id or "", AgentStatus.CREATING, run_id=attempt.run_id)
        s.w.clock.advance(timedelta(hours=3))
        [settled] = (await s.sweep()).settled
        assert settled.action == "put_back"
        assert [message.subject for message in s.publisher.messages] == [f"watch.{version}.{attempt.attempt_id}"]
        assert (await s.sweep()).settled == ()


@pytest.mark.parametrize("started", [False, True])
async def test_a_ticket_that_was_lost_is_put_back(started: bool) -> None:
    """Also one of an attempt that has no slot yet, which the audit of the slots does not see."""
    async with sweeping() as s:
        attempt = await s.start() if started else await s.w.attempt()
        s.w.clock.advance(timedelta(hours=3))
        assert [settled.action for settled in (await s.sweep()).settled] == ["put_back"]
        assert [message.subject for message in s.publisher.messages] == [f"queue.medium.{attempt.attempt_id}"]


async def test_one_that_is_to_stop_is_followed_in_a_hurry_again() -> None:
    async with sweeping(timeout_minutes=1000) as s:
        await s.w.launch()
        await s.w.do(PauseOrchestration())
        attempt = await s.w.attempt()
        s.show(attempt.agent_id or "", run_id=attempt.run_id)
        s.w.clock.advance(timedelta(hours=3))
        assert [settled.action for settled in (await s.sweep()).settled] == ["put_back"]
        assert f"watch.v1-hurried.{attempt.attempt_id}" in [message.subject for message in s.publisher.messages]
        assert s.stopped == [attempt.agent_id]


async def test_one_that_cannot_be_read_is_said_to_be_so_and_stays_under_way() -> None:
    async with sweeping(timeout_minutes=1000) as s:
        await s.w.launch()
        await keep_followed(s)
        s.provider.gets = [UNAVAILABLE]
        s.w.clock.advance(timedelta(hours=3))
        assert [settled.action for settled in (await s.sweep()).settled] == ["not_read"]
        assert (await s.w.state()).status is OrchestrationStatus.ACTIVE


async def test_who_only_wants_to_look_reads_and_puts_back_nothing() -> None:
    async with sweeping(timeout_minutes=1000) as s:
        await s.w.launch()
        s.w.clock.advance(timedelta(hours=3))
        assert [settled.action for settled in (await s.sweep(dry_run=True)).settled] == ["would_read"]
        assert (s.provider.reads, s.publisher.messages) == ([], [])


async def keep_followed(s: Sweeping) -> None:
    """What follows the agent is in its queue."""
    limit, s.sweeper.quiet = s.sweeper.quiet, replace(s.sweeper.quiet, limit=timedelta(0))
    s.provider.gets = [s.provider.agents[(await s.w.attempt()).agent_id or ""]]
    await s.sweeper.quiet.settle(None, dry_run=False)
    s.provider.gets, s.provider.reads = [], []
    s.sweeper.quiet = limit

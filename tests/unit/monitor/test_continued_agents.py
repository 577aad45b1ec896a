"""An agent that goes on is not taken to have ended as it had ended before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import pytest

from shared.cursor.provider import ApiVersion, Message
from shared.domain.commands import PauseOrchestration, ResumeOrchestration, StartAttempt
from shared.domain.events import AgentStatus, TaskStatus
from shared.domain.prompt import follow_up_prompt
from shared.domain.state import Phase
from shared.jetstream.consumer import Later
from shared.messages import Receipt
from tests.unit.dispatcher.scripted import UNAVAILABLE, snapshot
from tests.unit.dispatcher.world import ORCHESTRATION, TEAM, delivery
from tests.unit.monitor.follower import GRACE, Monitor, monitor

FINISHED: dict[str, Any] = {"event": "statusChange", "id": "bc_provider-1", "status": "FINISHED"}


@asynccontextmanager
async def paused(version: ApiVersion = "v0") -> AsyncIterator[Monitor]:
    """The only agent has been stopped by a pause."""
    async with monitor(version, timeout_minutes=600) as m:
        await m.w.do(PauseOrchestration())
        m.show(AgentStatus.STOPPED)
        await m.poll()
        stopped = await m.attempt()
        assert (stopped.ending, stopped.agent_id) == ("STOPPED", *m.provider.agents)
        for agent_id in m.provider.agents:
            m.provider.agents[agent_id] = snapshot(agent_id, AgentStatus.STOPPED, run_id=stopped.run_id)
        yield m


@asynccontextmanager
async def continued(version: ApiVersion = "v0") -> AsyncIterator[Monitor]:
    """It was stopped by a pause and told to go on a moment ago; it still shows its old end."""
    async with paused(version) as m:
        await m.w.do(ResumeOrchestration())
        await m.w.launch()
        second = await m.attempt()
        assert (second.number, second.phase, second.status) == (2, Phase.CREATED, AgentStatus.CREATING)
        m.provider.said = [
            Message("1", "user", "Task 1 of 1: Task a"),
            Message("2", "assistant", "I began."),
            Message("3", "user", follow_up_prompt(await m.task(), second)),
        ]
        yield m


@pytest.mark.parametrize("status", [AgentStatus.FINISHED, AgentStatus.STOPPED, AgentStatus.FAILED])
async def test_an_old_end_is_not_taken_for_the_new_one(status: AgentStatus) -> None:
    async with continued() as m:
        m.show(status)
        assert await m.poll() is not None
        assert (await m.task()).status is TaskStatus.PROCESSING
        m.show(AgentStatus.RUNNING)
        assert await m.poll() is not None
        m.show(AgentStatus.FINISHED, summary="All done.")
        assert await m.poll() is None
        result = (await m.task()).result
        assert result is not None
        assert result.summary == "All done."


async def test_an_end_after_an_answer_to_the_follow_up_is_believed_at_once() -> None:
    async with continued() as m:
        m.provider.said.append(Message("4", "assistant", "Done."))
        m.show(AgentStatus.FINISHED)
        assert await m.poll() is None
        assert (await m.task()).status is TaskStatus.COMPLETED


@pytest.mark.parametrize("readable", [True, False])
async def test_an_end_without_a_word_is_believed_after_the_grace(readable: bool) -> None:
    async with continued() as m:
        m.provider.conversation_error = None if readable else UNAVAILABLE
        m.show(AgentStatus.FAILED)
        assert await m.poll() is not None
        m.w.clock.advance(GRACE - timedelta(seconds=1))
        assert await m.poll() is not None
        assert (await m.task()).status is TaskStatus.PROCESSING
        m.w.clock.advance(timedelta(seconds=1))
        assert await m.poll() is None
        assert (await m.task()).status is TaskStatus.FAILED


async def test_a_stop_that_is_asked_for_in_the_grace_is_repeated_until_the_end_is_believed() -> None:
    async with continued() as m:
        m.w.clock.advance(GRACE - timedelta(seconds=1))
        await m.w.do(PauseOrchestration())
        m.show(AgentStatus.STOPPED)
        before = len(m.provider.stops)
        assert await m.poll() is not None
        m.w.clock.advance(timedelta(seconds=5))
        assert await m.poll() is not None
        assert len(m.provider.stops) == before + 2
        m.w.clock.advance(GRACE)
        assert await m.poll() is None
        assert (await m.attempt()).ending == "STOPPED"


async def test_on_v1_the_run_tells_whose_end_it_is() -> None:
    async with continued("v1") as m:
        m.show(AgentStatus.FAILED)
        assert await m.poll() is None
        assert m.provider.reads[-1][1] == "run-2"


async def test_the_webhook_of_an_agent_that_goes_on_leads_to_the_attempt_that_continues_it() -> None:
    """It has the address of the attempt that created the agent."""
    async with continued() as m:
        m.provider.said.append(Message("4", "assistant", "Done."))
        m.show(AgentStatus.FINISHED)
        first, _ = (await m.task()).attempts
        assert await receive(m, first.attempt_id) is None
        assert (await m.task()).status is TaskStatus.COMPLETED
        assert (await m.attempt()).ending == "COMPLETED"


async def test_a_late_webhook_of_the_run_before_ends_nothing() -> None:
    async with continued() as m:
        m.show(AgentStatus.STOPPED)
        first, _ = (await m.task()).attempts
        pauses = [await receive(m, first.attempt_id, deliveries=number) for number in range(1, 6)]
        assert pauses == [1.0, 2.0, 3.0, 4.0, None]
        assert (await m.task()).status is TaskStatus.PROCESSING


async def test_what_is_to_go_on_is_not_read_before_it_is_known_to_do_so() -> None:
    async with paused() as m:
        await m.w.do(ResumeOrchestration())
        first, second = (await m.task()).attempts
        assert first.agent_id is not None
        command = StartAttempt(
            attempt_id=second.attempt_id, agent_id=first.agent_id, api_version="v0", branch_name="cursor/a"
        )
        await m.w.do(command)
        reads = len(m.provider.reads)
        assert await receive(m, first.attempt_id) == 1.0
        assert await receive(m, second.attempt_id) == 1.0
        assert len(m.provider.reads) == reads
        assert (await m.attempt()).phase is Phase.STARTED


async def test_the_webhook_of_an_agent_that_nobody_continues_ends_nothing() -> None:
    async with paused() as m:
        m.provider.agents.clear()
        await m.w.do(ResumeOrchestration())
        await m.w.launch()  # it is gone, so that another one takes its place
        await m.w.launch()
        assert (await m.attempt()).continues is None
        m.show(AgentStatus.FINISHED)
        first = (await m.task()).attempts[0]
        assert await receive(m, first.attempt_id) is None
        assert (await m.task()).status is TaskStatus.PROCESSING


async def receive(m: Monitor, attempt_id: str, *, deliveries: int = 1) -> float | None:
    """One delivery of a receipt with the address of this attempt: seconds until it comes again, None if done."""
    body = orjson.dumps(FINISHED).decode()
    receipt = Receipt(TEAM, ORCHESTRATION, attempt_id, "2026-11-01T12:00:00Z", {}, body)
    try:
        await m.receipts.on_receipt(delivery(receipt.encode(), deliveries=deliveries))
    except Later as later:
        return later.delay_seconds
    return None

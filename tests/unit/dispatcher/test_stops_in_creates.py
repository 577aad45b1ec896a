"""Stops, deadlines and receipts that come while the create is under way."""

from datetime import timedelta
from functools import partial

import pytest

from shared.cursor.provider import ApiVersion
from shared.domain.commands import CancelOrchestration
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.state import Phase
from tests.unit.dispatcher.scripted import LONG_THROTTLED, THROTTLED, UNANSWERED, UNAVAILABLE
from tests.unit.dispatcher.world import SETTLE, World, make_task, observed, world

VERSIONS: list[ApiVersion] = ["v0", "v1"]
both = pytest.mark.parametrize("version", VERSIONS)


async def expire_in_a_minute(w: World) -> None:
    w.clock.advance(timedelta(minutes=1))
    await w.expire()


@both
async def test_a_cancel_does_not_wait_until_a_throttle_is_over(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        w.provider.before_create = [LONG_THROTTLED] * 2

        async def cancel() -> None:
            await w.do(CancelOrchestration())

        w.while_asleep = [cancel]
        await w.launch()
        assert (await w.state()).status is OrchestrationStatus.CANCELLED
        assert (sum(w.waits), w.provider.agents, len(w.provider.requests)) == (60.0, {}, 1)
        assert await w.holders() == []


@both
async def test_a_throttle_is_waited_for_to_its_end_by_one_that_is_wanted(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        w.provider.before_create = [LONG_THROTTLED]
        await w.launch()
        assert (sum(w.waits), len(w.provider.requests)) == (900.0, 2)


@both
async def test_a_stop_asked_for_while_the_create_is_unknown_waits_for_the_agent_and_then_holds(
    version: ApiVersion,
) -> None:
    async with world(version) as w:
        await w.create(make_task("a", timeout_minutes=1))
        w.provider.after_create = [UNANSWERED]
        w.provider.on_find = [UNAVAILABLE] * 10
        w.while_asleep = [partial(expire_in_a_minute, w)]
        await w.launch()
        attempt = await w.attempt()
        assert attempt.phase is Phase.CREATED
        assert attempt.stop_reason == "TIMEOUT"
        assert len(w.provider.requests) == 1, "what is to be stopped is not created again"
        assert await w.known_agents() == list(w.provider.agents)


@both
async def test_a_stop_of_what_was_never_created_ends_the_attempt_after_the_settle_time(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", timeout_minutes=1, max_retries=0))
        w.provider.before_create = [UNANSWERED]
        lost = w.clock.now()
        w.while_asleep = [partial(expire_in_a_minute, w)]
        await w.launch()
        task = await w.task()
        assert task.status is TaskStatus.FAILED
        assert task.failure is not None
        assert task.failure.code == "TIMEOUT"
        assert w.clock.now() - lost >= SETTLE
        assert len(w.provider.requests) == 1
        assert await w.holders() == []


@both
async def test_a_deadline_that_passes_while_throttled_ends_the_attempt_without_an_agent(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", timeout_minutes=2, max_retries=0))
        w.provider.before_create = [THROTTLED] * 1000
        await w.launch()
        task = await w.task()
        assert task.failure is not None
        assert task.failure.code == "TIMEOUT"
        assert w.provider.agents == {}
        assert w.provider.finds == []


async def test_a_deadline_that_passes_in_the_create_leaves_the_agent_known_so_that_it_can_be_stopped() -> None:
    async with world("v0") as w:
        await w.create(make_task("a", timeout_minutes=1))

        async def boot() -> None:
            w.clock.advance(timedelta(minutes=2))

        w.provider.before_create = [boot]
        await w.launch()
        assert (await w.attempt()).phase is Phase.CREATED


@both
async def test_an_agent_that_a_receipt_made_known_is_not_created_again(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        ticket = await w.ticket()
        w.provider.before_create = [THROTTLED]

        async def receipt() -> None:
            agent_id = w.provider.requests[0].agent_id if version == "v1" else "bc_provider-1"
            await w.do(observed(ticket, AgentStatus.RUNNING, agent_id))

        w.while_asleep = [receipt]
        await w.launch()
        assert len(w.provider.requests) == 1
        assert (await w.attempt()).phase is Phase.CREATED
        assert await w.holders() == [ticket]


async def test_an_end_that_overtakes_the_reply_to_the_create_gives_the_slot_back() -> None:
    async with world("v0") as w:
        await w.create()
        ticket = await w.ticket()

        async def receipt() -> None:
            await w.do(observed(ticket, AgentStatus.FINISHED, "bc_provider-1"))

        w.provider.after_create = [receipt]
        await w.launch()
        assert (await w.task()).status is TaskStatus.COMPLETED
        assert await w.known_agents() == ["bc_provider-1"]
        assert await w.holders() == []

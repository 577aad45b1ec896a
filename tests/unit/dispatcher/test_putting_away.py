"""Agents are deleted or archived once, when that is asked for, and nothing else waits for it."""

import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion
from shared.domain import plan
from shared.domain.commands import DeleteAgent, DiscardAgent, FollowUp
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus
from shared.domain.plan import Cleanup
from shared.envelope import encode
from shared.jetstream.consumer import Later
from shared.memory import MemoryEventLog
from tests.unit.dispatcher.reconciling import Dispatcher, dispatcher
from tests.unit.dispatcher.scripted import LONG_THROTTLED, MOVED, NO_KEY, UNANSWERED, UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, TEAM, delivery


async def agent_to_delete(d: Dispatcher) -> str:
    """The agent of a finished task, whose delete was asked for."""
    await d.w.create()
    await d.w.launch()
    await d.w.observe(AgentStatus.FINISHED)
    attempt = await d.w.attempt()
    await d.w.do(DeleteAgent(attempt_id=attempt.attempt_id))
    assert attempt.agent_id is not None
    return attempt.agent_id


async def test_an_agent_is_deleted_and_that_is_recorded_also_when_it_was_done_before() -> None:
    async with dispatcher() as d:
        agent_id = await agent_to_delete(d)
        reconciler = d.reconciler()
        await d.take_all(reconciler)
        assert d.w.provider.deletes == [agent_id]
        assert d.w.provider.agents == {}
        assert (await d.w.attempt()).agent_deletion == "DONE"
        await d.take_all(reconciler)
        assert d.w.provider.deletes == [agent_id]
        version = (await d.w.state()).version
        await d.take_all(d.reconciler())
        assert (await d.w.state()).version == version


@pytest.mark.parametrize("error", [UNAVAILABLE, UNANSWERED, MOVED])
async def test_a_delete_that_fails_is_tried_again_and_holds_nothing_else_up(error: ProviderError) -> None:
    async with dispatcher() as d:
        await agent_to_delete(d)
        [*_, last] = await MemoryEventLog.read(d.w.log, TEAM, ORCHESTRATION)
        d.w.provider.on_delete = [error]
        reconciler = d.reconciler()
        with pytest.raises(Later) as later:
            await reconciler.on_commit(delivery(encode(last.commit), sequence=last.sequence))
        assert later.value.delay_seconds >= 1
        assert await d.w.holders() == []
        assert (await d.w.attempt()).agent_deletion == "REQUESTED"
        await reconciler.on_commit(delivery(encode(last.commit), sequence=last.sequence, deliveries=2))
        assert (await d.w.attempt()).agent_deletion == "DONE"


async def test_a_delete_is_not_tried_again_before_the_provider_wants_it_to_be() -> None:
    async with dispatcher() as d:
        await agent_to_delete(d)
        [*_, last] = await MemoryEventLog.read(d.w.log, TEAM, ORCHESTRATION)
        d.w.provider.on_delete = [LONG_THROTTLED]
        with pytest.raises(Later) as later:
            await d.reconciler().on_commit(delivery(encode(last.commit), sequence=last.sequence))
        assert later.value.delay_seconds == LONG_THROTTLED.retry_after


async def test_a_delete_that_is_refused_for_good_is_not_tried_for_ever() -> None:
    async with dispatcher() as d:
        await agent_to_delete(d)
        d.w.provider.on_delete = [NO_KEY] * 10
        reconciler = d.reconciler()
        await d.take_all(reconciler)
        await d.take_all(reconciler)
        assert len(d.w.provider.deletes) == 1
        assert (await d.w.attempt()).agent_deletion == "REQUESTED"


async def finished(d: Dispatcher) -> str:
    """The agent of a task that has ended."""
    await d.w.create()
    await d.w.launch()
    await d.w.observe(AgentStatus.FINISHED)
    agent_id = (await d.w.attempt()).agent_id
    assert agent_id is not None
    return agent_id


async def test_agents_are_kept_where_nothing_else_is_asked_for() -> None:
    async with dispatcher() as d:
        await finished(d)
        await d.take_all(d.reconciler())
        assert (d.w.provider.archives, d.w.provider.deletes) == ([], [])


async def test_an_agent_is_archived_once_when_its_task_has_ended_whoever_looks_again() -> None:
    async with dispatcher(cleanup="archive") as d:
        agent_id = await finished(d)
        reconciler = d.reconciler()
        await d.take_all(reconciler)
        await d.take_all(reconciler)
        await d.take_all(d.reconciler())
        assert d.w.provider.archives == [agent_id]
        assert (await d.w.attempt()).agent_archived
        assert [event.type for event in await d.w.events()].count("agent.archived") == 1


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_an_agent_is_deleted_once_when_its_task_has_ended_and_is_not_told_more_then(version: ApiVersion) -> None:
    async with dispatcher(version, cleanup="delete") as d:
        agent_id = await finished(d)
        reconciler = d.reconciler()
        await d.take_all(reconciler)
        await d.take_all(reconciler)
        await d.take_all(d.reconciler())
        assert d.w.provider.deletes == [agent_id]
        assert (await d.w.attempt()).agent_deletion == "DONE"
        with pytest.raises(Refusal, match="deleted"):
            await d.w.do(FollowUp(attempt_id=(await d.w.attempt()).attempt_id, prompt="More"))


@pytest.mark.parametrize("error", [UNAVAILABLE, UNANSWERED])
async def test_an_archive_that_fails_is_tried_again_and_holds_nothing_else_up(error: ProviderError) -> None:
    async with dispatcher(cleanup="archive") as d:
        await finished(d)
        [*_, last] = await MemoryEventLog.read(d.w.log, TEAM, ORCHESTRATION)
        d.w.provider.on_archive = [error]
        reconciler = d.reconciler()
        with pytest.raises(Later) as later:
            await reconciler.on_commit(delivery(encode(last.commit), sequence=last.sequence))
        assert later.value.delay_seconds >= 1
        assert await d.w.holders() == []
        await reconciler.on_commit(delivery(encode(last.commit), sequence=last.sequence, deliveries=2))
        assert (await d.w.attempt()).agent_archived


async def test_an_archive_that_is_refused_for_good_is_not_tried_for_ever() -> None:
    async with dispatcher(cleanup="archive") as d:
        await finished(d)
        d.w.provider.on_archive = [NO_KEY] * 10
        reconciler = d.reconciler()
        await d.take_all(reconciler)
        await d.take_all(reconciler)
        assert len(d.w.provider.archives) == 1
        assert not (await d.w.attempt()).agent_archived


async def test_a_commit_that_is_read_late_archives_no_agent_that_goes_on_since() -> None:
    async with dispatcher(cleanup="archive") as d:
        await finished(d)
        ended = await d.w.state()
        await d.w.do(FollowUp(attempt_id=(await d.w.attempt()).attempt_id, prompt="More"))
        await d.reconciler().reconcile(ended)
        assert d.w.provider.archives == []


@pytest.mark.parametrize("other", [plan.ArchiveAgent, plan.DeleteAgent])
@pytest.mark.parametrize("cleanup", ["archive", "delete"])
async def test_putting_agents_away_leaves_workers_for_what_is_urgent_however_long_it_takes(
    cleanup: Cleanup, other: type[plan.ArchiveAgent | plan.DeleteAgent]
) -> None:
    async with dispatcher(cleanup=cleanup) as d:
        agent_id = await finished(d)
        attempt = await d.w.attempt()
        if cleanup == "delete":
            await d.w.do(DiscardAgent(attempt_id=attempt.attempt_id))
        state, reconciler = await d.w.state(), d.reconciler()
        action = other(attempt.attempt_id, agent_id)
        reconciler._under_way.update((f"other-{number}", action) for number in range(8))  # as if eight were asked for
        with pytest.raises(ProviderError) as caught:
            await reconciler.reconcile(state)
        assert caught.value.retryable
        put_away = d.w.provider.archives if cleanup == "archive" else d.w.provider.deletes
        assert put_away == []
        reconciler._under_way.clear()
        await reconciler.reconcile(state)
        assert put_away == [agent_id]

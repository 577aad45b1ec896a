"""What ought to be under way is brought under way, and a second time does no harm."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from services.dispatcher.audit import SlotAudit
from shared.command_handler import Cause, CommandHandler
from shared.cursor.provider import ApiVersion
from shared.domain.commands import (
    CancelOrchestration,
    DeleteAgent,
    ObserveAgent,
    PauseOrchestration,
    ResumeOrchestration,
)
from shared.domain.events import AgentStatus
from shared.domain.patience import Patience
from shared.domain.state import Phase
from shared.envelope import encode
from shared.jetstream.consumer import Later
from shared.jetstream.topology import QUEUE, WATCH
from shared.memory import MemoryEventLog
from shared.messages import Ticket, Watched
from tests.support.eventually import eventually
from tests.unit.dispatcher.reconciling import Dispatcher, dispatcher
from tests.unit.dispatcher.scripted import UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM, delivery, make_task


async def test_a_queued_attempt_has_one_ticket_at_its_priority_also_after_the_memory_is_lost() -> None:
    async with dispatcher() as d:
        await d.w.create(make_task("a", priority="high"))
        first = d.reconciler()
        await d.take_all(first)
        await d.take_all(first)
        await d.take_all(d.reconciler())
        ticket = await d.w.ticket()
        [message] = d.publisher.messages
        assert (message.stream, message.subject) == (QUEUE, f"queue.high.{ticket.attempt_id}")
        assert Ticket.decode(message.data) == ticket


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_a_created_agent_is_watched_once(version: ApiVersion) -> None:
    async with dispatcher(version) as d:
        await d.w.create()
        await d.w.launch()
        first = d.reconciler()
        await d.take_all(first)
        await d.take_all(first)
        await d.take_all(d.reconciler())
        attempt = await d.w.attempt()
        [message] = [message for message in d.publisher.messages if message.stream == WATCH]
        assert message.subject == f"watch.{version}.{attempt.attempt_id}"
        watched = Watched.decode(message.data)
        assert (watched.team, watched.orchestration_id, watched.attempt_id) == (
            TEAM,
            ORCHESTRATION,
            attempt.attempt_id,
        )
        assert watched.since_time == attempt.started_at


async def test_a_stop_is_asked_for_once_and_its_failure_is_left_to_whoever_follows_the_agent() -> None:
    async with dispatcher() as d:
        await d.w.create(make_task("a", timeout_minutes=1))
        await d.w.launch()
        d.w.clock.advance(timedelta(minutes=2))
        await d.w.expire()
        d.w.provider.stop_error = UNAVAILABLE
        reconciler = d.reconciler()
        await d.take_all(reconciler)
        attempt = await d.w.attempt()
        assert d.w.provider.stops == [(attempt.agent_id, attempt.run_id)]
        await d.take_all(reconciler)
        assert len(d.w.provider.stops) == 1
        await d.take_all(d.reconciler())
        assert len(d.w.provider.stops) == 2
        assert (await d.w.attempt()).phase is Phase.CREATED


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_an_agent_that_is_to_stop_is_looked_at_in_a_hurry_by_a_message_of_its_own(version: ApiVersion) -> None:
    async with dispatcher(version) as d:
        await agents_to_stop(d, "a")
        await d.take_all(d.reconciler())
        await d.take_all(d.reconciler())
        attempt = await d.w.attempt()
        watches = [message for message in d.publisher.messages if message.stream == WATCH]
        assert [message.subject for message in watches] == [
            f"watch.{version}.{attempt.attempt_id}",
            f"watch.{version}-hurried.{attempt.attempt_id}",
        ]
        assert watches[0].data == watches[1].data


async def test_what_a_finished_agent_has_not_shown_is_looked_for_by_a_message_of_its_own_that_is_put_back() -> None:
    async with dispatcher() as d:
        await d.w.create()
        await d.w.launch()
        attempt = await d.w.attempt()
        handler = CommandHandler(d.w.log, d.w.clock, d.w.ids, patience=Patience(result_grace=timedelta(minutes=1)))
        seen = ObserveAgent(
            attempt_id=attempt.attempt_id,
            agent_id=attempt.agent_id or "",
            status=AgentStatus.FINISHED,
            provider_status="FINISHED",
            source="stream",
        )
        await handler.handle(TEAM, ORCHESTRATION, seen, Cause("seen", "seen", "test"))
        reconciler = d.reconciler()
        for _ in range(2):
            d.publisher.messages.clear()
            await d.take_all(reconciler)
            await SlotAudit(d.w.handler, d.w.slots, reconciler.keep_followed).look_through()
            subjects = {message.subject for message in d.publisher.messages if message.stream == WATCH}
            assert subjects == {f"watch.v1.{attempt.attempt_id}", f"watch.v1-hurried.{attempt.attempt_id}"}
        assert d.w.provider.stops == []


async def test_the_message_that_hurries_a_stop_is_put_back_should_it_be_lost() -> None:
    async with dispatcher() as d:
        await agents_to_stop(d, "a")
        reconciler = d.reconciler()
        await d.take_all(reconciler)
        stops = len(d.w.provider.stops)
        d.publisher.messages.clear()
        await SlotAudit(d.w.handler, d.w.slots, reconciler.keep_followed).look_through()
        attempt = await d.w.attempt()
        assert [message.subject for message in d.publisher.messages] == [
            f"watch.v1.{attempt.attempt_id}",
            f"watch.v1-hurried.{attempt.attempt_id}",
        ]
        assert len(d.w.provider.stops) == stops, "the audit waits for nobody outside"


@pytest.mark.parametrize(("launched", "stream"), [(False, QUEUE), (True, WATCH)])
async def test_what_launches_or_follows_the_holder_of_a_slot_is_put_back_should_it_be_lost(
    launched: bool, stream: str
) -> None:
    async with dispatcher() as d:
        await d.w.create()
        ticket = await d.w.ticket()
        assert await d.w.slots.acquire(ticket, "medium", START, within=1)
        if launched:
            await d.w.launch()
        reconciler = d.reconciler()
        await d.take_all(reconciler)
        d.publisher.messages.clear()
        await d.take_all(reconciler)
        assert d.publisher.messages == []
        audit = SlotAudit(d.w.handler, d.w.slots, reconciler.keep_followed)
        await audit.look_through()
        await audit.look_through()
        assert [message.stream for message in d.publisher.messages] == [stream]
        assert await d.w.holders() == [ticket]


async def agents_to_stop(d: Dispatcher, *names: str) -> list[str]:
    """Agents of a cancelled orchestration, all at work."""
    tasks = [make_task(name, order_index=index) for index, name in enumerate(names)]
    await d.w.create(*tasks, execution_mode="parallel", failure_policy="continue")
    for name in names:
        await d.w.launch(await d.w.ticket(name))
    await d.w.do(CancelOrchestration())
    return [(await d.w.attempt(name)).agent_id or "" for name in names]


async def test_agents_that_end_while_others_are_still_being_stopped_do_not_multiply_the_stops() -> None:
    async with dispatcher() as d:
        agents = await agents_to_stop(d, "a", "b", "c")
        answered = asyncio.Event()

        async def slowly() -> None:
            await answered.wait()

        def are_asked_for(number: int) -> bool:
            return len(d.w.provider.stops) >= number

        d.w.provider.on_stop = [slowly] * 9
        reconciler, reconciling = d.reconciler(), []
        for number in (1, 2, 3):
            reconciling.append(asyncio.create_task(reconciler.reconcile(await d.w.state())))
            await eventually(partial(are_asked_for, number))
            if number == 1:
                await d.w.observe(AgentStatus.STOPPED)
        answered.set()
        outcomes = await asyncio.gather(*reconciling, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, Later) for outcome in outcomes), outcomes
        await reconciler.reconcile(await d.w.state())
        assert sorted(agent_id for agent_id, _ in d.w.provider.stops) == sorted(agents)


async def test_a_commit_is_not_done_while_what_it_asks_for_is_under_way_for_an_older_one() -> None:
    """Whoever is at it may die, and the older commit comes again to a process that reads no further than it."""
    async with dispatcher() as d:
        await d.w.create()
        await d.w.launch()
        await d.w.observe(AgentStatus.FINISHED)
        attempt_id = (await d.w.attempt()).attempt_id
        await d.w.do(DeleteAgent(attempt_id=attempt_id))
        created, *_, asked = await MemoryEventLog.read(d.w.log, TEAM, ORCHESTRATION)
        answered = asyncio.Event()

        async def slowly() -> None:
            await answered.wait()

        d.w.provider.on_delete = [slowly]
        reconciler = d.reconciler()
        await reconciler.handler.load(TEAM, ORCHESTRATION)
        at_it = asyncio.create_task(
            reconciler.on_commit(delivery(encode(created.commit), sequence=created.sequence)), name="older"
        )
        await eventually(lambda: bool(d.w.provider.deletes))
        with pytest.raises(Later):
            await reconciler.on_commit(delivery(encode(asked.commit), sequence=asked.sequence))
        at_it.cancel()
        await asyncio.gather(at_it, return_exceptions=True)

        after_its_death = d.reconciler()
        for stored in (created, asked):
            await after_its_death.on_commit(delivery(encode(stored.commit), sequence=stored.sequence))
        assert (await d.w.attempt()).agent_deletion == "DONE"


async def test_a_provider_that_is_slow_to_stop_an_agent_holds_nothing_else_up() -> None:
    async with dispatcher() as d:
        await d.w.create(
            make_task("a", timeout_minutes=1),
            make_task("b", order_index=1),
            make_task("c", order_index=2),
            execution_mode="parallel",
            max_parallel=2,
        )
        for name in ("a", "b"):
            await d.w.launch(await d.w.ticket(name))
        d.w.clock.advance(timedelta(minutes=2))
        await d.w.expire()
        await d.w.observe(AgentStatus.FINISHED, "b")
        answered = asyncio.Event()

        async def slowly() -> None:
            await answered.wait()

        d.w.provider.on_stop = [slowly]
        reconciling = asyncio.create_task(d.reconciler().reconcile(await d.w.state()))
        await eventually(lambda: bool(d.w.provider.stops))
        ticket = await d.w.ticket("c")
        assert [message.subject for message in d.publisher.messages if message.stream == QUEUE] == [
            f"queue.medium.{ticket.attempt_id}"
        ]
        assert await d.w.holders() == [await d.w.ticket("a")]
        answered.set()
        await reconciling


async def test_a_stop_that_comes_late_does_not_stop_an_agent_that_was_told_to_go_on() -> None:
    """v0 knows no runs: a stop of the agent stops whatever it does by then."""
    async with dispatcher("v0") as d:
        await d.w.create()
        await d.w.launch()
        await d.w.do(PauseOrchestration())
        to_stop = await d.w.state()
        await d.w.observe(AgentStatus.STOPPED)
        await d.w.do(ResumeOrchestration())
        await d.w.launch()
        await d.reconciler().reconcile(to_stop)
        assert d.w.provider.stops == []


async def test_what_leaves_the_plan_and_comes_back_is_done_again() -> None:
    async with dispatcher() as d:
        await d.w.create()
        reconciler = d.reconciler()
        before = await d.w.state()
        await reconciler.reconcile(before)
        await d.w.launch()
        await reconciler.reconcile(await d.w.state())
        d.publisher.messages.clear()
        await reconciler.reconcile(before)
        assert [message.stream for message in d.publisher.messages] == [QUEUE]


async def test_an_ended_attempt_gives_its_slot_back_and_only_its_own() -> None:
    async with dispatcher() as d:
        await d.w.create(
            make_task("a"), make_task("b", order_index=1), execution_mode="parallel", failure_policy="continue"
        )
        await d.w.launch(await d.w.ticket("a"))
        await d.w.launch(await d.w.ticket("b"))
        ended = await d.w.ticket("a")
        await d.w.observe(AgentStatus.FINISHED)
        await d.take_all(d.reconciler())
        await d.take_all(d.reconciler())
        assert ended not in await d.w.holders()
        assert await d.w.holders() == [await d.w.ticket("b")]


async def test_commits_that_come_in_the_wrong_order_are_carried_out_all_the_same() -> None:
    async with dispatcher() as d:
        await d.w.create()
        await d.w.launch()
        stored = await MemoryEventLog.read(d.w.log, TEAM, ORCHESTRATION)
        reconciler = d.reconciler()
        async with asyncio.TaskGroup() as group:
            for commit in reversed(stored):
                group.create_task(reconciler.on_commit(delivery(encode(commit.commit), sequence=commit.sequence)))
        assert {message.stream for message in d.publisher.messages} == {WATCH}

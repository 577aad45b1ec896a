"""What ought to be under way is brought under way, and a second time does no harm."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from services.dispatcher.audit import SlotAudit
from services.dispatcher.reconcile import Reconciler
from services.dispatcher.timers import DueTimers
from shared.command_handler import Cause, CommandHandler
from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion
from shared.domain.commands import (
    CancelOrchestration,
    DeleteAgent,
    FollowUp,
    ObserveAgent,
    PauseOrchestration,
    ResumeOrchestration,
)
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, TaskStatus
from shared.domain.patience import Patience
from shared.domain.plan import ArchiveAgent, Cleanup
from shared.domain.state import Phase
from shared.envelope import encode
from shared.jetstream.consumer import Later, Poison
from shared.jetstream.topology import QUEUE, WATCH
from shared.memory import MemoryEventLog, MemoryTimers
from shared.messages import Ticket, Wake, Watched
from tests.support.eventually import eventually
from tests.unit.dispatcher.publisher import OnePerSubject
from tests.unit.dispatcher.scripted import NO_KEY, UNANSWERED, UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM, World, delivery, make_task, world


@dataclass
class Dispatcher:
    """A world with reconcilers; each `reconciler` is another process."""

    w: World
    publisher: OnePerSubject
    timers: MemoryTimers

    cleanup: Cleanup = "keep"

    def reconciler(self) -> Reconciler:
        handler = CommandHandler(self.w.log, self.w.clock, self.w.ids)
        return Reconciler(handler, self.publisher, self.timers, self.w.slots, self.w.provider, self.cleanup)

    async def take_all(self, reconciler: Reconciler) -> None:
        """Every commit of the log, from the first."""
        for stored in await MemoryEventLog.read(self.w.log, TEAM, ORCHESTRATION):
            await reconciler.on_commit(delivery(encode(stored.commit), sequence=stored.sequence))

    async def fire(self) -> None:
        """Let the timers fire that are due."""
        due = DueTimers(CommandHandler(self.w.log, self.w.clock, self.w.ids), self.w.clock, self.w.ids)
        for _, payload in self.timers.take_due(self.w.clock.now()):
            await due.on_due(delivery(payload))

    async def observe(self, name: str, status: AgentStatus) -> None:
        attempt = await self.w.attempt(name)
        await self.w.do(
            ObserveAgent(
                attempt_id=attempt.attempt_id,
                agent_id=attempt.agent_id or "",
                status=status,
                provider_status=status.value,
                source="poll",
            )
        )


@asynccontextmanager
async def dispatcher(version: ApiVersion = "v1", cleanup: Cleanup = "keep") -> AsyncIterator[Dispatcher]:
    async with world(version) as w:
        yield Dispatcher(w, OnePerSubject(), MemoryTimers(), cleanup)


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

        d.w.provider.on_stop = [slowly] * 9
        reconciler = d.reconciler()
        async with asyncio.TaskGroup() as group:
            for name in ("a", "b", "c"):
                group.create_task(reconciler.reconcile(await d.w.state()))
                await eventually(lambda: len(d.w.provider.stops) >= 1)
                if name == "a":
                    await d.observe("a", AgentStatus.STOPPED)
            answered.set()
        await reconciler.reconcile(await d.w.state())
        assert sorted(agent_id for agent_id, _ in d.w.provider.stops) == sorted(agents)


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
        await d.observe("b", AgentStatus.FINISHED)
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
        await d.observe("a", AgentStatus.STOPPED)
        await d.w.do(ResumeOrchestration())
        await d.w.launch()
        await d.reconciler().reconcile(to_stop)
        assert d.w.provider.stops == []


async def agent_to_delete(d: Dispatcher) -> str:
    """The agent of a finished task, whose delete was asked for."""
    await d.w.create()
    await d.w.launch()
    await d.observe("a", AgentStatus.FINISHED)
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


@pytest.mark.parametrize("error", [UNAVAILABLE, UNANSWERED])
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
    await d.observe("a", AgentStatus.FINISHED)
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


async def test_archives_that_take_long_leave_workers_for_what_is_urgent() -> None:
    async with dispatcher(cleanup="archive") as d:
        await finished(d)
        state, attempt = await d.w.state(), await d.w.attempt()
        reconciler = d.reconciler()
        action = ArchiveAgent(attempt.attempt_id, attempt.agent_id or "")
        reconciler._under_way.update((f"other-{number}", action) for number in range(8))  # as if eight were asked for
        with pytest.raises(ProviderError) as caught:
            await reconciler.reconcile(state)
        assert caught.value.retryable
        assert d.w.provider.archives == []
        reconciler._under_way.clear()
        await reconciler.reconcile(state)
        assert d.w.provider.archives == [attempt.agent_id]


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
        await d.observe("a", AgentStatus.FINISHED)
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


# Timers


async def test_a_retry_is_woken_when_it_is_due_and_not_before() -> None:
    async with dispatcher() as d:
        await d.w.create()
        await d.w.launch()
        await d.observe("a", AgentStatus.FAILED)
        await d.take_all(d.reconciler())
        due = (await d.w.task()).retry_at
        assert due is not None
        [(at, payload)] = d.timers.pending.values()
        assert at == due
        assert Wake.decode(payload) == Wake(TEAM, ORCHESTRATION, due.isoformat())
        d.w.clock.advance(due - d.w.clock.now())
        await d.fire()
        assert (await d.w.attempt()).number == 2
        assert (await d.w.attempt()).phase is Phase.QUEUED


async def test_an_earlier_moment_does_not_make_a_later_one_forgotten() -> None:
    """Task a is due late; then b fails and is due before it; after b's timer a's must still come."""
    async with dispatcher() as d:
        await d.w.create(
            make_task("a"), make_task("b", order_index=1), execution_mode="parallel", failure_policy="continue"
        )
        reconciler = d.reconciler()
        for _ in range(2):
            await d.w.launch(await d.w.ticket("a"))
            await d.observe("a", AgentStatus.FAILED)
            if (await d.w.task("a")).retry_count == 1:
                await d.take_all(reconciler)
                d.w.clock.advance(timedelta(minutes=2))
                await d.fire()
        await d.take_all(reconciler)
        late = (await d.w.task("a")).retry_at
        await d.w.launch(await d.w.ticket("b"))
        await d.observe("b", AgentStatus.FAILED)
        await d.take_all(reconciler)
        early = (await d.w.task("b")).retry_at
        assert early is not None
        assert late is not None
        assert early < late
        d.w.clock.advance(early - d.w.clock.now())
        await d.fire()
        await d.take_all(reconciler)
        assert (await d.w.attempt("b")).number == 2
        assert (await d.w.task("a")).retry_at == late
        d.w.clock.advance(late - d.w.clock.now())
        await d.fire()
        assert (await d.w.attempt("a")).number == 3


async def test_a_process_with_an_older_plan_takes_nothing_away_from_a_newer_one() -> None:
    async with dispatcher() as d:
        await d.w.create(
            make_task("a"), make_task("b", order_index=1), execution_mode="parallel", failure_policy="continue"
        )
        for name in ("a", "b"):
            await d.w.launch(await d.w.ticket(name))
        await d.observe("a", AgentStatus.FAILED)
        old = await d.w.state()
        d.w.clock.advance(timedelta(seconds=10))
        await d.observe("b", AgentStatus.FAILED)
        d.w.clock.advance(timedelta(minutes=5))
        await d.fire()
        await d.take_all(d.reconciler())
        await d.reconciler().reconcile(old)
        await d.fire()
        assert [(await d.w.attempt(name)).number for name in ("a", "b")] == [2, 2]


@pytest.mark.parametrize("seconds", [0.2, 3.0, 3600.0])
async def test_a_timer_of_a_broker_whose_clock_is_ahead_comes_again(seconds: float) -> None:
    async with dispatcher() as d:
        await d.w.create()
        due = START + timedelta(seconds=seconds)
        timers = DueTimers(d.w.handler, d.w.clock, d.w.ids)
        with pytest.raises(Later) as later:
            await timers.on_due(delivery(Wake(TEAM, ORCHESTRATION, due.isoformat()).encode()))
        assert 0 < later.value.delay_seconds <= min(seconds, 60.0)


async def test_a_timer_with_nothing_to_do_changes_nothing() -> None:
    async with dispatcher() as d:
        await d.w.create()
        before = await d.w.events()
        timers = DueTimers(d.w.handler, d.w.clock, d.w.ids)
        for _ in range(2):
            await timers.on_due(delivery(Wake(TEAM, ORCHESTRATION, START.isoformat()).encode()))
        assert await d.w.events() == before
        assert (await d.w.task()).status is TaskStatus.PENDING


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"team":"t"}',
        b'{"team":"t","orchestration_id":"o","due_at":"noon"}',
        b'{"team":"t","orchestration_id":"o","due_at":"2026-11-01T12:00:00"}',
        Wake(TEAM, "orc-unknown", START.isoformat()).encode(),
    ],
)
async def test_a_timer_of_an_unknown_orchestration_or_of_none_is_parked(body: bytes) -> None:
    async with dispatcher() as d:
        with pytest.raises(Poison):
            await DueTimers(d.w.handler, d.w.clock, d.w.ids).on_due(delivery(body))

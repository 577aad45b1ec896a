"""Slots: never more than there are, in the right order, and given back only by who holds them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextlib import nullcontext as does_not_raise
from datetime import datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from services.dispatcher import slots as slots_module
from services.dispatcher.audit import SlotAudit
from services.dispatcher.slots import SlotPool
from shared.command_handler import CommandHandler, HistoryError
from shared.domain.events import Level
from shared.domain.state import Orchestration
from shared.envelope import Stored
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError, UnreadableCommitError
from shared.jetstream.kv import KvView
from shared.memory import ManualClock, MemoryEventLog, MemoryKeyValue, SequentialIds
from shared.messages import Ticket
from shared.ports import LogUnavailableError
from tests.support.eventually import eventually
from tests.unit.dispatcher.world import START, TEAM, make_task, world


def ticket(name: str) -> Ticket:
    return Ticket(TEAM, "orc-1", name)


@asynccontextmanager
async def pool(bucket: MemoryKeyValue, size: int) -> AsyncIterator[SlotPool]:
    async with bucket.view() as view:
        yield SlotPool(bucket, view, size)


async def take(
    slots: SlotPool, name: str, *, priority: Level = "medium", at: datetime = START, within: float = 30
) -> bool:
    return await slots.acquire(ticket(name), priority, at, within=within)


@pytest.fixture
def by_news_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks again without news before a test has failed, however slow the machine is."""
    monkeypatch.setattr(slots_module, "_LOOK_AGAIN_SECONDS", 3600.0)


async def looked_in_vain() -> None:
    """Whoever wants a slot has looked for one, and waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_slots_are_taken_than_there_are_and_the_same_attempt_takes_one() -> None:
    async with pool(MemoryKeyValue(), 2) as slots:
        assert await take(slots, "a")
        assert await take(slots, "a")
        assert await take(slots, "b")
        assert not await take(slots, "c", within=0.01)
        assert await take(slots, "a", within=0.01), "who holds one keeps it when there are none left"
        assert sorted(held.attempt_id for held in slots.holders()) == ["a", "b"]
        assert slots.in_use == 2


class Slow(MemoryKeyValue):
    """Gives others a chance at every step, and tells its views late."""

    async def create(self, key: str, value: bytes) -> bool:
        await asyncio.sleep(0)
        taken = await super().create(key, value)
        await asyncio.sleep(0)
        return taken

    def _tell(self) -> None:
        asyncio.get_running_loop().call_later(random.random() / 500, super()._tell)


async def test_several_processes_that_race_never_take_more_than_there_are() -> None:
    bucket, size, running, most = Slow(), 3, 0, 0
    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(pool(bucket, size)) for _ in range(3)]

        async def work(number: int) -> None:
            nonlocal running, most
            slots = pools[number % 3]
            while not await take(slots, f"attempt-{number}", within=1):
                pass
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.003)  # by then the views show it, however long this machine stands still
            running -= 1
            await slots.release(ticket(f"attempt-{number}"))

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(work(number))
        assert most == size
        await eventually(lambda: all(slots.in_use == 0 for slots in pools))


async def served(*waiting: tuple[str, Level, datetime]) -> list[str]:
    """The order in which waiters that came in this order get the one slot."""
    order: list[str] = []
    async with pool(MemoryKeyValue(), 1) as slots:
        assert await take(slots, "first")

        async def wait(name: str, priority: Level, at: datetime) -> None:
            assert await take(slots, name, priority=priority, at=at)
            order.append(name)
            await slots.release(ticket(name))

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for name, priority, at in waiting:
                group.create_task(wait(name, priority, at))
            await asyncio.sleep(0)
            await slots.release(ticket("first"))
    return order


async def test_high_is_served_before_medium_before_low_and_the_older_first_within_one() -> None:
    later = START + timedelta(seconds=30)
    assert await served(
        ("low", "low", START),
        ("medium, younger", "medium", later),
        ("medium", "medium", START),
        ("high, younger", "high", later),
        ("high", "high", START),
    ) == ["high", "high, younger", "medium", "medium, younger", "low"]


async def test_one_that_has_waited_long_overtakes_the_higher_ones_that_came_later() -> None:
    assert await served(
        ("high", "high", START + timedelta(minutes=21)),
        ("medium", "medium", START + timedelta(minutes=5)),
        ("low", "low", START),
    ) == ["medium", "low", "high"]


@pytest.mark.usefixtures("by_news_alone")
async def test_a_freed_slot_is_taken_at_once_also_when_another_process_frees_it() -> None:
    bucket = MemoryKeyValue()
    async with pool(bucket, 1) as mine, pool(bucket, 1) as theirs, asyncio.timeout(20):
        for number in range(20):
            assert await take(theirs, f"theirs-{number}")
            waiting = asyncio.create_task(take(mine, f"mine-{number}", within=60))
            await looked_in_vain()
            await theirs.release(ticket(f"theirs-{number}"))
            assert await waiting
            await mine.release(ticket(f"mine-{number}"))


@pytest.mark.usefixtures("by_news_alone")
async def test_a_slot_that_was_taken_and_freed_by_another_process_is_not_held_to_be_taken_for_long() -> None:
    """What one's own try has found taken is believed only until the view has caught up."""
    bucket = MemoryKeyValue()
    async with pool(bucket, 1) as mine, pool(bucket, 1) as theirs, asyncio.timeout(20):
        assert await take(mine, "a")
        await theirs.release(ticket("a"))
        assert await take(mine, "b", within=60)


@pytest.mark.usefixtures("by_news_alone")
async def test_the_next_in_line_is_told_when_the_one_before_gives_up() -> None:
    bucket = MemoryKeyValue()
    async with pool(bucket, 1) as slots, asyncio.timeout(20):
        await take(slots, "first")
        impatient = asyncio.create_task(take(slots, "impatient", at=START, within=60))
        patient = asyncio.create_task(take(slots, "patient", at=START + timedelta(seconds=1), within=60))
        await looked_in_vain()
        impatient.cancel()
        await slots.release(ticket("first"))
        assert await patient
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert [held.attempt_id for held in slots.holders()] == ["patient"]


class Stale(KvView):
    """Shows what it was given, whatever happens in the bucket."""


async def test_a_stale_view_does_not_free_a_slot_that_another_attempt_took_since() -> None:
    bucket, stale = MemoryKeyValue(), Stale()
    async with pool(bucket, 1) as slots:
        await take(slots, "a")
        async with bucket.view() as view:
            stale.replace(dict(view.entries))
        await slots.release(ticket("a"))
        await take(slots, "b")
        await SlotPool(bucket, stale, 1).release(ticket("a"))
        assert [held.attempt_id for held in slots.holders()] == ["b"]


async def test_a_slot_is_given_back_although_the_view_does_not_show_it_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the provider refuses the agent before the news of the slot has come round."""
    monkeypatch.setattr(slots_module, "_VIEW_LAG_SECONDS", 3600.0)
    bucket, blind = MemoryKeyValue(), Stale()
    slots = SlotPool(bucket, blind, 1)
    assert await take(slots, "a")
    await slots.release(ticket("a"))
    assert await bucket.get("slot-1") is None


async def test_two_slots_of_one_attempt_are_both_given_back() -> None:
    """Two processes that have its ticket at once may have taken one each."""
    bucket = MemoryKeyValue()
    for slot in ("slot-1", "slot-2"):
        await bucket.create(slot, ticket("a").encode())
    async with pool(bucket, 2) as slots:
        await slots.release(ticket("a"))
        assert slots.in_use == 0


async def test_the_metric_says_how_many_slots_are_taken_now() -> None:
    async with pool(MemoryKeyValue(), 3) as slots:
        await take(slots, "a")
        await take(slots, "b")
        assert REGISTRY.get_sample_value("agent_slots_in_use") == 2
        await slots.release(ticket("a"))
        await slots.release(ticket("b"))
        assert REGISTRY.get_sample_value("agent_slots_in_use") == 0


# Audit


async def nothing(_state: Orchestration, _attempt_id: str) -> None:
    return


async def test_the_audit_gives_back_slots_of_ended_and_unknown_attempts_only() -> None:
    async with world() as w:
        await w.create(make_task("a", order_index=0), make_task("b", order_index=1), execution_mode="parallel")
        waiting, running = await w.ticket("a"), await w.ticket("b")
        await w.launch(running)
        assert await take(w.slots, waiting.attempt_id)
        await w.bucket.create("slot-3", Ticket(TEAM, "orc-1", "never-was").encode())
        await SlotAudit(w.handler, w.slots, nothing).look_through()
        assert sorted(held.attempt_id for held in await w.holders()) == sorted([waiting.attempt_id, running.attempt_id])


async def test_a_cancelled_acquire_leaks_nothing_that_the_audit_does_not_find() -> None:
    for point in range(1, 4):
        async with world() as w:
            left = point

            async def die() -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise asyncio.CancelledError

            async def live_on() -> None:
                return

            w.pass_by(die)
            with pytest.raises(asyncio.CancelledError) if point < 3 else does_not_raise():
                await w.slots.acquire(Ticket(TEAM, "orc-unknown", "a"), "high", START, within=1)
            w.pass_by(live_on)
            w.restart()
            await SlotAudit(w.handler, w.slots, nothing).look_through()
            assert await w.holders() == []


async def test_the_audit_goes_on_when_log_or_bucket_do_not_answer() -> None:
    class Away(MemoryEventLog):
        tries = 0

        async def read(self, team: str, aggregate: str, *, after: int = 0):  # type: ignore[no-untyped-def]
            self.tries += 1
            if self.tries == 1:
                raise LogUnavailableError("away")
            return await super().read(team, aggregate, after=after)

    class Unsteady(MemoryKeyValue):
        tries = 0

        async def delete(self, key: str, *, revision: int | None = None) -> bool:
            self.tries += 1
            if self.tries == 1:
                raise PublishUnavailableError("away")
            if self.tries == 2:
                raise PublishRefusedError("no room")
            return await super().delete(key, revision=revision)

    bucket = Unsteady()
    await bucket.create("slot-1", ticket("gone").encode())
    handler = CommandHandler(Away(), ManualClock(START), SequentialIds())
    async with pool(bucket, 1) as slots:
        running = asyncio.create_task(SlotAudit(handler, slots, nothing).run(0.01))
        await eventually(lambda: slots.in_use == 0 or running.done())
        assert not running.done()
        running.cancel()


async def test_what_is_no_ticket_in_the_bucket_does_not_stop_the_audit() -> None:
    bucket = MemoryKeyValue()
    await bucket.create("slot-1", b"what is this")
    await bucket.create("slot-2", ticket("gone").encode())
    handler = CommandHandler(MemoryEventLog(), ManualClock(START), SequentialIds())
    async with pool(bucket, 2) as slots:
        await SlotAudit(handler, slots, nothing).look_through()
        assert slots.in_use == 1


@pytest.mark.parametrize("error", [UnreadableCommitError(7, "evt", "unknown"), HistoryError("a gap")])
async def test_an_orchestration_that_cannot_be_read_keeps_its_slot_and_the_audit_goes_on(error: Exception) -> None:
    """As while a newer release writes what this one does not know."""

    class OfANewerRelease(MemoryEventLog):
        async def read(self, team: str, aggregate: str, *, after: int = 0) -> list[Stored]:
            if aggregate == "newer":
                raise error
            return await super().read(team, aggregate, after=after)

    bucket = MemoryKeyValue()
    await bucket.create("slot-1", Ticket(TEAM, "newer", "at-work").encode())
    await bucket.create("slot-2", ticket("gone").encode())
    handler = CommandHandler(OfANewerRelease(), ManualClock(START), SequentialIds())
    async with pool(bucket, 2) as slots:
        await SlotAudit(handler, slots, nothing).look_through()
        assert [held.attempt_id for held in slots.holders()] == ["at-work"]

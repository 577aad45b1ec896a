"""Slots on the bucket of a real broker, shared by several processes."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from nats.aio.client import Client

from deploy.local.nats import NatsServer
from services.dispatcher.slots import SlotPool
from shared.ending import end
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import close, connect
from shared.jetstream.kv import JetStreamKeyValue
from shared.jetstream.topology import SLOTS, TopologySettings
from shared.messages import Ticket
from shared.system import SystemClock
from tests.support.eventually import eventually


def ticket(name: str) -> Ticket:
    return Ticket("team-1", "orc-1", name)


async def pools(stack: AsyncExitStack, nats: NatsServer, number: int, size: int) -> tuple[Client, list[SlotPool]]:
    """Pools with a connection each, and one connection more."""
    admin = await connect(nats.url, "admin", within=10)
    stack.push_async_callback(close, admin)
    await bootstrap(admin, TopologySettings())
    made = []
    for _ in range(number):
        nc = await connect(nats.url, "test", within=10)
        stack.push_async_callback(close, nc)
        bucket = JetStreamKeyValue(nc, SLOTS)
        made.append(SlotPool(bucket, await stack.enter_async_context(bucket.view()), size))
    return admin, made


async def test_processes_that_race_never_take_more_slots_than_there_are(nats: NatsServer) -> None:
    size, running, most, clock, full = 3, 0, 0, SystemClock(), asyncio.Event()
    over: set[Ticket] = set()
    async with AsyncExitStack() as stack:
        _, several = await pools(stack, nats, 3, size)

        async def work(number: int) -> None:
            nonlocal running, most
            name, slots = ticket(f"attempt-{number}"), several[number % 3]
            while not await slots.acquire(name, random.choice(("high", "low")), clock.now(), within=60):
                pass
            running += 1
            most = max(most, running)
            if running == size:
                full.set()
            await full.wait()  # the first wait for one another, or a slow broker would never have so many at work
            await asyncio.sleep(random.random() / 100)
            running -= 1
            over.add(name)
            # As when the attempt's end is seen elsewhere, before or after the news of the slot is there.
            await several[(number + number // 3) % 3].release(name)
            await slots.release(name)

        async with audited(several, over):
            async with asyncio.timeout(120), asyncio.TaskGroup() as group:
                for number in range(90):
                    group.create_task(work(number))
            assert most == size
            await eventually(lambda: all(slots.in_use == 0 for slots in several))


@asynccontextmanager
async def audited(pools: list[SlotPool], over: set[Ticket]) -> AsyncIterator[None]:
    """As in production what was not given back, for its news came late, is given back by and by."""

    async def look_through() -> None:
        while True:
            await asyncio.sleep(0.5)
            for slots in pools:
                for holder in slots.holders():
                    if holder in over:
                        await slots.release(holder)

    auditing = asyncio.create_task(look_through())
    try:
        yield
    finally:
        await end(auditing)


async def test_a_freed_slot_is_taken_at_once_by_another_process(nats: NatsServer) -> None:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        _, [mine, theirs] = await pools(stack, nats, 2, 1)
        for number in range(5):
            their, my = ticket(f"theirs-{number}"), ticket(f"mine-{number}")
            assert await theirs.acquire(their, "low", clock.now(), within=60)
            waiting = asyncio.create_task(mine.acquire(my, "low", clock.now(), within=60), name=f"mine-{number}")
            await eventually(partial(show, mine, theirs, holder=their))
            await theirs.release(their)
            async with asyncio.timeout(30):
                assert await waiting
            await eventually(partial(show, mine, holder=my))
            await mine.release(my)
            await eventually(lambda: mine.in_use == theirs.in_use == 0)


def show(*pools: SlotPool, holder: Ticket) -> bool:
    """Whether all of them know who holds the only slot."""
    return all(slots.holders() == [holder] for slots in pools)

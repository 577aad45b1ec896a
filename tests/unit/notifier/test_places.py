"""A slow host holds its own places and nobody else's."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.notifier.places import HostBusyError, Places
from tests.support.eventually import eventually


async def test_no_more_than_the_limit_are_at_one_host_and_others_go_on() -> None:
    places = Places(per_host=2, total=10, waiting=3)
    inside = 0
    leave = asyncio.Event()

    async def visit(host: str) -> None:
        nonlocal inside
        async with places.take(host):
            inside += 1
            await leave.wait()

    slow = [asyncio.create_task(visit("slow")) for _ in range(5)]
    await eventually(lambda: inside == 2)
    with pytest.raises(HostBusyError):
        async with places.take("slow"):
            pass
    async with places.take("quick"):
        pass
    assert inside == 2
    leave.set()
    await asyncio.gather(*slow)
    assert inside == 5
    assert not places._hosts


async def test_no_more_than_the_total_are_under_way() -> None:
    places = Places(per_host=2, total=3, waiting=3)
    async with AsyncExitStack() as stack:
        for host in "abc":
            await stack.enter_async_context(places.take(host))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), places.take("d"):
                pass
    async with places.take("d"):
        pass
    assert not places._hosts

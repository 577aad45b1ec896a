"""Tasks that are ended have ended."""

import asyncio

import pytest

from shared import ending
from shared.ending import end


async def test_what_runs_ends_and_its_errors_are_nobodys() -> None:
    async def fail() -> None:
        raise ValueError("on its own account")

    running, failing = asyncio.create_task(asyncio.Event().wait()), asyncio.create_task(fail())
    await end(running, failing)
    assert running.cancelled()
    assert failing.done()
    await end(running)
    await end()


async def test_a_cancel_that_is_lost_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_AGAIN_SECONDS", 0.01)
    lost = 0

    async def go_on() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(go_on())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end(task)
    assert (task.cancelled(), lost) == (True, 3)


async def test_who_cleans_up_is_waited_for() -> None:
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end(task)
    assert cleaned

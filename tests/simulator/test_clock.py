"""The simulator's time on the timers of an event loop."""

import asyncio
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from deploy.local.simulator.clock import LoopClock


async def test_nothing_happens_before_its_time_although_the_loop_is_early(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda seconds, *call: call_later(seconds / 2, *call))
    clock, rung = LoopClock(speed=10), asyncio.Event()
    began = clock.elapsed()
    clock.call_later(0.5, rung.set)
    await rung.wait()
    assert clock.elapsed() - began >= 0.5


async def test_what_has_been_set_once_more_can_be_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    handles: list[Mock] = []

    def keep(_: float, ring: Callable[[], object]) -> Mock:
        handles.append(Mock(ring=ring))
        return handles[-1]

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", keep)
    timer = LoopClock().call_later(600, pytest.fail)
    handles[0].ring()
    timer.cancel()
    assert [handle.cancel.called for handle in handles] == [False, True]

"""The end of a task without which a service is of no use ends the service."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import cast

import pytest
from nats.aio.client import Client

from shared.observability.health import Readiness
from shared.process import Runtime


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(nc=cast(Client, None), readiness=Readiness(), stop=asyncio.Event())


async def _returns() -> None:
    return


async def _fails() -> None:
    raise ValueError("broken")


async def _is_given_up() -> None:
    """As what waits for an answer is when the broker's client gives its connection up."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answer.cancel()
    await answer


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (_returns, "RuntimeError('the part ended')"),
        (_fails, "ValueError('broken')"),
        (_is_given_up, "RuntimeError('the part ended')"),
    ],
)
async def test_a_task_that_ends_by_itself_ends_the_service(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, part: Callable[[], Coroutine[None, None, None]], reason: str
) -> None:
    task = asyncio.create_task(part(), name="the part")
    with runtime.supervising(task):
        await asyncio.wait({task})
    assert runtime.failed
    assert caplog.messages == [f"Stopping, for it cannot go on: {reason}"]


async def test_a_task_that_is_ended_when_the_service_stops_is_no_failure(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.create_task(_until(asyncio.Event()))
    with runtime.supervising(ended):
        runtime.stop.set()
        ended.cancel()
        await asyncio.wait({ended})
    assert (runtime.failed, caplog.messages) == (False, [])


async def test_a_task_that_is_ended_because_a_later_part_does_not_start_is_no_failure(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    asked_to_end = asyncio.Event()
    task = asyncio.create_task(_until(asked_to_end))
    with pytest.raises(OSError, match="no place"), runtime.supervising(task):
        raise OSError("no place")
    asked_to_end.set()
    await task
    assert (runtime.failed, runtime.stop.is_set(), caplog.messages) == (False, False, [])


async def _until(asked_to_end: asyncio.Event) -> None:
    await asked_to_end.wait()

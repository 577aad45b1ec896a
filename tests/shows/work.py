"""Work for a show: orchestrations of tasks that run side by side, and what became of them."""

import asyncio
from collections.abc import Iterator
from typing import Any

from tests.support.stack import RunningSystem, task

_TASKS = 50  # of one orchestration, at most


async def run_tasks(system: RunningSystem, markers: list[str], *, timeout: float) -> list[dict[str, Any]]:
    """A task for each of `markers`, in as few orchestrations as take them; gives the tasks, once all have ended."""
    ids = [await _activated(system, first, markers[first : first + _TASKS]) for first in _steps(len(markers))]
    ended = await asyncio.gather(*(system.until_ended(one, timeout=timeout) for one in ids))
    return [one for orchestration in ended for one in orchestration["tasks"]]


def _steps(number: int) -> Iterator[int]:
    yield from range(0, number, _TASKS)


async def _activated(system: RunningSystem, first: int, markers: list[str]) -> str:
    tasks = [task(f"Task {first + place}", marker) for place, marker in enumerate(markers)]
    return await system.create(
        tasks, activate=True, executionMode="parallel", maxParallel=len(tasks), failurePolicy="continue"
    )

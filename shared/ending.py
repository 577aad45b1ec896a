"""Ending tasks for certain."""

import asyncio
from typing import Any, Final

_AGAIN_SECONDS: Final = 5.0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until each has ended; how they ended is told to nobody.

    A cancel may be lost: before Python 3.12 `asyncio.wait_for` drops one that comes at the moment of its result, and
    who goes round in a loop then goes on for ever. So it is repeated until it is heard, slowly enough to clean up.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)

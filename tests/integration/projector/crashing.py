"""A projector that kills itself: `python -m tests.integration.projector.crashing`, addresses in the environment.

It dies by SIGKILL in the exchange with the database that CRASH_AT counts, from the first transaction that writes.
"""

import asyncio
import os
import signal
from typing import Any

import psycopg

from services.api import read_side
from services.api.projector import running
from tests.integration.projector.logs import connected_log, make_projector

_wait = psycopg.AsyncConnection.wait
_move = read_side.ReadSide._move


async def _main() -> None:
    left = int(os.environ["CRASH_AT"])
    writing = False

    async def wait(self: psycopg.AsyncConnection[Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if writing:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return await _wait(self, *args, **kwargs)

    async def move(self: read_side.ReadSide, *args: Any) -> None:
        nonlocal writing
        writing = True
        await _move(self, *args)

    psycopg.AsyncConnection.wait = wait  # type: ignore[method-assign]
    read_side.ReadSide._move = move  # type: ignore[method-assign, assignment]
    async with (
        connected_log(os.environ["NATS_URL"]) as nc,
        running(make_projector(os.environ["DATABASE_URL"], nc)) as task,
    ):
        await task


if __name__ == "__main__":
    asyncio.run(_main())

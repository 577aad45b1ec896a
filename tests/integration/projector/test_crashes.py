"""Killed anywhere, the projector leaves rows as if nothing had happened once it runs again."""

import asyncio
import os
import signal
import sys
from typing import Any

import psycopg
import pytest
from nats.aio.client import Client

from deploy.local.nats import NatsServer
from services.api.projector import running
from tests.integration.projector.logs import append, checkpoint, dump, forget, make_projector, project
from tests.unit.projections.histories import every_event

_wait = psycopg.AsyncConnection.wait

pytestmark = pytest.mark.timeout(600)  # many processes and many projectors, one after the other


async def test_killed_at_each_exchange_with_the_database_it_goes_on_where_it_was(
    dsn: str, nc: Client, nats: NatsServer
) -> None:
    log = every_event()
    await append(nc, log)
    await project(dsn, nc)
    reference = dump(dsn)
    forget(dsn)
    # The transaction of a batch takes 7 exchanges or so; the last number lies behind its commit.
    for crash_at in range(10):
        assert await crash(dsn, nats.url, crash_at) == -signal.SIGKILL
        if checkpoint(dsn) == len(log):
            forget(dsn)  # the crash came after the commit: begin again
    await project(dsn, nc)
    assert dump(dsn) == reference


async def crash(dsn: str, nats_url: str, crash_at: int) -> int | None:
    environment = {**os.environ, "DATABASE_URL": dsn, "NATS_URL": nats_url, "CRASH_AT": str(crash_at)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.projector.crashing", env=environment
    )
    try:
        return await asyncio.wait_for(process.wait(), 60)
    finally:
        if process.returncode is None:
            process.kill()


async def test_cancelled_at_each_exchange_with_the_database_it_goes_on_where_it_was(
    dsn: str, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = every_event()
    await append(nc, log)
    await project(dsn, nc)
    reference = dump(dsn)
    forget(dsn)
    for cancel_at in range(40):
        await cancelled_run(dsn, nc, cancel_at, monkeypatch)
        rows = dump(dsn)
        done = rows["projection_checkpoints"][0]["seq"] if rows["projection_checkpoints"] else 0
        assert len(rows["event_archive"]) == done
        if done == len(log):
            assert rows == reference
            forget(dsn)
    await project(dsn, nc)
    assert dump(dsn) == reference


async def cancelled_run(dsn: str, nc: Client, cancel_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the projector until its exchange number `cancel_at`, or until it is idle."""
    left = cancel_at
    idle = asyncio.Event()

    async def wait(self: psycopg.AsyncConnection[Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == -1:
            projecting.cancel()
        return await _wait(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.AsyncConnection, "wait", wait)
        async with running(make_projector(dsn, nc, on_advance=lambda at: idle.set() if at else None)) as projecting:
            await asyncio.wait({projecting, asyncio.ensure_future(idle.wait())}, return_when="FIRST_COMPLETED")
            idle.set()

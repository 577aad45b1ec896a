"""Waiting until the read side shows a write."""

import asyncio

import psycopg
import pytest
from nats.aio.client import Client

from deploy.local.postgres import PostgresServer
from services.api.checkpoint import CheckpointWatcher, watching
from services.api.projector import running
from tests.integration.projector.logs import append, make_projector
from tests.support.eventually import eventually
from tests.unit.projections.histories import every_event


async def test_a_waiter_wakes_when_the_projector_has_shown_its_commit(dsn: str, nc: Client) -> None:
    watcher = CheckpointWatcher(dsn)
    async with watching(watcher), running(make_projector(dsn, nc)):
        for commit in every_event():
            sequence = await append(nc, [commit])
            assert await watcher.wait_for(sequence, 30)
            assert watcher.current >= sequence


async def test_waiters_wake_in_the_order_of_what_they_wait_for(dsn: str) -> None:
    watcher = CheckpointWatcher(dsn)
    woken: list[int] = []

    async def wait(sequence: int) -> None:
        assert await watcher.wait_for(sequence, 30)
        woken.append(sequence)

    waiting = [asyncio.create_task(wait(sequence)) for sequence in (30, 10, 20, 99, 10)]
    await asyncio.sleep(0)
    watcher.advance(30)
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await eventually(lambda: len(woken) == 4)
    assert woken == [10, 10, 20, 30]
    watcher.advance(29)
    assert watcher.current == 30
    watcher.advance(100)
    await asyncio.gather(*waiting)


async def test_who_waits_too_long_is_told_so_and_leaves_nothing_behind(dsn: str) -> None:
    watcher = CheckpointWatcher(dsn)
    assert not any(await asyncio.gather(*(watcher.wait_for(7, 0.01) for _ in range(1000))))
    assert len(watcher._waiters) <= 1
    patient = asyncio.create_task(watcher.wait_for(8, 30))
    assert not await watcher.wait_for(7, 0.01)
    watcher.advance(8)
    assert await patient


async def test_what_is_shown_already_is_not_waited_for(dsn: str) -> None:
    watcher = CheckpointWatcher(dsn)
    watcher.advance(5)
    assert await watcher.wait_for(5, 0)


async def test_the_row_is_looked_at_even_if_no_notification_comes(dsn: str) -> None:
    watcher = CheckpointWatcher(dsn)
    async with watching(watcher):
        await eventually(lambda: listeners(dsn) == 1)
        set_checkpoint(dsn, 12)
        assert await watcher.wait_for(12, 30)


async def test_a_lost_connection_is_made_again(dsn: str) -> None:
    watcher = CheckpointWatcher(dsn)
    async with watching(watcher):
        await eventually(lambda: listeners(dsn) == 1)
        with psycopg.connect(dsn) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'checkpoint'"
            )
        set_checkpoint(dsn, 3)
        assert await watcher.wait_for(3, 30)


async def test_a_database_that_was_set_back_is_believed(dsn: str) -> None:
    watcher = CheckpointWatcher(dsn)
    set_checkpoint(dsn, 9)
    async with watching(watcher):
        assert await watcher.wait_for(9, 30)
        set_checkpoint(dsn, 4)
        await eventually(lambda: watcher.current == 4)
        assert not await watcher.wait_for(9, 0.01)


async def test_it_waits_for_a_database_that_is_not_there_yet(postgres: PostgresServer) -> None:
    watcher = CheckpointWatcher(postgres.dsn("no_such_database"))
    async with watching(watcher) as task:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.3)


def listeners(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'checkpoint'"
            " AND datname = current_database() AND state = 'idle'"
        ).fetchone()
    return int(row[0]) if row else 0


def set_checkpoint(dsn: str, sequence: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO projection_checkpoints VALUES ('read-side', 'EVENTS', %s, 'c', now())"
            " ON CONFLICT (name) DO UPDATE SET seq = excluded.seq",
            (sequence,),
        )

"""From the log to the rows, on a real broker and a real database."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import psycopg
import pytest
from nats.aio.client import Client

from deploy.local.nats import NatsServer
from deploy.local.postgres import PostgresServer
from services.api import term
from services.api.archive import GENESIS, link
from services.api.projections import Row, agent_rows, fold, orchestration_row, task_rows
from services.api.projector import Projector, running
from services.api.state_cache import StateCache
from shared.envelope import encode
from shared.jetstream.topology import EVENTS
from shared.observability.health import Check
from shared.postgres.migrate import migrate
from tests.integration.projector.logs import (
    append,
    append_raw,
    checkpoint,
    dump,
    forget,
    make_projector,
    project,
    shown,
)
from tests.support.eventually import eventually
from tests.support.servers import temporary_folder
from tests.unit.projections.histories import (
    commits,
    created,
    every_event,
    failed_fast,
    in_turn,
    partly_completed,
    stored,
    task,
)


def by_id(rows: list[Row]) -> dict[tuple[str, str], Row]:
    return {(row["team_id"], row.get("attempt_id") or row["id"]): row for row in rows}


async def test_every_type_of_event_reaches_its_rows(dsn: str, nc: Client) -> None:
    await append(nc, every_event())
    await project(dsn, nc)
    changes = fold({}, stored(every_event())).values()
    kept = [change for change in changes if not change.state.deleted]
    rows = dump(dsn)
    orchestrations = by_id([orchestration_row(change) for change in kept])
    for row in orchestrations.values():
        row["tags"] = list(row["tags"])
    assert by_id(rows["orchestrations"]) == orchestrations
    assert by_id(rows["tasks"]) == by_id([row for change in kept for row in task_rows(change)])
    assert by_id(rows["agents"]) == by_id([row for change in changes for row in agent_rows(change)])


async def test_a_log_that_is_projected_for_the_second_time_changes_no_row(dsn: str, nc: Client) -> None:
    await append(nc, every_event())
    await project(dsn, nc)
    before, touched = dump(dsn), transactions(dsn)
    forget(dsn, "event_archive", "projection_checkpoints")
    await project(dsn, nc)
    assert dump(dsn) == before
    assert transactions(dsn) == touched


def transactions(dsn: str) -> list[tuple[str, str]]:
    """Which transaction wrote each row last."""
    tables = ("orchestrations", "tasks", "agents")
    with psycopg.connect(dsn) as connection:
        return [row for table in tables for row in connection.execute(f"SELECT xmin::text, ctid::text FROM {table}")]


async def test_rows_made_anew_equal_those_that_grew_commit_by_commit(dsn: str, nc: Client) -> None:
    async with running(make_projector(dsn, nc)):
        for commit in every_event():
            await shown(dsn, await append(nc, [commit]))
    grown = dump(dsn)
    forget(dsn)
    await project(dsn, nc)
    assert dump(dsn) == grown


async def test_the_archive_holds_the_very_bytes_of_the_log_chained_by_hash(dsn: str, nc: Client) -> None:
    for commit in every_event():
        body = orjson.loads(encode(commit))
        body["of_a_newer_release"] = {"b": 1, "a": [2]}
        await append_raw(nc, commit, orjson.dumps(body, option=orjson.OPT_INDENT_2))
    await project(dsn, nc)
    previous = GENESIS
    for row in dump(dsn)["event_archive"]:
        message = await nc.jsm().get_msg(EVENTS, row["seq"])
        assert (row["subject"], row["body"], row["headers"]) == (message.subject, message.data, message.headers)
        assert row["prev_sha256"] == previous
        assert row["sha256"] == link(previous, row["seq"], row["subject"], row["body"])
        previous = row["sha256"]


async def test_states_that_were_forgotten_come_back_from_the_archive(
    dsn: str, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = every_event()
    await append(nc, log)
    await project(dsn, nc)
    reference = dump(dsn)
    forget(dsn)
    monkeypatch.setattr(term, "StateCache", lambda: StateCache(max_tasks=1))
    monkeypatch.setattr(term, "parts", lambda batch: [[entry] for entry in batch])
    await project(dsn, nc)
    assert dump(dsn) == reference


async def test_a_nul_in_a_text_does_not_stop_the_projection(dsn: str, nc: Client) -> None:
    first = created("orc-1", [task("t\0ask", description="a\0b")], name="na\0me")
    await append(nc, commits("orc-1", [(first,)]))
    await project(dsn, nc)
    rows = dump(dsn)
    assert rows["orchestrations"][0]["name"] == "name"
    assert rows["tasks"][0]["view"]["description"] == "ab"


async def test_of_two_projectors_one_leads_and_the_other_takes_over(dsn: str, nc: Client) -> None:
    log = every_event()
    first, second = make_projector(dsn, nc), make_projector(dsn, nc)
    async with running(first), running(second):
        await shown(dsn, await append(nc, log[:10]))
        await eventually(lambda: first.ready and second.ready)
        leader, other = (first, second) if first.leading else (second, first)
        assert not other.leading
        assert other.lag is None
        end_session_of_leader(dsn)
        await eventually(lambda: other.leading or leader.leading)
        await shown(dsn, await append(nc, log[10:]))
        await eventually(lambda: first.ready and second.ready)
    assert_as_projected_at_once(dsn)


def end_session_of_leader(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


def assert_as_projected_at_once(dsn: str) -> None:
    """The rows are those of `every_event`, whatever happened on the way."""
    rows = dump(dsn)
    log = stored(every_event())
    changes = fold({}, log).values()
    kept = [change for change in changes if not change.state.deleted]
    assert [row["seq"] for row in rows["event_archive"]] == [entry.sequence for entry in log]
    assert by_id(rows["tasks"]) == by_id([row for change in kept for row in task_rows(change)])
    assert by_id(rows["agents"]) == by_id([row for change in changes for row in agent_rows(change)])
    assert {row["id"]: row["version"] for row in rows["orchestrations"]} == {
        change.state.id: change.state.version for change in kept
    }


async def test_two_that_both_believe_to_lead_have_one_effect(
    dsn: str, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pause of a process that lost its session meanwhile: the checkpoint's old value decides."""

    async def elected(*_: object) -> bool:
        return True

    monkeypatch.setattr(Projector, "_elected", elected)
    advances: list[int] = []
    first = make_projector(dsn, nc, on_advance=advances.append)
    second = make_projector(dsn, nc, on_advance=advances.append)
    async with running(first), running(second):
        for commit in every_event():
            await append(nc, [commit])
        await shown(dsn, len(every_event()))
    assert_as_projected_at_once(dsn)


async def test_a_gap_in_an_aggregate_stops_right_before_it_and_says_so(dsn: str, nc: Client) -> None:
    broken, whole = failed_fast("orc-1"), partly_completed("orc-2")
    await append(nc, [broken[0], whole[0], whole[1], broken[2], whole[2]])
    projector = make_projector(dsn, nc)
    async with running(projector):
        await shown(dsn, 3)
        await eventually(lambda: "orc-1-c3" in (projector.problem or ""))
        assert not projector.ready
    assert checkpoint(dsn) == 3


async def test_an_event_that_only_a_newer_release_knows_stops_right_before_it(dsn: str, nc: Client) -> None:
    log = failed_fast("orc-1")
    await append(nc, log[:2])
    await append_raw(nc, log[2], encode(log[2]).replace(b'"attempt.started"', b'"attempt.teleported"'))
    projector = make_projector(dsn, nc)
    async with running(projector):
        await eventually(lambda: "attempt.teleported" in (projector.problem or ""))
        assert not projector.ready
        # What is wrong with a commit may quote it, and readiness is open to everybody.
        assert await projector.check() == Check(False, "UnreadableCommitError")
    assert checkpoint(dsn) == 2


async def test_a_log_that_was_made_anew_stops_the_projector_and_says_so(dsn: str, nc: Client) -> None:
    await append(nc, every_event())
    projector = make_projector(dsn, nc)
    async with running(projector):
        await shown(dsn, len(every_event()))
        before = dump(dsn)
        await make_anew(nc)
        await append(nc, in_turn(*(failed_fast(f"other-{number}") for number in range(20))))
        await eventually(lambda: "was made at" in (projector.problem or ""))
        assert not projector.ready
    assert dump(dsn) == before


async def make_anew(nc: Client) -> None:
    config = (await nc.jetstream().stream_info(EVENTS)).config
    await nc.jetstream().delete_stream(EVENTS)
    await nc.jetstream().add_stream(config)


@contextmanager
def durable_postgres(folder: Path) -> Iterator[PostgresServer]:
    """One that loses nothing that it committed, as in production."""
    server = PostgresServer(folder / "postgres")
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def test_it_goes_on_after_the_database_was_killed(nc: Client) -> None:
    with temporary_folder() as folder, durable_postgres(folder) as server:
        address = server.dsn()
        migrate(address)
        projector = make_projector(address, nc)
        async with running(projector):
            await shown(address, await append(nc, every_event()[:10]))
            await asyncio.to_thread(server.kill)
            sequence = await append(nc, every_event()[10:])
            await eventually(lambda: not projector.ready)
            await asyncio.to_thread(server.start)
            await shown(address, sequence)
            await eventually(lambda: projector.ready)
        assert_as_projected_at_once(address)


async def test_it_goes_on_after_the_broker_was_killed(dsn: str, nc: Client, nats: NatsServer) -> None:
    projector = make_projector(dsn, nc)
    async with running(projector):
        await shown(dsn, await append(nc, every_event()[:10]))
        await asyncio.to_thread(nats.kill)
        await eventually(lambda: not nc.is_connected)
        await asyncio.to_thread(nats.start)
        await eventually(lambda: nc.is_connected)
        await shown(dsn, await append(nc, every_event()[10:]))
        await eventually(lambda: projector.ready)
    assert_as_projected_at_once(dsn)


async def test_it_waits_for_the_schema_and_then_begins(postgres: PostgresServer, database_url: str, nc: Client) -> None:
    projector = make_projector(database_url, nc)
    async with running(projector):
        await eventually(lambda: "does not exist" in (projector.problem or ""))
        migrate(database_url)
        await shown(database_url, await append(nc, failed_fast("orc-1")))
        await eventually(lambda: projector.ready)


async def test_it_stops_soon_when_asked_to(dsn: str, nc: Client) -> None:
    stop = asyncio.Event()
    projector = make_projector(dsn, nc)
    task = asyncio.create_task(projector.run(stop))
    await eventually(lambda: projector.leading)
    stop.set()
    await asyncio.wait_for(task, 30)
    assert not projector.leading


async def test_listeners_hear_of_each_checkpoint(dsn: str, nc: Client) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("LISTEN projection")
        await append(nc, every_event()[:1])
        await project(dsn, nc)
        heard = [notification.payload async for notification in connection.notifies(timeout=30, stop_after=1)]
    assert heard == ["1"]

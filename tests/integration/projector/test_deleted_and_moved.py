"""Rows that go with their orchestration, and rows that change although their task does not."""

from collections.abc import Sequence

import psycopg
import pytest
from nats.aio.client import Client

from services.api.projections import replay
from services.api.projector import running
from services.api.queries import Queries
from shared.domain import events as ev
from shared.envelope import Commit, Stored
from shared.postgres.pool import make_pool
from tests.integration.projector.logs import append, dump, forget, make_projector, project, shown
from tests.unit.projections.histories import (
    TEAM,
    Step,
    commits,
    created,
    deleted,
    partly_completed,
    steered,
    stored,
    task,
)

Kept = dict[str, list[str]]


async def project_twice(dsn: str, nc: Client) -> None:
    """The whole log, and then the whole log again onto the rows that are there."""
    await project(dsn, nc)
    once = dump(dsn)
    forget(dsn, "event_archive", "projection_checkpoints")
    await project(dsn, nc)
    assert dump(dsn) == once


def orchestrations_in(dsn: str) -> Kept:
    """Which orchestrations each table of rows knows."""
    columns = {"orchestrations": "id", "tasks": "orchestration_id", "agents": "orchestration_id"}
    columns |= {"orchestration_terms": "id", "attempt_costs": "orchestration_id"}
    rows = dump(dsn)
    return {table: sorted({row[column] for row in rows[table]}) for table, column in columns.items()}


DELETED: Kept = {
    "orchestrations": ["orc-1"],
    "tasks": ["orc-1"],
    "orchestration_terms": ["orc-1"],
    "agents": ["orc-1", "orc-6"],
    "attempt_costs": ["orc-1", "orc-6"],
}


@pytest.mark.parametrize("upto", [5, 6], ids=["deleted", "deleted, then its agent, too"])
async def test_of_a_deleted_orchestration_only_agents_and_costs_stay(dsn: str, nc: Client, upto: int) -> None:
    await append(nc, [*partly_completed("orc-1"), *deleted("orc-6")[:upto]])
    await project_twice(dsn, nc)
    assert orchestrations_in(dsn) == DELETED


async def test_its_rows_go_with_the_commit_that_deletes_it(dsn: str, nc: Client) -> None:
    history = deleted("orc-6")
    await append(nc, partly_completed("orc-1"))
    async with running(make_projector(dsn, nc)):
        await shown(dsn, await append(nc, history[:4]))
        assert orchestrations_in(dsn)["tasks"] == ["orc-1", "orc-6"]
        await shown(dsn, await append(nc, history[4:5]))
        assert orchestrations_in(dsn) == DELETED
        await shown(dsn, await append(nc, history[5:]))
        assert orchestrations_in(dsn) == DELETED


async def test_nothing_of_it_is_found_by_any_id_of_its_own(dsn: str, nc: Client) -> None:
    history = deleted("orc-6")
    await append(nc, history[:4])
    async with make_pool(dsn, name="test", max_size=1) as pool:
        queries = Queries(pool)
        await project(dsn, nc)
        assert await queries.orchestration(TEAM, "orc-6")
        assert await queries.task(TEAM, "orc-6-t1")
        assert await queries.team_agent(TEAM, "bc-orc-6-t1-a1")
        await append(nc, history[4:])
        await project(dsn, nc)
        assert await queries.orchestration(TEAM, "orc-6") is None
        assert await queries.tasks(TEAM, "orc-6") == []
        assert await queries.task(TEAM, "orc-6-t1") is None
        assert await queries.team_agent(TEAM, "bc-orc-6-t1-a1") is None


async def test_the_orchestration_of_this_id_in_another_team_stays(dsn: str, nc: Client) -> None:
    await append(nc, [*partly_completed("orc-6", team="team-2"), *deleted("orc-6")])
    await project_twice(dsn, nc)
    assert [row["team_id"] for row in dump(dsn)["orchestrations"]] == ["team-2"]
    assert {row["team_id"] for row in dump(dsn)["tasks"]} == {"team-2"}


def moved() -> list[Commit]:
    """Four tasks; one is added between them, and then the first is moved behind the third."""
    specs = [task(name, order=order) for name, order in (("a", 0), ("b", 10), ("c", 20), ("d", 30))]
    behind = ev.TaskUpdated(task_id="a", spec=task("a", order=25), changed=("order_index",))
    steps: list[Step] = [
        (created("orc-1", specs),),
        (ev.TaskAdded(task=task("new", order=15)),),
        (behind,),
    ]
    return commits("orc-1", steps)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "commit by commit"])
async def test_positions_follow_when_tasks_are_added_and_moved(dsn: str, nc: Client, together: bool) -> None:
    if together:
        await append(nc, moved())
    else:
        async with running(make_projector(dsn, nc)):
            for commit in moved():
                await shown(dsn, await append(nc, [commit]))
                assert by_position(dsn) == in_order(moved()[: moved().index(commit) + 1])
    await project_twice(dsn, nc)
    assert by_position(dsn) == ["b", "new", "c", "a", "d"]
    touched = {row["id"]: row["seq"] for row in dump(dsn)["tasks"]}
    assert touched == {"a": 3, "b": 3, "new": 3, "c": 3, "d": 2}


async def test_positions_are_those_of_the_state_whatever_users_asked_for(dsn: str, nc: Client) -> None:
    async with running(make_projector(dsn, nc)):
        for upto, commit in enumerate(steered("orc-1"), start=1):
            await shown(dsn, await append(nc, [commit]))
            assert by_position(dsn) == in_order(steered("orc-1")[:upto])


def by_position(dsn: str) -> list[str]:
    """The ids of the tasks by their positions, which go from 0 without a gap."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT position, id FROM tasks ORDER BY position").fetchall()
    assert [position for position, _ in rows] == list(range(len(rows)))
    return [task_id for _, task_id in rows]


def in_order(history: Sequence[Commit]) -> list[str]:
    """The ids of the tasks in the order of the state."""
    log: list[Stored] = stored(history)
    (state,) = replay(log).values()
    return list(state.tasks)

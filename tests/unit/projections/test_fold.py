"""What the read side shows, without a database: rows folded from commits, in any batches."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.api.projections import (
    BrokenHistoryError,
    Change,
    Key,
    Row,
    agent_rows,
    fold,
    orchestration_row,
    replay,
    task_rows,
)
from shared.catalogue import CATALOGUE
from shared.domain.state import Orchestration
from shared.envelope import Stored
from shared.views import orchestration_view, task_views
from tests.unit.projections.histories import TEAM, every_event, failed_fast, partly_completed, stored

Rows = dict[tuple[str, str, str], Row]


def rows_of(change: Change) -> Rows:
    found: Rows = {("orchestration", *change.key): orchestration_row(change)}
    found |= {("task", row["team_id"], row["id"]): row for row in task_rows(change)}
    found |= {("agent", row["team_id"], row["attempt_id"]): row for row in agent_rows(change)}
    return found


def project(log: Sequence[Stored], sizes: Sequence[int]) -> Rows:
    """All rows after the log was taken in batches of these sizes, the last one as often as needed."""
    states: dict[Key, Orchestration] = {}
    rows: Rows = {}
    rest, sizes = list(log), list(sizes)
    while rest:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        batch, rest = rest[:size], rest[size:]
        for key, change in fold(states, batch).items():
            states[key] = change.state
            rows |= rows_of(change)
            if change.state.deleted:
                rows = {name: row for name, row in rows.items() if not is_gone(name, row, change)}
    return rows


def is_gone(name: tuple[str, str, str], row: Row, change: Change) -> bool:
    """What `read_side` takes away: the orchestration and its tasks, but not its agents."""
    kind, *place = name
    return tuple(place) == change.key or (kind == "task" and row["orchestration_id"] == change.state.id)


def test_the_histories_used_here_hold_every_type_of_event() -> None:
    seen = {type(recorded.event) for commit in every_event() for recorded in commit.events}
    assert seen == set(CATALOGUE.values())


def test_rows_do_not_depend_on_where_batches_end() -> None:
    log = stored(every_event())
    reference = project(log, [len(log)])
    for seed in range(100):
        chance = random.Random(seed)
        assert project(log, [chance.randint(1, 9) for _ in range(len(log))]) == reference


def test_after_each_commit_the_rows_show_exactly_what_the_state_shows() -> None:
    """Holds the rule by which unchanged tasks are left out to every part of a task's view."""
    log = stored(every_event())
    for upto in range(1, len(log) + 1):
        rows = project(log[:upto], [1])
        for (team, orchestration), state in replay(log[:upto]).items():
            if state.deleted:
                continue
            assert rows["orchestration", team, orchestration]["view"] == orchestration_view(state)
            for position, view in enumerate(task_views(state)):
                row = rows["task", team, view["id"]]
                assert (row["view"], row["position"]) == (view, position)


def test_only_tasks_that_show_something_else_are_written() -> None:
    log = stored(partly_completed("orc-1"))
    states = replay(log[:3])
    change = fold(states, [log[3]])[TEAM, "orc-1"]
    assert [row["id"] for row in task_rows(change)] == ["orc-1-t1"]
    assert [row["attempt_id"] for row in agent_rows(change)] == ["orc-1-t1-a1"]


def test_a_task_whose_wait_ends_by_another_task_is_written() -> None:
    steps = stored(partly_completed("orc-1"))
    states = replay(steps[:1])
    activated = fold(states, [steps[1]])[TEAM, "orc-1"]
    waiting: dict[str, Any] = {row["id"]: row["view"]["waiting_for"] for row in task_rows(activated)}
    assert waiting == {"orc-1-t1": "slot", "orc-1-t2": "dependency", "orc-1-t3": "slot"}


def test_an_agent_is_found_under_the_id_that_the_provider_gave_it() -> None:
    log = stored(partly_completed("orc-1"))
    rows = project(log, [len(log)])
    row = rows["agent", TEAM, "orc-1-t3-a1"]
    assert row["agent_id"] == "provider-chose-another"
    assert row["ended_at"] is not None


def test_a_gap_in_an_aggregate_names_the_commit_and_stops() -> None:
    log = stored(failed_fast("orc-1"))
    with pytest.raises(BrokenHistoryError, match=r"orc-1-c3 at 3 .*at version 1, the commit begins with 4") as caught:
        fold({}, [log[0], log[2]])
    assert caught.value.sequence == 3


def test_a_repeated_commit_stops() -> None:
    log = stored(failed_fast("orc-1"))
    with pytest.raises(BrokenHistoryError, match="at version 3"):
        fold({}, [log[0], log[1], replace(log[1], sequence=3)])


def test_a_commit_on_the_subject_of_another_aggregate_stops() -> None:
    log = stored(failed_fast("orc-1"))
    astray = replace(log[0], commit=replace(log[0].commit, aggregate="orc-2"))
    with pytest.raises(BrokenHistoryError, match="speak of team-1/orc-1"):
        fold({}, [astray])


def test_an_event_about_an_unknown_task_names_the_commit() -> None:
    log = stored(failed_fast("orc-1"))
    foreign = failed_fast("orc-2")[1]
    astray = Stored(2, replace(foreign, aggregate="orc-1"))
    with pytest.raises(BrokenHistoryError, match=r"orc-2-c2 at 2 .*KeyError"):
        fold({}, [log[0], astray])

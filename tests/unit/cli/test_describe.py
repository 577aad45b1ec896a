"""Sentences about tasks."""

from datetime import timedelta
from typing import Any

from cli import describe
from cli.snapshot import Snapshot
from tests.unit.cli.story import ID, START, Moment, all_completed, failed


def at(moments: list[Moment], index: int) -> Snapshot:
    return Snapshot.of(moments[index].view, moments[index].at)


def lines(moments: list[Moment]) -> list[str]:
    snapshots = [Snapshot.of(moment.view, moment.at) for moment in moments]
    return [line for pair in zip([None, *snapshots], snapshots, strict=False) for line in describe.changes(*pair)]


def test_a_life_told_line_by_line_tells_each_change_once() -> None:
    told = lines(all_completed())
    assert told[:2] == [f"orchestration {ID}: PENDING", "task 1/3 Add a rate limiter: PENDING"]
    assert f"orchestration {ID}: ACTIVE" in told
    assert "task 1/3 Add a rate limiter: PROCESSING, attempt 1/4, agent bc-11000000-aaaa RUNNING" in told
    assert (
        "task 1/3 Add a rate limiter: COMPLETED, attempt 1/4, 2.0s, $0.0123, branch cursor/task-1, "
        "PR https://github.com/acme/storefront/pull/101"
    ) in told
    assert told[-1].startswith("task 3/3 Document rate limits: COMPLETED")
    assert f"orchestration {ID}: COMPLETED" in told
    assert len(told) == len(set(told))


def test_a_failure_is_told_with_its_reason() -> None:
    told = lines(failed())
    assert f"orchestration {ID}: FAILED, AGENT_ERROR: the agent gave up" in told
    assert told[-3].endswith("FAILED, attempt 1/4, 1.0s, AGENT_ERROR: the agent gave up")
    assert told[-1] == "task 3/3 Document rate limits: CANCELLED"


def test_nothing_new_is_nothing_to_tell() -> None:
    snapshot = at(all_completed(), 4)
    assert list(describe.changes(snapshot, snapshot)) == []


def test_a_task_that_waits_for_its_retry_says_why_and_how_long() -> None:
    moments = all_completed()
    snapshot = at(moments, 6)
    assert list(describe.waits(snapshot.tasks, moments[6].at + timedelta(seconds=1))) == [
        "Test the rate limiter waits to be tried again after AGENT_ERROR: the agent gave up, in 4.0s",
        "Document rate limits waits for its turn",
    ]


def test_tasks_that_wait_for_the_same_share_a_sentence() -> None:
    tasks = [{"id": str(n), "title": f"T{n}", "waiting_for": "turn"} for n in range(5)]
    assert list(describe.waits(tasks, START)) == ["T0, T1, T2 and 2 more wait for their turn"]


def test_a_task_names_what_it_still_depends_on() -> None:
    tasks: list[dict[str, Any]] = [
        {"id": "a", "title": "A", "status": "COMPLETED"},
        {"id": "b", "title": "B", "status": "PROCESSING"},
        {"id": "c", "title": "C", "status": "PENDING", "waiting_for": "dependency", "depends_on": ["a", "b"]},
    ]
    assert list(describe.waits(tasks, START)) == ["C waits for B"]


def test_a_reason_that_is_not_known_here_is_shown_as_it_is() -> None:
    task = {"id": "a", "title": "A", "status": "PENDING", "waiting_for": "full_moon"}
    assert list(describe.waits([task], START)) == ["A waits (full_moon)"]


def test_attempts_count_up_to_all_that_are_allowed() -> None:
    assert describe.attempt({"attempts": [], "max_retries": 3}) == "–"
    assert describe.attempt({"attempts": [{"number": 2}], "max_retries": 3}) == "2/4"
    assert describe.attempt({"attempts": [{"number": 5}], "max_retries": 0}) == "5/5"


def test_the_time_of_a_running_task_runs() -> None:
    task = {"status": "PROCESSING", "started_at": "2026-11-01T12:00:00Z"}
    assert describe.time_taken(task, START + timedelta(seconds=7)) == "7.0s"
    assert describe.time_taken({**task, "duration": 1500}, START + timedelta(hours=1)) == "1.5s"
    assert describe.time_taken({"status": "CANCELLED"}, START) == "–"


def test_a_note_is_told_when_it_comes_up() -> None:
    moments = all_completed()
    before = at(moments, 4)
    noted = Snapshot.of(moments[4].view, START)
    noted = type(noted)(noted.orchestration, noted.tasks, noted.statistics, START, None, "the connection is lost")
    assert list(describe.changes(before, noted)) == ["the connection is lost"]
    assert list(describe.changes(noted, noted)) == []

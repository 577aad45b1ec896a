"""What people see, as text."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from cli import render, tables
from cli.errors import BadField, RefusedError
from cli.snapshot import Snapshot
from tests.unit.cli.story import START, all_completed, failed


def shown(what: RenderableType, width: int = 140) -> str:
    console = Console(file=StringIO(), width=width, markup=False, highlight=False, emoji=False, color_system=None)
    console.print(what)
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def snapshot(index: int) -> Snapshot:
    moment = all_completed()[index]
    return Snapshot.of(moment.view, moment.at)


def progress(seen: Snapshot, *, width: int = 140, height: int = 40) -> str:
    return shown(render.progress(seen, seen.seen_at, width=width, height=height), width)


def test_the_live_table_has_every_column_filled() -> None:
    text = progress(snapshot(9))
    header = next(line for line in text.splitlines() if "Attempt" in line)
    assert header.split() == ["#", "Task", "State", "Attempt", "Agent", "Branch", "PR", "Time", "Cost"]
    first, second = (next(line for line in text.splitlines() if title in line) for title in ("Add a", "Test the"))
    assert first.split()[5:] == ["COMPLETED", "1/4", "bc-11000000", "cursor/task-1", "#101", "2.0s", "$0.0123"]
    assert "2/4" in second


def test_below_the_table_are_progress_time_and_cost() -> None:
    text = progress(snapshot(9))
    assert "67%" in text
    assert "2 of 3 tasks completed" in text
    assert "elapsed 8.0s" in text
    assert "cost $0.0246" in text


def test_why_a_task_waits_is_below_the_table() -> None:
    assert "Test the rate limiter waits to be tried again after AGENT_ERROR: the agent gave up" in progress(snapshot(6))


def doing(seen: Snapshot, task: dict[str, Any], **what: str) -> Snapshot:
    data = {"taskId": task["id"], "agentId": task["cloud_agent_id"], **what}
    return seen.showing({"type": "agent_progress", "data": data})


def test_what_an_agent_is_at_is_the_last_line() -> None:
    seen = snapshot(10)
    running = next(task for task in seen.tasks if task["status"] == "PROCESSING")
    text = progress(doing(seen, running, tool="run_terminal_cmd make test\x1b[2J", text="I test."))
    assert text.splitlines()[-1].strip() == "now: run_terminal_cmd make test [2J"


def test_where_several_agents_are_at_work_it_is_said_whose_it_is_for_the_first_few() -> None:
    seen = many(0)
    running = seen.tasks[0]
    tasks = [{**running, "id": f"r{n}", "title": f"Run {n}"} for n in range(9)]
    seen = Snapshot.of({**seen.view(), "tasks": tasks}, START)
    for number, task in enumerate(tasks):
        seen = doing(seen, task, text=f"At {number}.")
    lines = [line.strip() for line in progress(seen).splitlines() if line.startswith("now")]
    assert lines == ["now (Run 0): At 0.", "now (Run 1): At 1.", "now (Run 2): At 2."]


def test_one_that_is_not_active_says_how_to_make_it_so() -> None:
    assert "orchestrator activate 0b6c8c1e" in progress(snapshot(0))


def test_one_with_a_schedule_says_what_runs_it_and_what_it_has_led_to() -> None:
    pending = all_completed()[0]
    runs = {"count": 2, "last_id": "run-2", "last_at": "2026-11-01T12:00:00Z"}
    scheduled = {**pending.view["orchestration"], "schedule": {"cron": "0 0 9 * * *", "timezone": "UTC"}, "runs": runs}
    seen = Snapshot.of({**pending.view, "orchestration": scheduled}, pending.at)
    assert "orchestrator activate" not in progress(seen)
    assert "run by its schedule: 2 runs, the last run-2 at" in progress(seen)
    assert "0 0 9 * * * in UTC, 2 runs" in shown(render.detail(seen, START, width=140))


@pytest.mark.parametrize("width", [80, 100, 140])
def test_each_task_has_one_line_however_narrow_the_terminal(width: int) -> None:
    text = progress(snapshot(9), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    for fact in ("COMPLETED", "1/4", "11000", "#101", "2.0s", "$0.0123"):
        assert any(fact in line and "Add" in line for line in text.splitlines()), fact


def many(count: int) -> Snapshot:
    seen = snapshot(10)
    done, running = seen.tasks[0], seen.tasks[2]
    tasks = [{**done, "id": f"d{n}", "title": f"Done {n}"} for n in range(count)]
    return Snapshot.of({**seen.view(), "tasks": [*tasks, {**running, "id": "r", "title": "Running one"}]}, START)


def test_of_more_tasks_than_fit_those_that_are_done_give_way() -> None:
    text = progress(many(49), height=20)
    assert len(text.splitlines()) <= 20
    assert "Running one" in text
    assert "more tasks not shown" in text


def test_titles_are_shown_as_they_are_written() -> None:
    seen = snapshot(9)
    odd = {**seen.tasks[0], "title": "[bold]x[/bold] :smile: [[sim:slow=3]]"}
    assert "[bold]x[/bold] :smile: [[sim:slow=3]]" in progress(
        Snapshot.of({**seen.view(), "tasks": [odd]}, START), width=200
    )


def test_the_summary_has_results_totals_and_the_last_word() -> None:
    end = snapshot(-1)
    text = shown(render.summary(end, end.seen_at, width=140))
    for fact in (
        "All 3 tasks completed successfully",
        "Task 2 is done: 3 files changed.",
        "https://github.com/acme/storefront/pull/103",
        "duration 10.0s, cost $0.0369",
    ):
        assert fact in text


def test_the_summary_of_a_failure_says_what_failed() -> None:
    end = Snapshot.of(failed()[-1].view, START)
    text = shown(render.summary(end, START, width=140))
    assert "FAILED  0/3 tasks completed  AGENT_ERROR: the agent gave up" in text


def test_details_show_what_was_asked_for() -> None:
    text = shown(render.detail(snapshot(9), START, width=140))
    for fact in ("0b6c8c1e-5d4f-4b53-9d0e-6a1f3a0c7d11", "sequential, fail_fast, base ref", "chosen by the provider"):
        assert fact in text


def test_warnings_are_part_of_the_details() -> None:
    seen = snapshot(9)
    warned = {**seen.view(), "orchestration": {**seen.orchestration, "warnings": ["Model x is not known"]}}
    assert "warning: Model x is not known" in shown(render.detail(Snapshot.of(warned, START), START, width=140))


def test_a_list_keeps_whole_ids_in_a_narrow_terminal() -> None:
    items = [snapshot(9).orchestration]
    assert "0b6c8c1e-5d4f-4b53-9d0e-6a1f3a0c7d11" in shown(tables.orchestrations(items), 80)
    assert "no orchestrations here" in shown(tables.orchestrations([]))


def test_events_are_told_by_what_is_telling_in_them() -> None:
    items: list[dict[str, Any]] = [
        {
            "sequence": 30,
            "version": 4,
            "type": "attempt.failed",
            "occurred_at": "2026-11-01T12:00:00Z",
            "actor": "monitor",
            "data": {"task_id": "t1", "failure": {"code": "AGENT_ERROR", "message": "gave up"}},
        },
        {"version": 5, "type": "task.completed", "data": {"result": {"branch": "cursor/x"}}},
    ]
    text = shown(tables.events(items))
    assert "attempt.failed" in text
    assert "AGENT_ERROR: gave up" in text
    assert "branch cursor/x" in text


def test_a_refusal_shows_each_bad_field_on_its_line() -> None:
    fields = (BadField("repository", "must be owner/repo"), BadField("tasks.0.title", "is missing"))
    error = RefusedError(400, "INVALID_REQUEST", "2 fields are wrong", fields=fields, request_id="r1")
    assert render.refusal(error).splitlines() == [
        "INVALID_REQUEST: 2 fields are wrong",
        "  repository: must be owner/repo",
        "  tasks.0.title: is missing",
    ]


def test_a_refusal_of_one_field_says_it_once() -> None:
    error = RefusedError(
        400,
        "INVALID_REPOSITORY",
        "repository: must be owner/repo",
        fields=(BadField("repository", "must be owner/repo"),),
    )
    assert render.refusal(error) == "INVALID_REPOSITORY: repository: must be owner/repo"


def test_an_error_of_the_server_names_the_request() -> None:
    assert "request r1" in render.refusal(RefusedError(500, "INTERNAL_ERROR", "sorry", request_id="r1"))


def paused(mode: str) -> Snapshot:
    seen = snapshot(9)
    changes = {"status": "PAUSED", "pause_mode": mode, "paused_at": None}
    waiting = {**seen.tasks[2], "status": "PENDING", "waiting_for": "pause", "waiting_until": None}
    view = {**seen.view(), "orchestration": {**seen.orchestration, **changes}, "tasks": [*seen.tasks[:2], waiting]}
    return Snapshot.of(view, START)


def test_a_pause_says_how_it_is_and_how_it_ends() -> None:
    text = progress(paused("drain"))
    assert "PAUSED" in text
    assert "paused, agents at work may finish: `orchestrator resume 0b6c8c1e" in text
    assert "Document rate limits waits because the orchestration is paused" in text
    assert "may finish" not in progress(paused("stop"))


def test_a_task_says_what_it_waits_for_and_until_when() -> None:
    task = {**snapshot(9).tasks[2], "status": "PENDING", "waiting_for": "rate_limit"}
    text = shown(tables.task({**task, "waiting_until": "2026-11-01T12:00:30Z"}, START))
    assert "for the provider's rate limit, in 30.0s" in text


def test_a_deleted_one_is_said_to_be_so() -> None:
    assert "DELETED" in shown(render.closing(snapshot(9).gone(), START))


def test_statistics_name_only_what_there_is() -> None:
    text = shown(tables.statistics(snapshot(9).statistics))
    assert "3: 2 completed, 1 " in text
    assert "67%" in text
    assert "failed" not in text


def test_a_key_shows_whether_it_opens_anything() -> None:
    expiries = (None, "2026-11-01T11:00:00Z", "2027-01-15T12:00:00Z")
    items = [{"id": f"k{n}", "name": "ci", "team": "a", "expires_at": at} for n, at in enumerate(expiries)]
    text = shown(tables.keys([*items, {"id": "k3", "revoked_at": "2026-11-01T11:00:00Z"}], START))
    states = [line.split()[3 if "ci" in line else -2] for line in text.splitlines() if " k" in line]
    assert states[:2] == ["valid", "expired"]
    assert "until 2027-01-15" in text
    assert "revoked" in text


def test_a_delivery_shows_each_of_its_tries() -> None:
    tries = [{"number": 2, "duration_ms": 120, "outcome": "rejected", "detail": "answered 500"}, {"number": 1}]
    text = shown(tables.delivery({"id": "d1", "status": "FAILED", "host": "x.io", "attempts": tries}))
    assert "answered 500" in text
    assert "not known" in text


def test_a_held_queue_says_so_and_what_waits_for_what() -> None:
    found = {"held": True, "running": 2, "waiting_for": {"slot": 3}, "waiting_by_priority": {"high": 1}, "failed": 0}
    text = shown(tables.queue(found))
    assert "held: nothing is launched" in text
    assert "waiting for slot" in text
    assert "1 high" in text


def test_a_sweep_shows_what_it_did_about_each_agent() -> None:
    orphans = [
        {"agentId": "bc-1", "action": "stopped", "orchestrationId": "o1", "url": "https://cursor.com/agents/bc-1"},
        {"agentId": "bc-2", "action": "left", "orchestrationId": "o2", "url": None},
        {"agentId": "bc-3", "action": "of a newer release", "orchestrationId": "o3"},
    ]
    settled = [{"agentId": None, "action": "put_back", "orchestrationId": "o4"}]
    text = shown(tables.sweep({"checked": 9, "ours": 3, "unread": 0, "orphans": orphans, "settled": settled}))
    assert "could not be read" not in text
    lines = text.splitlines()
    for words in (
        ("bc-1", "orphaned, stopped", "o1", "https://cursor.com/agents/bc-1"),
        ("bc-2", "left alone", "o2"),
        ("bc-3", "of a newer release", "o3"),
        ("is again", "o4"),
    ):
        assert any(all(word in line for word in words) for line in lines), words
    nothing = shown(tables.sweep({"checked": 9, "ours": 0, "unread": 2, "orphans": [], "settled": []}))
    assert "every agent at work here belongs to a task" in nothing
    assert "could not be read" in nothing

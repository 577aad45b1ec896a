"""What live messages make of the picture of an orchestration."""

from dataclasses import replace
from datetime import timedelta

from cli import describe
from cli.snapshot import ENDS, Snapshot
from shared.domain.events import OrchestrationStatus
from tests.unit.cli.story import START, Moment, all_completed, deleted, failed


def folded(moments: list[Moment]) -> Snapshot:
    snapshot = Snapshot.of(moments[0].view, START)
    for moment in moments[1:]:
        for message in moment.messages:
            snapshot = snapshot.after(message, str(moment.sequence), moment.at)
    return snapshot


def test_messages_one_by_one_lead_to_what_a_read_shows_at_every_moment() -> None:
    moments = all_completed()
    for upto in range(1, len(moments) + 1):
        assert folded(moments[:upto]).view() == moments[upto - 1].view


def test_a_message_told_twice_is_told_once() -> None:
    moments = all_completed()
    twice = [moment for moment in moments for _ in range(2)]
    assert folded(twice).view() == folded(moments).view()


def test_a_status_message_replaces_everything() -> None:
    moments = all_completed()
    snapshot = Snapshot.of(moments[1].view, START).after(moments[-1].status_message, "120", START)
    assert snapshot.view() == moments[-1].view
    assert snapshot.sequence == "120"


def test_messages_that_are_not_known_or_make_no_sense_change_nothing_but_the_place_to_resume() -> None:
    before = folded(all_completed()[:4])
    for message in ({"type": "weather", "data": {}}, {"type": "task_updated"}, {"type": "status", "data": None}, {}):
        after = before.after(message, "77", START)
        assert after.view() == before.view()
        assert after.sequence == "77"


def test_a_task_that_was_added_later_comes_last() -> None:
    snapshot = folded(all_completed()[:2])
    task = {**snapshot.tasks[0], "id": "t4", "order_index": 4}
    assert [t["id"] for t in snapshot.after({"type": "task_updated", "task": task}, None, START).tasks] == [
        "t1",
        "t2",
        "t3",
        "t4",
    ]


def test_a_read_that_lags_behind_live_messages_does_not_take_us_back() -> None:
    moments = all_completed()
    now = folded(moments[:5])
    assert now.renewed(moments[2].view, START).view() == moments[4].view
    assert now.renewed(moments[5].view, START).view() == moments[5].view


def test_it_has_ended_when_its_state_is_an_end() -> None:
    assert [m.view["orchestration"]["status"] for m in all_completed() if Snapshot.of(m.view, START).ended] == [
        "COMPLETED"
    ]
    end = folded(failed())
    assert (end.ended, end.succeeded) == (True, False)


def test_a_partial_success_is_a_success_and_an_unknown_state_no_end() -> None:
    snapshot = folded(all_completed())
    partial = Snapshot.of({**snapshot.view(), "orchestration": {"id": "x", "status": "PARTIAL_COMPLETED"}}, START)
    strange = Snapshot.of({**snapshot.view(), "orchestration": {"id": "x", "status": "HIBERNATING"}}, START)
    assert (partial.ended, partial.succeeded) == (True, True)
    assert (strange.ended, strange.succeeded) == (False, False)


def test_the_ends_are_those_of_the_domain() -> None:
    assert {status.value for status in OrchestrationStatus if status.is_terminal} == ENDS


def test_the_clock_runs_on_between_messages_while_it_is_active() -> None:
    moments = all_completed()
    later = moments[4].at + timedelta(seconds=2)
    assert folded(moments[:5]).elapsed(later) == timedelta(seconds=5)
    assert folded(moments).elapsed(moments[-1].at + timedelta(hours=1)) == timedelta(seconds=10)
    assert folded(moments[:1]).elapsed(later) == timedelta()


def test_a_task_message_alone_does_not_turn_the_clock_back() -> None:
    moments = all_completed()
    snapshot = folded(moments[:5])
    at = moments[4].at + timedelta(seconds=3)
    task_only = snapshot.after(moments[5].messages[0], "60", at)
    assert task_only.elapsed(at) == snapshot.elapsed(at)


def test_the_clock_runs_in_a_pause_only_until_the_last_agent_is_done() -> None:
    active = folded(all_completed()[:5])
    later = active.seen_at + timedelta(seconds=9)
    paused = replace(active, orchestration={**active.orchestration, "status": "PAUSED", "paused_at": None})
    assert paused.elapsed(later) == active.elapsed(later)
    idle = replace(paused, orchestration={**paused.orchestration, "paused_at": "2026-11-01T12:00:05Z"})
    assert idle.elapsed(later) == active.elapsed(active.seen_at)


def test_a_deleted_one_has_ended_and_without_success() -> None:
    moments = all_completed()
    gone = folded([*moments[:4], deleted(moments[3])])
    assert (gone.deleted, gone.ended, gone.succeeded) == (True, True, False)
    assert folded(moments).gone().succeeded is False


def test_tasks_are_in_the_order_of_the_api_also_after_it_was_changed() -> None:
    snapshot = folded(all_completed()[:2])
    last = {**snapshot.tasks[0], "order_index": 9}
    moved = snapshot.after({"type": "task_updated", "task": last}, None, START)
    assert [task["id"] for task in moved.tasks] == ["t2", "t3", "t1"]


def progress_of(snapshot: Snapshot, **doing: str) -> dict[str, object]:
    """What is told of the agent of the task that is under way."""
    task = next(task for task in snapshot.tasks if task["status"] == "PROCESSING")
    data = {"taskId": task["id"], "attemptId": "a", "agentId": task["cloud_agent_id"], **doing}
    return {"type": "agent_progress", "data": {**data, "at": "2026-11-01T12:00:00Z"}}


def doings(snapshot: Snapshot) -> list[str]:
    return [doing for task in snapshot.tasks if (doing := snapshot.doing(task))]


def at_work() -> Snapshot:
    return next(seen for upto in range(1, 9) if (seen := folded(all_completed()[:upto])).tasks[0]["cloud_agent_id"])


def test_the_tool_of_an_agent_is_what_it_is_at_else_its_words() -> None:
    before = at_work()
    assert doings(before) == []
    said = before.showing(progress_of(before, text="I begin."))
    assert doings(said) == ["I begin."]
    used = said.showing(progress_of(before, tool="ls .", text="I begin."))
    assert doings(used) == ["ls ."]
    assert (used.view(), used.sequence) == (before.view(), before.sequence)
    assert list(describe.changes(before, used)) == []  # no line of its own in logs and pipes


def test_what_an_agent_was_at_is_of_no_interest_once_it_has_ended_or_another_is_at_work() -> None:
    before = at_work()
    seen = before.showing(progress_of(before, tool="ls ."))
    for change in ({"status": "COMPLETED"}, {"cloud_agent_id": "bc-another"}):
        message = {"type": "task_updated", "task": {**seen.tasks[0], **change}}
        assert doings(seen.after(message, "99", START)) == []


def test_progress_that_makes_no_sense_changes_nothing() -> None:
    before = at_work()
    odd: list[object] = [None, [], {}, {"taskId": 7}]
    for data in odd:
        assert doings(before.showing({"type": "agent_progress", "data": data})) == []

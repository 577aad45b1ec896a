"""How orchestrations, tasks and statistics are shown."""

from typing import Any

import orjson
import pytest

from shared.domain.events import AgentStatus, LaunchWait, Schedule, Usage
from shared.domain.state import statistics_of
from shared.moments import written
from shared.views import orchestration_view, statistics, task_view, task_views
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    DRAIN,
    OVERLOADED,
    PAUSE,
    REPOSITORY,
    RESUME,
    activated,
    after,
    agent_id,
    attempt_failed,
    attempt_id,
    change,
    change_task,
    created,
    done,
    finish,
    follow_up,
    make_task,
    note_waiting,
    observe,
    queued,
    reject,
    report_missing,
    restart,
    result_awaited,
    retry,
    retry_scheduled,
    running,
    skip,
    start,
    started,
    status_changed,
    task_failed,
)

# What a person or program that reads them counts on; more may come.
PROMISED = {
    "id",
    "title",
    "status",
    "priority",
    "complexity",
    "order_index",
    "depends_on",
    "cloud_agent_id",
    "cloud_agent_status",
    "cloud_agent_url",
    "result_summary",
    "result_branch",
    "result_pr_url",
    "error_code",
    "error_message",
    "retry_count",
    "max_retries",
    "duration",
    "cost",
    "created_at",
    "updated_at",
    "started_at",
    "completed_at",
    "failed_at",
    "attempts",
    "waiting_for",
}
COUNTED = [
    "totalTasks",
    "pendingTasks",
    "processingTasks",
    "completedTasks",
    "failedTasks",
    "cancelledTasks",
    "skippedTasks",
    "progress",
    "duration",
    "estimatedTimeRemaining",
    "totalCost",
]


def shown(story: Given, task: str) -> dict[str, Any]:
    return task_view(story.state, story.task(task))


def counted(story: Given, minutes: float = 0) -> dict[str, Any]:
    return statistics(orchestration_view(story.state), task_views(story.state), after(minutes))


def test_an_orchestration_shows_what_was_asked_for() -> None:
    view = orchestration_view(
        given(
            created(
                "a",
                warnings=["look out"],
                name="Move",
                description="All of it",
                tags=("x",),
                metadata={"ticket": None},
                start_at=after(60),
                schedule=Schedule(cron="0 30 6 * * *", timezone="Europe/Berlin"),
                max_cost=1.5,
                execution_mode="parallel",
                max_parallel=2,
            )
        ).state
    )
    assert (view["id"], view["status"], view["repository"], view["ref"]) == ("orc-1", "PENDING", REPOSITORY, "main")
    assert (view["name"], view["description"], view["tags"], view["metadata"]) == (
        "Move",
        "All of it",
        ["x"],
        {"ticket": None},
    )
    assert view["schedule"] == {"cron": "0 30 6 * * *", "timezone": "Europe/Berlin"}
    assert (view["start_at"], view["created_at"]) == ("2026-11-01T13:00:00Z", "2026-11-01T12:00:00Z")
    assert (view["max_cost"], view["max_parallel"], view["warnings"]) == (1.5, 2, ["look out"])
    assert (view["activated_at"], view["completed_at"], view["error_code"], view["summary"]) == (None,) * 4
    assert (view["version"], view["created_by"]) == (1, "ann")


def test_an_orchestration_that_failed_shows_why_and_when() -> None:
    story = given(created("a"), activated(), queued("a"), started("a")).when(reject("a"), at=after(3)).outcome
    view = orchestration_view(story.state)
    assert (view["status"], view["error_code"]) == ("FAILED", "INVALID_REPOSITORY")
    assert "no access" in view["error_message"]
    assert (view["completed_at"], view["summary"]) == ("2026-11-01T12:03:00Z", "0/1 tasks completed")


def test_a_task_shows_every_field_from_its_first_moment_on() -> None:
    for story in (given(created("a")), given(created("a"), activated(), done("a"))):
        assert set(shown(story, "a")) >= PROMISED


def test_a_new_task_shows_no_agent_no_result_and_no_times_of_work() -> None:
    view = shown(given(created("a", make_task("b", depends_on=("a",)))), "b")
    assert (view["status"], view["order_index"], view["depends_on"], view["attempts"]) == ("PENDING", 1, ["a"], [])
    for field in ("cloud_agent_id", "cloud_agent_status", "result_branch", "duration", "started_at", "waiting_for"):
        assert view[field] is None
    assert (view["cost"], view["retry_count"], view["max_retries"]) == (0, 0, 3)


def test_a_task_at_work_shows_its_agent() -> None:
    view = shown(given(created("a"), activated(), running("a")), "a")
    assert (view["status"], view["cloud_agent_id"], view["cloud_agent_status"]) == (
        "PROCESSING",
        agent_id("a"),
        "RUNNING",
    )
    assert view["cloud_agent_url"] == f"https://cursor.com/agents/{agent_id('a')}"
    [attempt] = view["attempts"]
    assert (attempt["id"], attempt["number"], attempt["phase"]) == (attempt_id("a"), 1, "CREATED")
    assert attempt["agent"]["run_id"] == "run-a-1"


def test_a_completed_task_shows_its_result_its_time_and_its_price() -> None:
    pr = "https://github.com/acme/shop/pull/7"
    usage = Usage(input_tokens=1, output_tokens=2, total_tokens=3)
    before = given(created("a", "b"), activated(), running("a"))
    story = before.when(finish("a", pr_url=pr, usage=usage), at=after(9)).outcome
    view = shown(story, "a")
    assert (view["outcome"], view["result_branch"], view["result_pr_url"], view["result_summary"]) == (
        "DELIVERED",
        "cursor/a-1",
        pr,
        "Did a",
    )
    assert (view["duration"], view["cost"], view["completed_at"]) == (540_000, 0.25, "2026-11-01T12:09:00Z")
    assert view["error_code"] is None


def test_the_price_of_an_attempt_is_rounded_like_that_of_its_task() -> None:
    story = given(created("a"), activated(), running("a")).when(finish("a", cost=0.1 + 0.2)).outcome
    view = shown(story, "a")
    assert (view["cost"], view["attempts"][0]["cost"]) == (0.3, 0.3)


def retried() -> Given:
    return given(
        created("a", "b"),
        activated(),
        running("a"),
        attempt_failed("a", OVERLOADED, cost=0.1),
        retry_scheduled("a", 1, after(1)),
    )


def test_a_task_that_waits_for_its_retry_shows_why_and_until_when() -> None:
    view = shown(retried(), "a")
    assert (view["status"], view["waiting_for"], view["waiting_until"]) == ("PENDING", "retry", "2026-11-01T12:01:00Z")
    assert (view["error_code"], view["retry_count"]) == ("SERVICE_UNAVAILABLE", 1)
    assert shown(retried(), "b")["waiting_for"] == "turn"


def test_a_retried_task_shows_the_agent_of_its_newest_attempt_and_the_price_of_all() -> None:
    story = retried().and_then(running("a", 2), at=after(1)).when(finish("a", 2), at=after(5)).outcome
    view = shown(story, "a")
    assert view["cloud_agent_id"] == agent_id("a", 2)
    assert view["cost"] == 0.35
    assert [attempt["error_code"] for attempt in view["attempts"]] == ["SERVICE_UNAVAILABLE", None]
    assert [attempt["cost"] for attempt in view["attempts"]] == [0.1, 0.25]


def test_a_task_that_was_refused_shows_no_agent_being_created() -> None:
    story = given(created("a"), activated(), queued("a"), started("a")).when(reject("a")).outcome
    view = shown(story, "a")
    assert (view["status"], view["cloud_agent_status"], view["error_code"]) == ("FAILED", None, "INVALID_REPOSITORY")


def test_everything_that_is_shown_is_json() -> None:
    story = retried().and_then(running("a", 2))
    whole = [orchestration_view(story.state), *task_views(story.state), counted(story)]
    assert orjson.loads(orjson.dumps(whole)) == whole


# Statistics


def test_statistics_have_their_names() -> None:
    assert list(counted(given(created("a")))) == COUNTED


def test_before_activation_no_time_passes() -> None:
    found = counted(given(created("a", "b")), 60)
    assert (found["totalTasks"], found["pendingTasks"], found["progress"]) == (2, 2, 0)
    assert (found["duration"], found["estimatedTimeRemaining"], found["totalCost"]) == (0, None, 0)


def half_done(**spec: Any) -> Given:
    before = given(created("a", "b", "c", "d", **spec), activated(), running("a"))
    story = before.when(finish("a"), at=after(10)).outcome
    return story.when(start("b"), at=after(11)).outcome


def test_statistics_count_by_status_and_estimate_from_what_was_completed() -> None:
    found = counted(half_done(), 20)
    assert (found["completedTasks"], found["processingTasks"], found["pendingTasks"]) == (1, 1, 2)
    assert (found["progress"], found["duration"], found["totalCost"]) == (25, 1_200_000, 0.25)
    assert found["estimatedTimeRemaining"] == 3 * 600_000


@pytest.mark.parametrize(("max_parallel", "remaining"), [(2, 900_000), (None, 600_000), (3, 600_000), (50, 600_000)])
def test_in_parallel_less_time_remains(max_parallel: int | None, remaining: int) -> None:
    story = given(created("a", "b", "c", "d", execution_mode="parallel", max_parallel=max_parallel), activated())
    story = story.and_then(running("a")).when(finish("a"), at=after(10)).outcome
    assert counted(story, 20)["estimatedTimeRemaining"] == remaining


def test_after_the_end_the_statistics_stand_still() -> None:
    before = given(created("a", "b", failure_policy="continue"), activated(), queued("a"), started("a"))
    story = before.and_then(attempt_failed("a"), task_failed("a"), running("b"))
    ended = story.when(observe("b", AgentStatus.STOPPED), at=after(30)).outcome
    assert counted(ended, 31) == counted(ended, 9_999)
    found = counted(ended, 31)
    assert (found["failedTasks"], found["progress"], found["estimatedTimeRemaining"]) == (2, 100, 0)
    assert found["duration"] == 1_800_000


def test_a_time_before_the_activation_is_no_negative_duration() -> None:
    assert counted(given(created("a"), activated(), queued("a")), -5)["duration"] == 0


def test_the_statistics_of_the_views_are_those_of_the_last_event() -> None:
    story = given(created("a", "b"), activated(), done("a"), running("b")).when(finish("b"), at=after(10)).outcome
    stored, found = story.state.statistics, counted(story, 60)
    assert stored == statistics_of(story.state, after(60))
    assert stored is not None
    assert [stored.total_tasks, stored.completed_tasks, stored.duration_ms, stored.total_cost] == [
        found[name] for name in ("totalTasks", "completedTasks", "duration", "totalCost")
    ]


# Paused, waiting, stopped, going on


def test_a_paused_orchestration_shows_how_and_since_when() -> None:
    story = given(created("a"), activated(), running("a")).when(DRAIN, at=after(10)).outcome
    view = orchestration_view(story.state)
    assert (view["status"], view["pause_mode"], view["paused_at"], view["paused_duration"]) == (
        "PAUSED",
        "drain",
        "2026-11-01T12:10:00Z",
        0,
    )
    resumed = orchestration_view(story.when(RESUME, at=after(15)).outcome.state)
    assert (resumed["pause_mode"], resumed["paused_at"], resumed["paused_duration"]) == (None, None, 300_000)


def test_paused_the_clock_of_the_statistics_stands_still() -> None:
    story = given(created("a"), activated(), running("a")).when(DRAIN, at=after(10)).outcome
    assert counted(story, 10)["duration"] == counted(story, 99)["duration"] == 600_000
    assert counted(story.when(RESUME, at=after(15)).outcome, 20)["duration"] == 900_000


def test_time_in_which_it_was_over_is_not_counted_once_it_goes_on() -> None:
    ended = given(created("a"), activated(), running("a")).when(finish("a"), at=after(10)).outcome
    story = ended.when(restart("a"), at=after(70)).outcome
    view = orchestration_view(story.state)
    assert (view["status"], view["completed_at"], view["summary"]) == ("ACTIVE", None, None)
    assert counted(story, 75)["duration"] == 900_000
    assert (counted(story, 75)["pendingTasks"], counted(story, 75)["progress"]) == (1, 0)


def test_a_row_of_an_earlier_release_is_counted_without_pauses() -> None:
    story = given(created("a"), activated(), running("a"))
    view = orchestration_view(story.state)
    del view["paused_at"], view["paused_duration"]
    assert statistics(view, task_views(story.state), after(5))["duration"] == 300_000


@pytest.mark.parametrize("reason", ["slot", "rate_limit"])
def test_a_task_that_is_not_launched_yet_shows_why_and_until_when(reason: LaunchWait) -> None:
    story = given(created("a"), activated(), queued("a")).when(note_waiting("a", reason, until=after(3))).outcome
    view = shown(story, "a")
    assert (view["waiting_for"], view["waiting_until"], view["error_code"]) == (reason, "2026-11-01T12:03:00Z", None)


@pytest.mark.parametrize(("reason", "whose"), [("budget", "maxCost"), ("quota", "monthly")])
def test_a_task_that_waits_for_money_says_so_where_people_look(reason: LaunchWait, whose: str) -> None:
    story = given(created("a"), activated(), queued("a")).when(note_waiting("a", reason)).outcome
    view = shown(story, "a")
    assert (view["status"], view["waiting_for"], view["error_code"]) == ("PENDING", reason, "QUOTA_EXCEEDED")
    assert whose in view["error_message"]
    launched = shown(story.when(start("a")).outcome, "a")
    assert (launched["waiting_for"], launched["error_code"]) == (None, None)


def test_a_task_that_was_stopped_by_a_pause_shows_no_error_and_what_is_there() -> None:
    story = given(created("a"), activated(), running("a")).when(PAUSE).outcome
    seen = observe("a", AgentStatus.STOPPED, branch="cursor/a-1", summary="Half of it", cost=0.1)
    view = shown(story.when(seen).outcome, "a")
    assert (view["status"], view["waiting_for"], view["error_code"], view["cost"]) == ("PENDING", "pause", None, 0.1)
    assert (view["retry_count"], view["result_branch"], view["cloud_agent_status"]) == (0, None, "STOPPED")
    [attempt] = view["attempts"]
    assert (attempt["ending"], attempt["stop_reason"], attempt["error_code"]) == ("STOPPED", "PAUSE", None)
    assert (attempt["result_branch"], attempt["result_summary"]) == ("cursor/a-1", "Half of it")


def test_an_attempt_that_goes_on_with_an_agent_says_so() -> None:
    ended = given(created("a"), activated(), running("a")).when(finish("a"), at=after(1)).outcome
    story = ended.when(follow_up("a"), at=after(2)).outcome.and_then(started("a", 2, agent_id=agent_id("a")))
    first, second = shown(story, "a")["attempts"]
    assert (first["continues_agent"], second["continues_agent"]) == (False, True)
    assert second["agent"]["id"] == agent_id("a")


def test_a_finished_agent_shows_what_of_its_result_is_still_looked_for() -> None:
    story = given(created("a"), activated(), running("a")).and_then(
        status_changed("a", AgentStatus.FINISHED), result_awaited("a", "pull_request", until=after(2)), at=after(1)
    )
    view = shown(story, "a")
    [attempt] = view["attempts"]
    assert (view["status"], view["cloud_agent_status"]) == ("PROCESSING", "FINISHED")
    assert (attempt["result_missing"], attempt["result_awaited_until"]) == (["pull_request"], written(after(2)))
    [attempt] = shown(story.when(finish("a"), at=after(2)).outcome, "a")["attempts"]
    assert (attempt["result_missing"], attempt["result_awaited_until"]) == ([], None)


def test_an_agent_that_is_not_found_says_since_when() -> None:
    story = given(created("a"), activated(), running("a")).when(report_missing("a"), at=after(3)).outcome
    agent = shown(story, "a")["attempts"][0]["agent"]
    assert (agent["status"], agent["missing_since"]) == ("RUNNING", written(after(3)))
    agent = shown(story.when(observe("a", AgentStatus.RUNNING)).outcome, "a")["attempts"][0]["agent"]
    assert agent["missing_since"] is None


def test_a_withdrawn_attempt_shows_no_agent() -> None:
    story = given(created("a", "b"), activated(), queued("a")).when(PAUSE).outcome
    view = shown(story, "a")
    [attempt] = view["attempts"]
    assert (attempt["ending"], attempt["agent"], view["cloud_agent_id"]) == ("WITHDRAWN", None, None)


def test_cancelled_and_skipped_tasks_are_counted_as_such() -> None:
    story = given(created("a", "b", "c"), activated(), done("a"), queued("b")).when(skip("b")).outcome
    story = story.when(CANCEL, at=after(9)).outcome
    found = counted(story, 99)
    assert (found["completedTasks"], found["skippedTasks"], found["cancelledTasks"]) == (1, 1, 1)
    assert (found["progress"], found["duration"], found["estimatedTimeRemaining"]) == (100, 540_000, 0)
    view = orchestration_view(story.state)
    assert (view["status"], view["summary"]) == ("CANCELLED", "Cancelled: 1/3 tasks completed, 1 skipped")


def test_a_task_done_again_shows_nothing_of_the_end_before() -> None:
    ended = given(created("a"), activated(), queued("a"), started("a")).when(reject("a")).outcome
    view = shown(ended.when(retry("a")).outcome, "a")
    assert (view["status"], view["waiting_for"], view["error_code"]) == ("PENDING", "slot", None)
    assert (view["failed_at"], view["started_at"], view["duration"]) == (None, None, None)


def test_a_change_is_shown() -> None:
    story = given(created("a", name="Old")).when(change(name="New", max_cost=2.5)).outcome
    view = orchestration_view(story.when(change_task("a", title="New", timeout_minutes=7)).outcome.state)
    assert (view["name"], view["max_cost"], view["version"]) == ("New", 2.5, 3)

"""Every task that waits says for what, and that is true at every moment."""

from datetime import datetime
from typing import get_args

import pytest

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration
from shared.domain.events import AgentStatus, LaunchWait
from shared.domain.readiness import Waiting, WaitingFor, waiting_for
from shared.views import task_view
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    DRAIN,
    OVERLOADED,
    PAUSE,
    RESUME,
    TICK,
    activated,
    after,
    attempt_failed,
    attempt_id,
    change,
    created,
    done,
    finish,
    make_task,
    note_waiting,
    observe,
    queued,
    record,
    reject,
    restart,
    retry_scheduled,
    running,
    skip,
    start,
    started,
)


def waits(story: Given, task: str, minutes: float = 0) -> Waiting | None:
    return waiting_for(story.state, story.task(task), after(minutes))


def in_queue() -> Given:
    return given(created("a", "b"), activated(), queued("a"))


# What the launcher tells


@pytest.mark.parametrize("reason", get_args(LaunchWait))
@pytest.mark.parametrize("until", [None, after(3)])
def test_why_an_attempt_is_not_launched_is_shown(reason: LaunchWait, until: datetime | None) -> None:
    then = (
        in_queue()
        .when(note_waiting("a", reason, until=until))
        .then(ev.AttemptWaiting(task_id="a", attempt_id=attempt_id("a"), reason=reason, until=until))
    )
    assert waits(then, "a") == Waiting(reason, until)
    then.when(note_waiting("a", reason, until=until), at=after(1)).then_nothing()


def test_another_reason_or_time_replaces_the_one_before() -> None:
    story = in_queue().when(note_waiting("a", "slot")).outcome
    story = story.when(note_waiting("a", "rate_limit", until=after(1))).then(ev.AttemptWaiting)
    story = story.when(note_waiting("a", "rate_limit", until=after(2))).then(ev.AttemptWaiting)
    assert waits(story, "a") == Waiting("rate_limit", after(2))


def test_an_attempt_whose_create_is_unknown_may_wait_too() -> None:
    story = in_queue().and_then(started("a"))
    assert waits(story, "a") is None
    story = story.when(note_waiting("a", "rate_limit", until=after(1))).then(ev.AttemptWaiting)
    assert waits(story, "a") == Waiting("rate_limit", after(1))
    assert waits(story.when(record("a")).outcome, "a") is None


def test_started_it_waits_for_nothing_any_more() -> None:
    story = in_queue().when(note_waiting("a", "slot")).outcome.when(start("a")).outcome
    assert waits(story, "a") is None


@pytest.mark.parametrize("later", [running("a")[1:], running("a")[1:3]])
def test_an_agent_at_work_waits_for_nothing(later: tuple[ev.OrchestrationEvent, ...]) -> None:
    in_queue().and_then(later).when(note_waiting("a", "slot")).then_nothing()


def test_what_has_ended_waits_for_nothing() -> None:
    story = given(created("a", "b"), activated(), running("a")).when(finish("a")).outcome
    story.when(note_waiting("a", "slot")).then_nothing()
    assert waits(story, "a") is None


def test_waiting_costs_no_retry() -> None:
    story = in_queue()
    for minutes in range(20):
        story = story.when(note_waiting("a", "slot", until=after(minutes))).outcome
    assert (story.task("a").retry_count, len(story.task("a").attempts)) == (0, 1)


# What follows from the state


def test_every_reason_is_given_in_its_state() -> None:
    tasks = ("a", "b", make_task("c", depends_on=("b",)))
    story = given(created(*tasks)).when(ActivateOrchestration()).outcome
    retrying = (attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, after(4)))
    stories = {
        "slot": (story, "a"),
        "turn": (story, "b"),
        "dependency": (story, "c"),
        "rate_limit": (story.when(note_waiting("a", "rate_limit")).outcome, "a"),
        "quota": (story.when(note_waiting("a", "quota")).outcome, "a"),
        "budget": (given(created("a", "b", max_cost=0.1), activated(), running("a")).when(finish("a")).outcome, "b"),
        "retry": (story.and_then(running("a")[1:], retrying), "a"),
        "pause": (story.when(PAUSE).outcome, "a"),
    }
    assert set(stories) == set(get_args(WaitingFor))
    for reason, (found, task) in stories.items():
        waiting = waits(found, task)
        assert waiting is not None
        assert waiting.reason == reason
    assert waits(*stories["retry"]) == Waiting("retry", after(4))


def test_paused_everything_that_is_pending_waits_for_its_end() -> None:
    story = given(created("a", "b", make_task("c", depends_on=("a",))), activated(), running("a")).when(PAUSE).outcome
    assert [waits(story, task) for task in "abc"] == [None, Waiting("pause"), Waiting("pause")]
    story = story.when(observe("a", AgentStatus.STOPPED)).outcome
    assert waits(story, "a") == Waiting("pause")
    assert waits(story.when(RESUME).outcome, "a") == Waiting("slot")


def test_a_wait_for_a_retry_is_a_wait_for_the_end_of_the_pause_while_it_is_paused() -> None:
    story = given(created("a"), activated(), running("a")).when(observe("a", AgentStatus.FAILED)).outcome
    assert waits(story, "a") == Waiting("retry", after(1))
    story = story.when(DRAIN).outcome
    assert waits(story, "a") == Waiting("pause")
    assert waits(story.when(RESUME, at=after(0.5)).outcome, "a", 0.5) == Waiting("retry", after(1))


def test_once_its_retry_is_due_it_waits_for_what_the_others_wait_for() -> None:
    crowded = created("a", "b", execution_mode="parallel", max_parallel=1, max_cost=0.1)
    story = given(crowded, activated(), running("a")).when(observe("a", AgentStatus.FAILED)).outcome
    assert view_of(story, "a") == ("retry", "2026-11-01T12:01:00Z")
    story = story.when(TICK, at=after(1)).then(ev.TaskRetryDue(task_id="a"))
    assert view_of(story, "a") == ("turn", None)
    story.when(TICK, at=after(2)).then_nothing()
    spent = story.when(start("b"), at=after(2)).outcome.when(record("b"), at=after(2)).outcome
    assert view_of(spent.when(finish("b"), at=after(3)).outcome, "a") == ("budget", None)
    assert view_of(story.when(skip("b"), at=after(2)).outcome, "a") == ("slot", None)


def view_of(story: Given, task: str) -> tuple[str | None, str | None]:
    """As everybody sees it: a view knows no other time than that of the last commit."""
    shown = task_view(story.state, story.task(task))
    return shown["waiting_for"], shown["waiting_until"]


def test_a_create_that_waits_while_it_is_paused_still_says_for_what() -> None:
    story = in_queue().and_then(started("a")).when(note_waiting("a", "rate_limit")).outcome.when(PAUSE).outcome
    assert waits(story, "a") == Waiting("rate_limit")


def test_put_back_into_the_queue_it_waits_for_a_slot_again() -> None:
    story = in_queue().when(note_waiting("a", "quota")).outcome.when(PAUSE).outcome.when(RESUME).outcome
    assert waits(story, "a") == Waiting("slot")


def test_a_task_that_is_to_be_done_again_waits_like_any_other() -> None:
    story = given(created("a", "b"), activated(), done("a"), running("b")).when(restart("a")).outcome
    assert waits(story, "a") == Waiting("turn")


def test_once_its_dependency_is_skipped_it_does_not_wait_for_it() -> None:
    story = given(created("a", make_task("b", depends_on=("a",))), activated(), queued("a"))
    assert waits(story, "b") == Waiting("dependency")
    assert waits(story.when(skip("a")).outcome, "b") == Waiting("slot")


def test_more_money_ends_the_wait_for_it() -> None:
    story = given(created("a", "b", max_cost=0.1), activated(), running("a")).when(finish("a")).outcome
    assert waits(story, "b") == Waiting("budget")
    assert waits(story.when(change(max_cost=9)).outcome, "b") == Waiting("slot")


def test_while_it_is_cancelling_or_over_nothing_waits() -> None:
    story = given(created("a", "b"), activated(), running("a")).when(CANCEL).outcome
    assert [waits(story, task) for task in "ab"] == [None, None]
    failed = in_queue().and_then(started("a")).when(reject("a")).outcome
    assert [waits(failed, task) for task in "ab"] == [None, None]


def test_before_activation_nothing_waits() -> None:
    assert waits(given(created("a", start_at=after(60))), "a") is None


def test_a_tick_too_late_is_a_wait_for_the_turn() -> None:
    story = given(created("a"), activated(), running("a")).when(observe("a", AgentStatus.FAILED)).outcome
    assert waits(story, "a", 5) == Waiting("turn")
    assert waits(story.when(TICK, at=after(5)).outcome, "a", 5) == Waiting("slot")

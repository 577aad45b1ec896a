"""What ought to be under way in each phase of an attempt."""

from shared.domain.plan import Action, FreeSlot, Launch, StopAgent, WakeAt, Watch, plan
from tests.support.given import Given, given
from tests.support.orchestrations import (
    OVERLOADED,
    activated,
    after,
    agent_created,
    agent_id,
    attempt_failed,
    attempt_id,
    created,
    done,
    queued,
    reject,
    retry_scheduled,
    running,
    started,
    stop_requested,
)

LAUNCH = Launch(attempt_id("a"), "medium")
WATCH = Watch(attempt_id("a"), agent_id("a"), "run-a-1")
STOP = StopAgent(attempt_id("a"), agent_id("a"), "run-a-1")
FREE = FreeSlot(attempt_id("a"))


def planned(story: Given) -> list[Action]:
    return plan(story.state)


def test_nothing_is_called_for_before_activation() -> None:
    assert planned(given(created("a"))) == []


def test_a_start_time_calls_for_a_timer() -> None:
    assert planned(given(created("a", start_at=after(60)))) == [WakeAt(after(60))]


def test_an_attempt_is_launched_until_its_agent_is_known() -> None:
    story = given(created("a", "b"), activated(), queued("a"))
    assert planned(story) == [LAUNCH]
    assert planned(story.and_then(started("a"))) == [LAUNCH]
    assert planned(given(created("a"), activated(), queued("a", priority="high"))) == [Launch(attempt_id("a"), "high")]


def test_a_known_agent_is_followed() -> None:
    story = given(created("a"), activated(), queued("a"), started("a"), agent_created("a"))
    assert planned(story) == [WATCH]


def test_an_agent_that_is_to_stop_is_told_so_and_followed_to_its_end() -> None:
    story = given(created("a"), activated(), running("a"), stop_requested("a", "TIMEOUT"))
    assert planned(story) == [WATCH, STOP]


def test_an_agent_that_is_not_known_yet_cannot_be_told_to_stop() -> None:
    story = given(created("a"), activated(), queued("a"), started("a"), stop_requested("a", "FAIL_FAST"))
    assert planned(story) == [LAUNCH]
    assert planned(story.and_then(agent_created("a"))) == [WATCH, STOP]


def test_an_ended_attempt_holds_no_slot() -> None:
    assert planned(given(created("a", "b"), activated(), done("a"))) == [FREE]


def test_a_retry_calls_for_a_timer_and_every_attempt_before_it_is_past() -> None:
    story = given(
        created("a"), activated(), running("a"), attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, after(1))
    )
    assert planned(story) == [FREE, WakeAt(after(1))]
    assert planned(story.and_then(queued("a", 2))) == [FREE, Launch(attempt_id("a", 2), "medium")]


def test_an_attempt_that_was_cancelled_in_the_queue_gives_its_slot_back() -> None:
    story = given(created("a", "b", execution_mode="parallel"), activated(), queued("a"), queued("b"), started("b"))
    assert planned(story.when(reject("b")).outcome) == [FREE, FreeSlot(attempt_id("b"))]


def test_each_retry_calls_for_its_own_timer() -> None:
    """The first may be due and still wait for something else, and must not keep the second from being woken."""
    story = given(created("a", "b", execution_mode="parallel"), activated(), running("a"), running("b"))
    story = story.and_then(attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, after(1)))
    story = story.and_then(attempt_failed("b", OVERLOADED), retry_scheduled("b", 1, after(2)))
    assert planned(story) == [FREE, FreeSlot(attempt_id("b")), WakeAt(after(1)), WakeAt(after(2))]

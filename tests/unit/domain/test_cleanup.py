"""What becomes of the agents of tasks that have ended, where that is asked for."""

import pytest

from shared.domain import events as ev
from shared.domain.events import AgentStatus, Failure
from shared.domain.plan import Action, ArchiveAgent, DeleteAgent, DiscardAgent, FreeSlot, plan
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    PAUSE,
    activated,
    after,
    agent_id,
    agent_is_archived,
    agent_is_deleted,
    attempt_id,
    created,
    delete_agent,
    discard,
    finish,
    follow_up,
    make_task,
    observe,
    queued,
    record,
    reject,
    restart,
    running,
    skip,
    start,
    started,
)

ARCHIVE = ArchiveAgent(attempt_id("a"), agent_id("a"))
DISCARD = DiscardAgent(attempt_id("a"))
ARCHIVED = ev.AgentArchived(task_id="a", attempt_id=attempt_id("a"), agent_id=agent_id("a"))


def at_work() -> Given:
    return given(created(make_task("a", max_retries=1)), activated(), running("a"))


def ended() -> Given:
    return at_work().when(finish("a")).outcome


def put_away(story: Given) -> list[Action]:
    """What is planned for the agents, where they are archived."""
    return [action for action in plan(story.state, "archive") if isinstance(action, ArchiveAgent)]


def test_agents_are_kept_unless_something_else_is_asked_for() -> None:
    assert plan(ended().state) == plan(ended().state, "keep") == [FreeSlot(attempt_id("a"))]


def test_the_agent_of_a_task_that_has_ended_is_archived_once() -> None:
    assert put_away(at_work()) == []
    assert put_away(ended()) == [ARCHIVE]
    then = ended().when(agent_is_archived("a"), at=after(1)).then(ARCHIVED)
    assert put_away(then) == []
    then.when(agent_is_archived("a"), at=after(2)).then_nothing()


@pytest.mark.parametrize("how", ["failed", "cancelled", "skipped"])
def test_it_does_not_matter_how_the_task_ended(how: str) -> None:
    match how:
        case "failed":
            story = at_work().when(observe("a", AgentStatus.STOPPED)).outcome
        case "cancelled":
            story = at_work().when(CANCEL).outcome.when(observe("a", AgentStatus.STOPPED)).outcome
        case _:
            story = at_work().when(PAUSE).outcome.when(observe("a", AgentStatus.STOPPED)).outcome
            story = story.when(skip("a")).outcome
    assert put_away(story) == [ARCHIVE]


def test_an_agent_that_may_go_on_is_kept() -> None:
    paused = at_work().when(PAUSE).outcome.when(observe("a", AgentStatus.STOPPED)).outcome
    assert put_away(paused) == []
    paused.when(agent_is_archived("a")).then_nothing()
    paused.when(discard("a")).then_nothing()
    retrying = at_work().when(observe("a", AgentStatus.FAILED)).outcome
    assert put_away(retrying) == []


def test_every_agent_of_the_task_is_archived_when_it_has_ended() -> None:
    story = at_work().when(observe("a", AgentStatus.FAILED)).outcome.and_then(running("a", 2), at=after(1))
    story = story.when(finish("a", 2)).outcome
    assert put_away(story) == [ARCHIVE, ArchiveAgent(attempt_id("a", 2), agent_id("a", 2))]


def test_an_attempt_without_an_agent_has_none_to_archive() -> None:
    refused = given(created("a"), activated(), queued("a"), started("a")).when(reject("a")).outcome
    assert put_away(refused) == []
    refused.when(agent_is_archived("a")).then_nothing()


def test_an_agent_that_was_told_more_is_kept_and_archived_again_when_that_has_ended() -> None:
    story = ended().when(agent_is_archived("a")).outcome.when(follow_up("a")).outcome
    assert put_away(story) == []
    story = story.and_then(started("a", 2, agent_id=agent_id("a")))
    assert put_away(story) == []
    story = story.when(record("a", 2, agent_id=agent_id("a"))).outcome
    story = story.when(finish("a", 2, agent_id=agent_id("a"))).outcome
    assert put_away(story) == [ArchiveAgent(attempt_id("a", 2), agent_id("a"))]


def test_an_agent_that_was_brought_back_in_vain_is_archived_again() -> None:
    story = ended().when(agent_is_archived("a")).outcome.when(follow_up("a")).outcome
    story = story.and_then(started("a", 2, agent_id=agent_id("a")))
    story = story.when(reject("a", 2, Failure(code="CURSOR_API_ERROR", message="no"))).outcome
    assert put_away(story) == [ArchiveAgent(attempt_id("a", 2), agent_id("a"))]


def test_a_record_that_comes_when_the_task_goes_on_already_is_left_out() -> None:
    ended().when(follow_up("a")).outcome.when(agent_is_archived("a")).then_nothing()
    ended().when(follow_up("a")).outcome.when(discard("a")).then_nothing()


def test_the_agent_of_a_task_that_begins_anew_with_another_is_put_away_when_that_has_ended() -> None:
    story = ended().when(restart("a")).outcome
    assert put_away(story) == []
    story = story.when(start("a", 2)).outcome.when(record("a", 2)).outcome.when(finish("a", 2)).outcome
    assert put_away(story) == [ARCHIVE, ArchiveAgent(attempt_id("a", 2), agent_id("a", 2))]


def test_where_agents_are_deleted_that_is_in_the_log_before_it_happens() -> None:
    """So that nobody has it go on in between."""
    assert plan(ended().state, "delete") == [FreeSlot(attempt_id("a")), DISCARD]
    story = ended().when(discard("a")).then(ev.AgentDeleteRequested)
    story.when(follow_up("a")).then_refused("AGENT_NOT_FOUND")
    assert plan(story.state, "delete") == [FreeSlot(attempt_id("a")), DeleteAgent(attempt_id("a"), agent_id("a"))]
    gone = story.when(agent_is_deleted("a")).then(ev.AgentDeleted)
    assert plan(gone.state, "delete") == [FreeSlot(attempt_id("a"))]
    gone.when(discard("a")).then_nothing()


def test_an_agent_that_somebody_has_deleted_is_not_archived() -> None:
    story = ended().when(delete_agent("a")).outcome
    assert put_away(story) == []
    story.when(agent_is_archived("a")).then_nothing()


def test_an_archived_agent_is_deleted_where_that_is_asked_for_later() -> None:
    story = ended().when(agent_is_archived("a")).outcome
    assert plan(story.state, "delete") == [FreeSlot(attempt_id("a")), DISCARD]


def test_what_is_deleted_and_shown_to_nobody_leaves_no_agents_either() -> None:
    story = ended().and_then(ev.OrchestrationDeleted())
    assert put_away(story) == [ARCHIVE]
    story.when(agent_is_archived("a")).then(ARCHIVED)
    story.when(discard("a")).then(ev.AgentDeleteRequested)

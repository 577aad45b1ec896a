"""Agents as they are shown by themselves."""

from services.api.agent_view import agent_in, agent_view
from tests.support.given import Given, given
from tests.support.orchestrations import (
    activated,
    agent_created,
    agent_id,
    created,
    finish,
    follow_up,
    queued,
    running,
    started,
)


def branch_of(story: Given) -> str | None:
    found = agent_in(story.state, agent_id("a"), 1)
    assert found is not None
    branch: str | None = agent_view(found)["branch"]
    return branch


def test_an_agent_of_v0_shows_the_branch_that_it_was_given_until_it_has_left_another() -> None:
    at_work = given(created("a"), activated(), queued("a"), started("a", api_version="v0"), agent_created("a"))
    assert branch_of(at_work) == "cursor/a-1"
    assert branch_of(at_work.when(finish("a", branch="cursor/its-own")).outcome) == "cursor/its-own"
    assert branch_of(at_work.when(finish("a", branch=None)).outcome) == "cursor/a-1"


def test_an_agent_of_v1_shows_the_branch_that_it_has_left_also_when_it_goes_on() -> None:
    at_work = given(created("a"), activated(), running("a"))
    assert branch_of(at_work) is None
    assert branch_of(at_work.when(finish("a", branch=None)).outcome) is None
    ended = at_work.when(finish("a", branch="cursor/its-own")).outcome
    assert branch_of(ended) == "cursor/its-own"
    again = ended.when(follow_up("a")).outcome.and_then(started("a", 2, agent_id=agent_id("a")))
    assert branch_of(again) == "cursor/its-own"

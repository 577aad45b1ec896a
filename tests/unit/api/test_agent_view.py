"""Agents as they are shown by themselves."""

from services.api.agent_view import agent_in, agent_view
from tests.support.given import given
from tests.support.orchestrations import activated, agent_id, created, finish, running


def test_an_agent_shows_the_branch_that_it_was_given_until_it_has_left_another() -> None:
    at_work = given(created("a"), activated(), running("a"))
    for story, branch in (
        (at_work, "cursor/a-1"),
        (at_work.when(finish("a")).outcome, "cursor/a-1"),
        (at_work.when(finish("a", branch="cursor/its-own")).outcome, "cursor/its-own"),
        (at_work.when(finish("a", branch=None)).outcome, "cursor/a-1"),
    ):
        found = agent_in(story.state, agent_id("a"), 1)
        assert found is not None
        assert agent_view(found)["branch"] == branch

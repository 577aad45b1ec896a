"""What an agent is told, and the names by which it is found again."""

import re
from dataclasses import replace

import pytest

from shared.domain.events import Continuation
from shared.domain.prompt import (
    SUMMARY_CHARACTERS,
    agent_name,
    branch_name,
    build_prompt,
    follow_up_mark,
    follow_up_prompt,
)
from tests.support.given import Given, given
from tests.support.orchestrations import (
    OVERLOADED,
    REPOSITORY,
    activated,
    attempt_failed,
    created,
    done,
    finish,
    make_task,
    queued,
    running,
    started,
    task_failed,
)


def prompt_of(story: Given, task: str) -> str:
    return build_prompt(story.state, story.task(task), story.attempt(task))


def third() -> Given:
    """The third of four tasks is queued; the first left a pull request, the second failed."""
    pr = "https://github.com/acme/shop/pull/7"
    before = given(
        created("a", "b", "c", "d", failure_policy="continue", description="Move to the new API"),
        activated(),
        running("a"),
    )
    return before.when(finish("a", pr_url=pr)).outcome.and_then(
        started("b"), attempt_failed("b"), task_failed("b"), queued("c", base_ref="develop")
    )


def test_it_says_the_task_its_place_and_where_it_starts() -> None:
    prompt = prompt_of(third(), "c")
    assert prompt.startswith("Task 3 of 4: Task c\n\nDo c as it should be.\n\n")
    assert f"Repository: {REPOSITORY}\nStarting point: develop" in prompt
    assert "This task is part of: Move to the new API" in prompt
    assert "How to work:" in prompt


def test_it_tells_what_earlier_tasks_left_behind_and_nothing_of_those_that_failed_or_wait() -> None:
    prompt = prompt_of(third(), "c")
    assert "- Task a (branch cursor/a-1, https://github.com/acme/shop/pull/7): Did a" in prompt
    assert "Task b" not in prompt
    assert "Task d" not in prompt


def test_its_own_task_comes_before_anything_of_other_tasks() -> None:
    prompt = prompt_of(third(), "c")
    assert prompt.index("Do c as it should be.") < prompt.index("Move to the new API") < prompt.index("Task a")
    assert prompt.index("Task a") < prompt.index("How to work:")


def test_its_first_line_is_the_same_for_every_attempt() -> None:
    first = third()
    again = first.and_then(started("c"), attempt_failed("c", OVERLOADED), queued("c", 2, base_ref="main"))
    lines = {prompt_of(story, "c").splitlines()[0] for story in (first, again)}
    assert lines == {"Task 3 of 4: Task c"}


def test_without_earlier_work_or_a_description_it_says_nothing_of_either() -> None:
    prompt = prompt_of(given(created("a"), activated(), queued("a")), "a")
    assert "Done by earlier tasks" not in prompt
    assert "part of" not in prompt


def test_a_long_summary_is_cut() -> None:
    before = given(created("a", "b"), activated(), running("a"))
    prompt = prompt_of(before.when(finish("a", summary="x" * 50_000)).outcome, "b")
    assert "x" * SUMMARY_CHARACTERS in prompt
    assert "x" * (SUMMARY_CHARACTERS + 1) not in prompt


def test_a_task_without_branch_or_summary_is_still_told() -> None:
    before = given(created("a", "b"), activated(), running("a"))
    prompt = prompt_of(before.when(finish("a", branch=None, summary=None)).outcome, "b")
    assert "- Task a: no summary" in prompt


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Fix the Login page!", "fix-the-login-page"),
        ("  ..// Überall -- Köln ..lock ", "berall-k-ln-lock"),
        ("修正", "task"),
        ("~^:?*[\\", "task"),
        ("x" * 200, "x" * 40),
        ("a" * 39 + " b", "a" * 39),
    ],
)
def test_a_branch_is_named_after_its_task_in_what_git_allows(title: str, slug: str) -> None:
    story = given(created(make_task("a", title=title)), activated(), queued("a"))
    name = branch_name(story.task("a"), story.attempt("a"))
    assert re.fullmatch(rf"cursor/{re.escape(slug)}-[0-9a-f]{{12}}", name)


def test_every_attempt_has_a_branch_of_its_own_and_always_the_same() -> None:
    story = given(created("a"), activated(), running("a"), attempt_failed("a", OVERLOADED), queued("a", 2))
    task = story.task("a")
    names = [branch_name(task, attempt) for attempt in (*task.attempts, *task.attempts)]
    assert names[:2] == names[2:]
    assert len(set(names)) == 2


def test_an_agent_is_called_after_its_task_as_far_as_the_provider_takes_it() -> None:
    story = given(created(make_task("a", title="y" * 200), "b"), activated(), done("a"))
    assert agent_name(story.task("a")) == "y" * 100
    assert agent_name(story.task("b")) == "Task b"


@pytest.mark.parametrize("asked", [None, "Now write the tests."])
def test_who_goes_on_is_told_what_to_do_and_by_which_mark_that_is_recognised(asked: str | None) -> None:
    story = third()
    task, attempt = story.task("c"), story.attempt("c")
    agent = Continuation(agent_id="bc-1", api_version="v1", prompt=asked)
    prompt = follow_up_prompt(task, replace(attempt, continues=agent))
    assert prompt.startswith(asked or "Continue where you were stopped: Task c\n")
    assert prompt.endswith(f"\n\n{follow_up_mark(attempt)}")


def test_the_mark_of_an_attempt_is_its_own_and_does_not_depend_on_what_can_change() -> None:
    story = third()
    task, attempt = story.task("c"), story.attempt("c")
    other = replace(attempt, number=2, attempt_id=attempt.attempt_id[::-1])
    assert follow_up_mark(attempt) != follow_up_mark(other)
    assert follow_up_mark(replace(attempt, base_ref="other", run_id="run-1")) == follow_up_mark(attempt)
    assert task.spec.title not in follow_up_mark(attempt)

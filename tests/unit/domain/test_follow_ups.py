"""The agent of an ended attempt goes on with another prompt, as the next attempt of its task."""

import pytest

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    OVERLOADED,
    PAUSE,
    RESUME,
    TICK,
    activated,
    after,
    agent_created,
    agent_id,
    agent_is_deleted,
    created,
    delete_agent,
    done,
    finish,
    follow_up,
    going_on,
    make_task,
    observe,
    queued,
    record,
    reject,
    restart,
    resumed,
    retry,
    retry_scheduled,
    running,
    skip,
    start,
    started,
    status_changed,
    task_failed,
    task_reset,
)

REOPENED = ev.OrchestrationReopened()
TOLD = going_on("a", prompt="Now the tests.")
GONE = ev.Failure(code="AGENT_GONE", message="the agent is archived")


def completed() -> Given:
    return given(created("a"), activated(), running("a")).when(finish("a"), at=after(10)).outcome


def test_a_finished_agent_goes_on_with_what_it_is_told() -> None:
    then = (
        completed()
        .when(follow_up("a"), at=after(30))
        .then(REOPENED, task_reset("a", "FOLLOW_UP", TOLD), queued("a", 2, continues=TOLD))
    )
    assert (then.state.status, then.task("a").status) == (OrchestrationStatus.ACTIVE, TaskStatus.PENDING)
    assert then.task("a").continuation is None


def going() -> Given:
    story = completed().when(follow_up("a"), at=after(30)).outcome
    return story.and_then(started("a", 2, agent_id=agent_id("a")))


def test_its_next_attempt_has_the_same_agent_and_a_run_of_its_own() -> None:
    story = going().when(record("a", 2, AgentStatus.RUNNING, agent_id=agent_id("a"))).then(ev.AgentCreated)
    assert (story.attempt("a").agent_id, story.attempt("a").run_id) == (agent_id("a"), "run-a-2")
    then = story.when(finish("a", 2, agent_id=agent_id("a")), at=after(40)).then(
        ev.AgentStatusChanged, ev.TaskCompleted, ev.OrchestrationCompleted
    )
    assert then.task("a").result == ev.TaskResult(outcome="DELIVERED", branch="cursor/a-2", summary="Did a")
    assert then.state.total_cost == 0.5


def test_what_is_seen_of_the_first_attempt_does_not_touch_the_next() -> None:
    story = going().and_then(agent_created("a", 2).model_copy(update={"agent_id": agent_id("a")}))
    story.when(finish("a", 1)).then_nothing()
    story.when(observe("a", AgentStatus.FAILED, 1)).then_nothing()


@pytest.mark.parametrize("end", [AgentStatus.FAILED, AgentStatus.STOPPED])
def test_an_agent_that_failed_goes_on_and_takes_what_was_given_up_with_it(end: AgentStatus) -> None:
    before = given(created(make_task("a", max_retries=0), "b"), activated(), running("a"))
    failed = before.when(observe("a", end)).outcome
    assert failed.task("b").status is TaskStatus.CANCELLED
    then = failed.when(follow_up("a")).then(
        REOPENED, task_reset("a", "FOLLOW_UP", TOLD), task_reset("b", "REVIVED"), queued("a", 2, continues=TOLD)
    )
    assert then.task("a").failure is None


def test_in_sequence_a_follow_up_waits_for_its_turn() -> None:
    before = given(created("a", "b"), activated(), done("a"), running("b"))
    story = before.when(follow_up("a")).then(task_reset("a", "FOLLOW_UP", TOLD))
    story.when(TICK, at=after(99)).then_nothing()
    story.when(finish("b")).then(
        status_changed("b", AgentStatus.FINISHED), ev.TaskCompleted, queued("a", 2, continues=TOLD)
    )


def test_a_follow_up_waits_for_the_end_of_a_pause() -> None:
    story = given(created("a", "b"), activated(), done("a"), queued("b")).when(PAUSE).outcome
    story = story.when(follow_up("a")).then(task_reset("a", "FOLLOW_UP", TOLD))
    story.when(RESUME).then(resumed(), queued("a", 2, continues=TOLD))


def test_an_earlier_agent_can_go_on_too() -> None:
    story = completed().when(restart("a")).outcome.and_then(running("a", 2)[1:]).when(finish("a", 2)).outcome
    story.when(follow_up("a", 1)).then(REOPENED, ev.TaskReset, queued("a", 3, continues=TOLD))
    story.when(follow_up("a", 2)).then(
        REOPENED, ev.TaskReset, queued("a", 3, continues=going_on("a", 2, "Now the tests."))
    )


def test_a_second_follow_up_goes_on_from_the_run_of_the_first() -> None:
    story = going().when(record("a", 2, AgentStatus.RUNNING, agent_id=agent_id("a"))).outcome
    story = story.when(finish("a", 2, agent_id=agent_id("a"))).outcome
    wanted = TOLD.model_copy(update={"run_id": "run-a-2"})
    for number in (1, 2):
        story.when(follow_up("a", number)).then(REOPENED, ev.TaskReset, queued("a", 3, continues=wanted))


def test_after_a_follow_up_that_never_came_to_be_the_run_before_it_counts() -> None:
    story = going().when(reject("a", 2, GONE)).then(ev.AttemptFailed, task_failed("a", GONE), ev.OrchestrationFailed)
    story.when(follow_up("a", 1)).then(REOPENED, ev.TaskReset, queued("a", 3, continues=TOLD))


def test_an_agent_that_cannot_be_told_any_more_fails_the_task() -> None:
    """Another one would know nothing of what the prompt speaks of."""
    then = going().when(reject("a", 2, GONE)).outcome
    assert then.task("a").status is TaskStatus.FAILED


def test_a_follow_up_that_the_provider_may_take_later_is_tried_again() -> None:
    then = going().when(reject("a", 2, OVERLOADED), at=after(40)).then(ev.AttemptFailed, ev.TaskRetryScheduled)
    assert then.task("a").retry_count == 1


def at_it() -> Given:
    """The agent is at work on what it was told."""
    return going().when(record("a", 2, AgentStatus.RUNNING, agent_id=agent_id("a"))).outcome


AGAIN = TOLD.model_copy(update={"run_id": "run-a-2"})
"""The same words for the same agent, behind the run in which it failed."""


def test_a_follow_up_that_failed_is_told_the_same_agent_again() -> None:
    story = at_it().when(observe("a", AgentStatus.FAILED, 2, agent_id=agent_id("a")), at=after(40))
    due_at = after(41)
    retried = story.then(
        ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("a", 1, due_at).model_copy(update={"continues": AGAIN})
    )
    retried.when(TICK, at=due_at).then(queued("a", 3, continues=AGAIN))


def test_one_that_never_took_effect_is_told_again_behind_the_run_before() -> None:
    story = going().when(reject("a", 2, OVERLOADED), at=after(40)).outcome
    story.when(TICK, at=after(60)).then(queued("a", 3, continues=TOLD))


def test_a_retry_by_hand_tells_the_same_again_and_a_restart_begins_anew() -> None:
    failed = going().when(reject("a", 2, GONE)).outcome
    failed.when(retry("a")).then(REOPENED, task_reset("a", "RETRY", TOLD), queued("a", 3, continues=TOLD))
    failed.when(restart("a")).then(REOPENED, task_reset("a", "RESTART"), queued("a", 3))


def test_a_retry_by_hand_of_the_task_itself_begins_anew() -> None:
    failed = given(created("a"), activated(), queued("a"), started("a")).when(reject("a")).outcome
    failed.when(retry("a")).then(REOPENED, task_reset("a", "RETRY"), queued("a", 2))


def test_a_retry_of_a_follow_up_whose_agent_was_deleted_is_refused() -> None:
    failed = going().when(reject("a", 2, GONE)).outcome.when(delete_agent("a")).outcome
    failed.when(retry("a")).then_refused("INVALID_STATE_TRANSITION")
    failed.when(restart("a")).then(REOPENED, task_reset("a", "RESTART"), queued("a", 3))


def test_the_agent_of_a_follow_up_that_is_to_be_told_again_is_not_deleted_meanwhile() -> None:
    """What no other agent could be told would be told to one that is about to go."""
    waits = going().when(reject("a", 2, OVERLOADED), at=after(40)).outcome
    waits.when(delete_agent("a")).then_refused("ALREADY_ACTIVE")
    skipped = waits.when(skip("a")).outcome
    skipped.when(delete_agent("a")).then(ev.AgentDeleteRequested)


def stopped_by_a_pause(end: AgentStatus) -> Given:
    return at_it().when(PAUSE).outcome.when(observe("a", end, 2, agent_id=agent_id("a"))).outcome


def test_what_the_user_said_outlives_a_pause() -> None:
    plain = going_on("a").model_copy(update={"run_id": "run-a-2"})
    story = stopped_by_a_pause(AgentStatus.STOPPED).when(RESUME).then(resumed(), queued("a", 3, continues=plain))
    story = story.and_then(started("a", 3, agent_id=agent_id("a")))
    retried = story.when(reject("a", 3, OVERLOADED), at=after(40)).outcome
    retried.when(TICK, at=after(60)).then(queued("a", 4, continues=AGAIN))
    gone = story.when(reject("a", 3, GONE)).then(ev.AttemptFailed, task_failed("a", GONE), ev.OrchestrationFailed)
    assert gone.task("a").failure == GONE


def test_an_agent_that_expired_in_a_pause_is_told_again_what_the_user_said() -> None:
    """It may refuse, and then the task fails and says so; another agent would do the whole task once more."""
    stopped_by_a_pause(AgentStatus.EXPIRED).when(RESUME).then(resumed(), queued("a", 3, continues=AGAIN))


def test_a_follow_up_that_was_given_up_with_another_task_comes_back_with_it() -> None:
    tasks = ("a", make_task("b", max_retries=0))
    before = given(created(*tasks, execution_mode="parallel"), activated(), done("a"), running("b"))
    story = before.when(follow_up("a")).outcome.when(observe("b", AgentStatus.FAILED)).outcome
    assert story.task("a").status is TaskStatus.CANCELLED
    story.when(retry("b")).then(
        REOPENED,
        task_reset("b", "RETRY"),
        task_reset("a", "REVIVED", TOLD),
        queued("a", 3, continues=TOLD),
        queued("b", 2),
    )


def test_dependants_of_a_task_that_goes_on_wait_for_it_again() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    before = given(created(*tasks, execution_mode="parallel"), activated(), done("a"), queued("b"))
    before.when(follow_up("a")).then(ev.TaskReset, ev.AttemptWithdrawn, queued("a", 2, continues=TOLD))


def test_with_a_lost_dependency_the_result_of_a_task_is_not_given_up_for_a_follow_up() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)))
    story = given(created(*tasks), activated(), done("a"), running("b")).when(finish("b")).outcome
    story = story.when(restart("a")).outcome.and_then(started("a", 2)).when(reject("a", 2)).outcome
    then = story.when(follow_up("b")).then_refused("INVALID_STATE_TRANSITION")
    assert then.task("b").status is TaskStatus.COMPLETED


def test_while_an_agent_of_the_task_is_at_work_it_is_not_told_anything_else() -> None:
    at_work = given(created("a"), activated(), running("a"))
    at_work.when(follow_up("a")).then_refused("ALREADY_ACTIVE")
    going().when(follow_up("a")).then_refused("ALREADY_ACTIVE")


def test_a_task_that_starts_by_itself_needs_no_follow_up() -> None:
    retrying = given(created("a"), activated(), running("a")).when(observe("a", AgentStatus.FAILED)).outcome
    retrying.when(follow_up("a")).then_refused("INVALID_STATE_TRANSITION")


def test_an_attempt_that_never_had_an_agent_cannot_go_on() -> None:
    refused = given(created("a"), activated(), queued("a"), started("a")).when(reject("a")).outcome
    refused.when(follow_up("a")).then_refused("AGENT_NOT_FOUND")
    withdrawn = given(created("a"), activated(), queued("a")).when(CANCEL).outcome
    withdrawn.when(follow_up("a")).then_refused("AGENT_NOT_FOUND")
    withdrawn.when(follow_up("x")).then_refused("AGENT_NOT_FOUND")


def test_an_agent_that_is_deleted_cannot_go_on() -> None:
    story = completed().when(delete_agent("a")).outcome
    story.when(follow_up("a")).then_refused("AGENT_NOT_FOUND")
    story.when(agent_is_deleted("a")).outcome.when(follow_up("a")).then_refused("AGENT_NOT_FOUND")


def test_where_the_provider_chose_the_agent_s_id_that_one_goes_on() -> None:
    before = given(created("a"), activated(), queued("a"), started("a", api_version="v0"))
    story = before.when(record("a", agent_id="bc-chosen", run_id=None)).outcome
    story = story.when(finish("a", agent_id="bc-chosen")).outcome.when(follow_up("a")).outcome
    assert story.attempt("a").continues == ev.Continuation(
        agent_id="bc-chosen", api_version="v0", run_id=None, prompt="Now the tests."
    )
    assert story.when(start("a", 2)).outcome.attempt("a").continues is not None

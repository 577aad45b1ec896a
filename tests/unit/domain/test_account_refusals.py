"""What a refusal of the account, which every other create would meet, means for the orchestration."""

import pytest

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from tests.support.given import Given, given
from tests.support.orchestrations import (
    OVERLOADED,
    REFUSED,
    activated,
    after,
    change,
    created,
    finish,
    observe,
    queued,
    record,
    reject,
    restart,
    retry,
    retry_scheduled,
    running,
    start,
    started,
    status_changed,
    stop_requested,
    task_cancelled,
    task_failed,
    task_reset,
)

WHY = "the provider refuses every agent of this account"
NO_MONEY = ev.Failure(code="QUOTA_EXCEEDED", message="the provider refused the agent: no usage left")
REOPENED = ev.OrchestrationReopened()


def in_turn() -> Given:
    """One after the other: a's create was sent, b and c have not begun."""
    return given(created("a", "b", "c", failure_policy="continue"), activated(), queued("a"), started("a"))


def at_once() -> Given:
    """In parallel: a's create and c's were sent, b's agent runs, d is queued, e waits for a place."""
    return given(
        created("a", "b", "c", "d", "e", execution_mode="parallel", max_parallel=4, failure_policy="continue"),
        activated(),
        [queued(task) for task in "abcd"],
        started("a"),
        running("b")[1:],
        started("c"),
    )


@pytest.mark.parametrize("code", ["QUOTA_EXCEEDED", "INVALID_API_KEY", "FORBIDDEN"])
def test_no_further_task_is_begun_also_under_continue_and_the_orchestration_fails_and_says_why(code: str) -> None:
    failure = ev.Failure(code=code, message="see your plan")
    then = (
        in_turn()
        .when(reject("a", failure=failure))
        .then(
            ev.AttemptFailed,
            task_failed("a", failure),
            task_cancelled("b", reason=WHY),
            task_cancelled("c", reason=WHY),
            ev.OrchestrationFailed,
        )
    )
    assert then.state.status is OrchestrationStatus.FAILED
    assert then.state.failure == ev.Failure(code=code, message="task 'Task a' failed: see your plan")


def test_agents_at_work_may_finish_and_what_has_no_agent_is_given_up() -> None:
    refused = at_once().when(reject("a", failure=NO_MONEY))
    then = refused.then(
        ev.AttemptFailed, task_failed("a", NO_MONEY), task_cancelled("d", reason=WHY), task_cancelled("e", reason=WHY)
    )
    came_up = then.when(record("c")).then(ev.AgentCreated)
    ended = came_up.when(finish("b")).outcome.when(finish("c")).outcome
    assert [task.status for task in ended.state.tasks.values()] == [
        TaskStatus.FAILED,
        TaskStatus.COMPLETED,
        TaskStatus.COMPLETED,
        TaskStatus.CANCELLED,
        TaskStatus.CANCELLED,
    ]
    assert ended.state.status is OrchestrationStatus.FAILED
    assert (ended.state.failure and ended.state.failure.code) == "QUOTA_EXCEEDED"
    assert ended.state.summary == "2/5 tasks completed"


def test_an_agent_that_fails_after_the_refusal_is_not_tried_again_for_that_would_be_refused() -> None:
    refused = at_once().when(reject("a", failure=NO_MONEY), at=after(1)).outcome
    then = refused.when(observe("b", AgentStatus.FAILED), at=after(5)).then(
        status_changed("b", AgentStatus.FAILED), ev.AttemptFailed, ev.TaskFailed
    )
    assert then.task("b").failure == ev.Failure(
        code="AGENT_FAILED", message="the agent ended in an error", retryable=True
    )
    ended = then.when(reject("c", failure=OVERLOADED), at=after(6)).outcome
    assert (ended.state.failure and ended.state.failure.code) == "QUOTA_EXCEEDED", "not what failed last"


def test_an_agent_that_fails_before_the_refusal_waits_for_its_retry_and_is_then_given_up() -> None:
    waiting = at_once().when(observe("b", AgentStatus.FAILED)).outcome
    waiting.when(reject("a", failure=NO_MONEY)).then(
        ev.AttemptFailed,
        task_failed("a", NO_MONEY),
        task_cancelled("b", reason=WHY),
        task_cancelled("d", reason=WHY),
        task_cancelled("e", reason=WHY),
    )


def test_fail_fast_stops_what_runs_as_for_any_other_failure() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), queued("a"), started("a"), running("b"))
    before.when(reject("a", failure=NO_MONEY)).then(
        ev.AttemptFailed, task_failed("a", NO_MONEY), stop_requested("b", "FAIL_FAST")
    )


def test_when_the_account_is_in_order_again_a_retry_takes_up_what_was_given_up() -> None:
    failed = in_turn().when(reject("a", failure=NO_MONEY), at=after(1)).outcome
    failed.when(retry("a"), at=after(60)).then(
        REOPENED, task_reset("a", "RETRY"), task_reset("b", "REVIVED"), task_reset("c", "REVIVED"), queued("a", 2)
    )


def test_a_failure_of_another_kind_does_not_hold_back_what_was_given_up_under_continue() -> None:
    one_failed = in_turn().when(reject("a", failure=REFUSED)).outcome
    failed = one_failed.when(start("b")).outcome.when(reject("b", failure=NO_MONEY)).outcome
    failed.when(retry("b")).then(REOPENED, task_reset("b", "RETRY"), task_reset("c", "REVIVED"), queued("b", 2))
    failed.when(retry("a")).then(REOPENED, task_reset("a", "RETRY"), queued("a", 2))


def test_a_task_that_is_restarted_after_the_refusal_has_its_retries_again() -> None:
    failed = in_turn().when(reject("a", failure=NO_MONEY), at=after(1)).outcome
    again = failed.when(restart("b"), at=after(60)).outcome.when(start("b"), at=after(60)).outcome
    running_again = again.when(record("b"), at=after(61)).outcome
    running_again.when(observe("b", AgentStatus.FAILED), at=after(90)).then(
        ev.AgentStatusChanged, ev.AttemptFailed, retry_scheduled("b", 1, after(91))
    )


def test_while_it_is_being_cancelled_nothing_is_given_up_a_second_time() -> None:
    cancelling = at_once().and_then(ev.OrchestrationCancelRequested())
    cancelling.when(reject("a", failure=NO_MONEY)).then(ev.AttemptFailed, task_failed("a", NO_MONEY))


def test_what_failed_before_counts_under_the_policy_of_now() -> None:
    """Given up under fail_fast: whoever goes on with `continue` wants it done whatever else has failed."""
    before = given(
        created("a", "b", "c", execution_mode="parallel", max_parallel=2),
        activated(),
        queued("a"),
        started("a"),
        queued("b"),
        started("b"),
    )
    first = before.when(reject("a")).outcome.when(reject("b", failure=OVERLOADED)).outcome
    lenient = first.when(change(failure_policy="continue")).outcome
    assert lenient.task("c").status is TaskStatus.CANCELLED
    lenient.when(restart("b")).then(
        REOPENED, task_reset("b", "RESTART"), task_reset("c", "REVIVED"), queued("b", 2), queued("c")
    )

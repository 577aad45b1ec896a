"""An attempt is started, its agent becomes known, or is refused."""

import pytest

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.state import Phase
from tests.support.given import Given, given
from tests.support.orchestrations import (
    OVERLOADED,
    REFUSED,
    activated,
    after,
    agent_created,
    agent_id,
    attempt_failed,
    attempt_id,
    created,
    done,
    drop_model,
    finish,
    going_on,
    make_task,
    queued,
    record,
    reject,
    retry_scheduled,
    running,
    start,
    started,
    task_failed,
)


def test_a_queued_attempt_is_started_under_the_id_that_was_chosen() -> None:
    before = given(created("a"), activated(), queued("a"))
    then = before.when(start("a"), at=after(5)).then(started("a", deadline_at=after(125)))
    task, attempt = then.task("a"), then.attempt("a")
    assert (task.status, task.started_at) == (TaskStatus.PROCESSING, after(5))
    assert (attempt.phase, attempt.agent_id, attempt.started_at) == (Phase.STARTED, agent_id("a"), after(5))


@pytest.mark.parametrize(
    ("of_task", "of_all", "sent"), [(None, None, None), (None, "o3", "o3"), ("x", "o3", "x"), ("x", None, "x")]
)
def test_a_task_s_own_model_comes_before_the_one_for_all(
    of_task: str | None, of_all: str | None, sent: str | None
) -> None:
    before = given(created(make_task("a", model=of_task), model=of_all), activated(), queued("a"))
    before.when(start("a")).then(started("a", model=sent))


def test_a_model_that_the_provider_refuses_is_left_out_once_and_that_is_told() -> None:
    before = given(created(make_task("a", model="o9")), activated(), queued("a"), started("a", model="o9"))
    then = before.when(drop_model("a")).then(
        ev.AttemptModelDropped(
            task_id="a",
            attempt_id=attempt_id("a"),
            model="o9",
            warning="model 'o9' is left out and the provider chooses one: it is not known",
        )
    )
    assert then.attempt("a").model is None
    assert then.attempt("a").phase is Phase.STARTED
    assert then.state.warnings == ("model 'o9' is left out and the provider chooses one: it is not known",)
    then.when(drop_model("a")).then_nothing()


def test_a_model_that_the_user_insists_on_is_never_left_out() -> None:
    strict = created(make_task("a", model="o9"), strict_model=True)
    given(strict, activated(), queued("a"), started("a", model="o9")).when(drop_model("a")).then_nothing()


def test_the_model_of_an_agent_that_exists_or_goes_on_stays() -> None:
    known = given(created("a"), activated(), queued("a"), started("a", model="o9"), agent_created("a"))
    known.when(drop_model("a")).then_nothing()
    again = given(created("a"), activated(), queued("a", continues=going_on("a")), started("a", model="o9"))
    again.when(drop_model("a")).then_nothing()


def test_another_model_than_the_refused_one_stays() -> None:
    given(created("a"), activated(), queued("a"), started("a", model="o3")).when(drop_model("a")).then_nothing()


def test_the_deadline_is_the_task_s_own() -> None:
    before = given(created(make_task("a", timeout_minutes=7)), activated(), queued("a"))
    before.when(start("a"), at=after(1)).then(started("a", deadline_at=after(8)))


def test_started_twice_is_started_once() -> None:
    before = given(created("a"), activated(), queued("a"))
    other = start("a").model_copy(update={"agent_id": "bc-another", "branch_name": "another"})
    before.when(start("a")).outcome.when(other, at=after(1)).then_nothing()


@pytest.mark.parametrize("known", [running("a"), done("a")])
def test_an_attempt_past_its_start_is_not_started_again(known: tuple[ev.OrchestrationEvent, ...]) -> None:
    given(created("a", "b"), activated(), known).when(start("a")).then_nothing()


def test_an_attempt_that_was_cancelled_in_the_queue_is_never_started() -> None:
    before = given(created("a", "b", execution_mode="parallel"), activated(), queued("a"), queued("b"), started("a"))
    after_failure = before.when(reject("a")).outcome
    assert after_failure.task("b").status is TaskStatus.CANCELLED
    after_failure.when(start("b")).then_nothing()


def test_nothing_starts_while_the_orchestration_is_not_under_way() -> None:
    given(created("a"), queued("a")).when(start("a")).then_nothing()


def launched() -> Given:
    return given(created(make_task("a", max_retries=1), "b"), activated(), queued("a"), started("a"))


def test_the_agent_is_recorded_once_it_is_known() -> None:
    then = launched().when(record("a")).then(agent_created("a"))
    attempt = then.attempt("a")
    assert (attempt.phase, attempt.status, attempt.run_id) == (Phase.CREATED, AgentStatus.CREATING, "run-a-1")
    then.when(record("a")).then_nothing()


def test_the_provider_s_own_id_replaces_the_chosen_one() -> None:
    then = launched().when(record("a", agent_id="bc-of-the-provider")).then(ev.AgentCreated)
    assert then.attempt("a").agent_id == "bc-of-the-provider"


@pytest.mark.parametrize("status", [s for s in AgentStatus if s.is_terminal])
def test_an_end_in_the_create_s_reply_is_left_to_the_observation_that_reads_the_result(status: AgentStatus) -> None:
    then = (
        launched()
        .when(record("a", status=status))
        .then(agent_created("a", status=AgentStatus.RUNNING).model_copy(update={"provider_status": status.value}))
    )
    assert then.task("a").status is TaskStatus.PROCESSING
    then.when(finish("a")).then(ev.AgentStatusChanged, ev.TaskCompleted, queued("b"))


@pytest.mark.parametrize("status", [AgentStatus.RUNNING, AgentStatus.UNKNOWN])
def test_a_create_may_answer_any_other_status(status: AgentStatus) -> None:
    launched().when(record("a", status=status)).then(agent_created("a", status=status))


def test_an_agent_is_not_recorded_before_its_attempt_is_started() -> None:
    given(created("a"), activated(), queued("a")).when(record("a")).then_nothing()


def test_a_refusal_for_good_fails_the_task_at_once() -> None:
    then = (
        launched()
        .when(reject("a"), at=after(1))
        .then(ev.AttemptFailed, task_failed("a"), ev.TaskCancelled, ev.OrchestrationFailed)
    )
    assert (then.task("a").status, then.task("a").retry_count) == (TaskStatus.FAILED, 0)
    assert then.state.status is OrchestrationStatus.FAILED


def test_a_refusal_that_may_pass_is_tried_again() -> None:
    then = (
        launched()
        .when(reject("a", failure=OVERLOADED))
        .then(attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, after(1)))
    )
    assert (then.task("a").status, then.attempt("a").phase) == (TaskStatus.PENDING, Phase.ENDED)


def test_a_refusal_that_may_pass_fails_the_task_once_its_retries_are_used_up() -> None:
    before = launched().when(reject("a", failure=OVERLOADED)).outcome.and_then(queued("a", 2), started("a", 2))
    before.when(reject("a", 2, OVERLOADED)).then(
        attempt_failed("a", OVERLOADED, 2), task_failed("a", OVERLOADED), ev.TaskCancelled, ev.OrchestrationFailed
    )


def test_refused_twice_is_refused_once() -> None:
    launched().when(reject("a", failure=OVERLOADED)).outcome.when(reject("a")).then_nothing()


def test_an_agent_that_is_known_cannot_be_refused_any_more() -> None:
    launched().when(record("a")).outcome.when(reject("a")).then_nothing()


def test_an_attempt_in_the_queue_cannot_be_refused() -> None:
    given(created("a"), activated(), queued("a")).when(reject("a")).then_nothing()


def test_a_refused_attempt_shows_no_agent_at_work() -> None:
    then = launched().when(reject("a")).outcome
    assert then.attempt("a").status is None


def test_a_refused_attempt_cost_nothing_and_lasted_until_the_refusal() -> None:
    then = launched().when(reject("a"), at=after(2)).outcome
    attempt = then.attempt("a")
    assert (attempt.cost, attempt.duration_ms, attempt.failure, attempt.ended_at) == (0.0, 120_000, REFUSED, after(2))

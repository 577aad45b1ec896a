"""The log for people: what it says of every event, at which level, and of which task."""

from typing import Any, get_args

import pytest

from services.api.log_lines import Level, LogLine, log_lines
from services.api.projections import apply
from shared.catalogue import CATALOGUE
from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationEvent, OrchestrationStatus
from shared.domain.state import Orchestration
from shared.envelope import Stored
from tests.support.orchestrations import (
    OVERLOADED,
    REFUSED,
    TEAM,
    after,
    agent_created,
    agent_id,
    attempt_failed,
    attempt_id,
    created,
    make_spec,
    make_task,
    missed,
    queued,
    result_awaited,
    retry_scheduled,
    started,
    status_changed,
    stop_requested,
    task_completed,
    task_failed,
)
from tests.unit.projections.histories import START, Step, commits

COUNTS: Any = dict.fromkeys(
    [f"{kind}_tasks" for kind in ("total", "pending", "processing", "completed", "failed", "cancelled", "skipped")]
    + ["duration_ms"],
    1,
)
STATISTICS = ev.Statistics(**COUNTS, total_cost=0.5)
AGAIN = ev.Continuation(agent_id=agent_id("a"), api_version="v1")
OF_A: dict[str, Any] = {"task_id": "a", "attempt_id": attempt_id("a")}
TWO_WARNINGS = created("a", "b", warnings=["model gpt-99 is not known", "careful"])
BEGINNING: list[Step] = [(TWO_WARNINGS,), (queued("a"),)]


def told(*steps: Step) -> list[LogLine]:
    """The lines of a history, by commits."""
    state: Orchestration | None = None
    lines: list[LogLine] = []
    for sequence, commit in enumerate(commits("orc-1", steps, team=TEAM), start=1):
        stored = Stored(sequence, commit)
        state = apply(state, stored)
        lines += log_lines(stored, state)
    return lines


def line_of(event: OrchestrationEvent) -> LogLine:
    """The last line of a history that ends with this event."""
    return told(*BEGINNING, (event,))[-1]


SAID: list[tuple[OrchestrationEvent, str, str]] = [
    (ev.OrchestrationActivated(), "info", "activated by ann"),
    (ev.OrchestrationUpdated(spec=make_spec(), changed=("name", "tags")), "info", "changed by ann: name, tags"),
    (ev.OrchestrationPaused(mode="stop"), "info", "paused by ann; agents that run are stopped"),
    (ev.OrchestrationPaused(mode="drain"), "info", "paused by ann; agents that run may finish"),
    (ev.OrchestrationResumed(), "info", "resumed by ann"),
    (ev.OrchestrationCancelRequested(), "warning", "is to be cancelled, asked for by ann"),
    (ev.OrchestrationCancelRequested(delete=True), "warning", "is to be cancelled and then deleted, asked for by ann"),
    (ev.OrchestrationCancelled(summary="0/2 done", statistics=STATISTICS), "warning", "CANCELLED: 0/2 done"),
    (ev.OrchestrationReopened(), "info", "had ended and is under way again"),
    (ev.OrchestrationDeleted(), "warning", "deleted"),
    (
        ev.OrchestrationCompleted(status=OrchestrationStatus.COMPLETED, summary="All", statistics=STATISTICS),
        "info",
        "COMPLETED: All",
    ),
    (
        ev.OrchestrationCompleted(status=OrchestrationStatus.PARTIAL_COMPLETED, summary="1/2", statistics=STATISTICS),
        "warning",
        "PARTIAL_COMPLETED: 1/2",
    ),
    (
        ev.OrchestrationFailed(failure=REFUSED, summary="0/2", statistics=STATISTICS),
        "error",
        "FAILED: 0/2; INVALID_REPOSITORY: no access",
    ),
    (
        ev.ScheduleFired(run_id="r", due_at=after(0)),
        "info",
        "came due at 2026-11-01T12:00:00Z: orchestration r is to be created",
    ),
    (
        ev.ScheduleFired(run_id="r", due_at=after(0), skipped=3),
        "warning",
        "came due at 2026-11-01T12:00:00Z: orchestration r is to be created; 3 times before it were missed",
    ),
    (ev.ScheduledRunCreated(run_id="r"), "info", "orchestration r is created"),
    (ev.TaskAdded(task=make_task("c")), "info", "Task c: added by ann"),
    (
        ev.TaskUpdated(task_id="a", spec=make_task("a", title="Renamed"), changed=("title",)),
        "info",
        "Renamed: changed by ann: title",
    ),
    (ev.TaskReset(task_id="a", reason="RETRY"), "info", "Task a: is to be tried again, asked for by ann"),
    (ev.TaskReset(task_id="a", reason="RESTART"), "info", "Task a: starts anew, asked for by ann"),
    (
        ev.TaskReset(task_id="a", reason="FOLLOW_UP", continues=AGAIN),
        "info",
        "Task a: goes on with its agent on a new prompt by ann",
    ),
    (
        ev.TaskReset(task_id="a", reason="REVIVED"),
        "info",
        "Task a: is PENDING again: what it was given up for is taken up again",
    ),
    (ev.TaskSkipped(task_id="b"), "info", "Task b: skipped by ann"),
    (
        queued("b", priority="high", base_ref="cursor/a-1"),
        "info",
        "Task b: attempt 1 is queued with high priority and starts from cursor/a-1",
    ),
    (
        queued("a", 2).model_copy(update={"continues": AGAIN}),
        "info",
        "Task a: attempt 2 is queued with medium priority and goes on with agent bc-a-1",
    ),
    (
        ev.AttemptWaiting(**OF_A, reason="budget", until=after(60)),
        "warning",
        "Task a: attempt 1 waits for room in the budget (QUOTA_EXCEEDED), looked at again at 2026-11-01T13:00:00Z",
    ),
    (
        ev.AttemptWaiting(**OF_A, reason="quota"),
        "warning",
        "Task a: attempt 1 waits for the quota of the provider (QUOTA_EXCEEDED)",
    ),
    (
        ev.AttemptModelDropped(**OF_A, model="o9", warning="model 'o9' is left out"),
        "warning",
        "Task a: model 'o9' is left out",
    ),
    (ev.AttemptWaiting(**OF_A, reason="slot"), "info", "Task a: attempt 1 waits for a free slot"),
    (
        ev.AttemptWaiting(**OF_A, reason="pause"),
        "info",
        "Task a: attempt 1 waits for the team's queue to be resumed",
    ),
    (
        ev.AttemptWaiting(**OF_A, reason="rate_limit"),
        "info",
        "Task a: attempt 1 waits for the rate limit of the provider",
    ),
    (
        started("a", model="o3", api_version="v0"),
        "info",
        "Task a: attempt 1 starts its agent on branch cursor/a-1 with model o3; it may take until 2026-11-01T14:00:00Z",
    ),
    (
        started("a", api_version="v1"),
        "info",
        "Task a: attempt 1 starts its agent; it may take until 2026-11-01T14:00:00Z",
    ),
    (agent_created("a"), "info", "Task a: attempt 1 has agent bc-a-1, see https://cursor.com/agents/bc-a-1"),
    (status_changed("a", AgentStatus.RUNNING), "info", "Task a: agent bc-a-1 is RUNNING, known by poll"),
    (
        status_changed("a", AgentStatus.FAILED, provider_status="ERROR"),
        "warning",
        "Task a: agent bc-a-1 is FAILED (ERROR), known by poll",
    ),
    (
        missed("a", since=after(1), times=2),
        "warning",
        "Task a: agent bc-a-1 is not found at the provider since 2026-11-01T12:01:00Z;"
        " after some minutes it counts as lost",
    ),
    (
        result_awaited("a", "pull_request", until=after(1)),
        "info",
        "Task a: attempt 1: its agent has finished, looking for its pull request until 2026-11-01T12:01:00Z",
    ),
    (
        result_awaited("a", "branch", "pull_request", "summary", "usage", until=after(1)),
        "info",
        "Task a: attempt 1: its agent has finished, looking for its branch, pull request, summary and usage"
        " until 2026-11-01T12:01:00Z",
    ),
    (
        stop_requested("a", "TIMEOUT"),
        "warning",
        "Task a: attempt 1 is to be stopped: it takes longer than it may (TIMEOUT)",
    ),
    (stop_requested("a", "FAIL_FAST"), "warning", "Task a: attempt 1 is to be stopped: another task failed for good"),
    (stop_requested("a", "PAUSE"), "warning", "Task a: attempt 1 is to be stopped: paused by ann"),
    (stop_requested("a", "CANCEL"), "warning", "Task a: attempt 1 is to be stopped: the orchestration is cancelled"),
    (stop_requested("a", "REQUESTED"), "warning", "Task a: attempt 1 is to be stopped: asked for by ann"),
    (
        ev.AttemptStopped(**OF_A, reason="PAUSE", duration_ms=3_723_400, cost=0.126),
        "info",
        "Task a: attempt 1 was stopped after 1 h 2 min 3 s for $0.13",
    ),
    (
        ev.AttemptWithdrawn(**OF_A, reason="PAUSE"),
        "info",
        "Task a: attempt 1 is taken back: it had not started before the pause",
    ),
    (ev.AttemptWithdrawn(**OF_A, reason="REQUEUE"), "info", "Task a: attempt 1 is taken back: it is queued anew"),
    (ev.AttemptWithdrawn(**OF_A, reason="BUDGET"), "info", "Task a: attempt 1 is taken back: maxCost is spent"),
    (
        ev.AttemptWithdrawn(**OF_A, reason="AGENT_GONE"),
        "info",
        "Task a: attempt 1 is taken back: the agent that it was to go on with is gone",
    ),
    (
        attempt_failed("a", OVERLOADED).model_copy(update={"duration_ms": 61_000}),
        "warning",
        "Task a: attempt 1 failed after 1 min 1 s: SERVICE_UNAVAILABLE: try later",
    ),
    (retry_scheduled("a", 1, after(5)), "warning", "Task a: retry 1 of 3 comes at 2026-11-01T12:05:00Z"),
    (ev.TaskRetryDue(task_id="a"), "info", "Task a: its retry is due, and waits for room"),
    (
        task_completed("a"),
        "info",
        "Task a: completed after 1 min 0 s for $0.25: DELIVERED, branch cursor/a-1, Did a",
    ),
    (task_completed("a", branch=None, cost=0), "info", "Task a: completed after 1 min 0 s: NO_CHANGE, Did a"),
    (task_failed("a"), "error", "Task a: failed for good: INVALID_REPOSITORY: no access"),
    (
        ev.TaskCancelled(task_id="b", reason="another task failed for good", cause="FAIL_FAST"),
        "warning",
        "Task b: cancelled: another task failed for good",
    ),
    (
        ev.AgentDeleteRequested(**OF_A, agent_id="bc-1"),
        "info",
        "Task a: agent bc-1 is to be deleted, asked for by ann",
    ),
    (ev.AgentDeleted(**OF_A, agent_id="bc-1"), "info", "Task a: agent bc-1 is deleted"),
    (ev.AgentArchived(**OF_A, agent_id="bc-1"), "info", "Task a: agent bc-1 is archived"),
]


@pytest.mark.parametrize(("event", "level", "message"), SAID, ids=[message for *_, message in SAID])
def test_what_is_said_of_an_event(event: OrchestrationEvent, level: str, message: str) -> None:
    view = line_of(event).view()
    assert (view["level"], view["message"], view["event"]) == (level, message, event.type)


def test_every_type_of_event_is_told_of() -> None:
    assert {type(event) for event, *_ in SAID} | {ev.OrchestrationCreated} == set(CATALOGUE.values())


@pytest.mark.parametrize(
    ("kind", "said_of"),
    [(ev.ResetReason, ev.TaskReset), (ev.LaunchWait, ev.AttemptWaiting), (ev.WithdrawReason, ev.AttemptWithdrawn),
     (ev.StopReason, ev.AttemptStopRequested)],
)  # fmt: skip
def test_every_reason_is_told_of(kind: Any, said_of: type[OrchestrationEvent]) -> None:
    reasons = {event.reason for event, *_ in SAID if isinstance(event, said_of) and hasattr(event, "reason")}
    assert reasons == set(get_args(kind))


def test_an_orchestration_begins_with_its_creation_and_its_warnings() -> None:
    lines = told(BEGINNING[0])
    assert [(line.level, line.message) for line in lines] == [
        (Level.INFO, "created by ann: 2 tasks on https://github.com/acme/shop at main"),
        (Level.WARNING, "model gpt-99 is not known"),
        (Level.WARNING, "careful"),
    ]
    assert {line.event for line in lines} == {"orchestration.created"}
    assert told((created("a"),))[0].message == "created by ann: 1 task on https://github.com/acme/shop at main"


def test_a_retry_says_when_and_why() -> None:
    failed = (attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, after(1)))
    line = told(*BEGINNING, failed)[-1]
    assert line.message == "Task a: retry 1 of 3 comes at 2026-11-01T12:01:00Z, for SERVICE_UNAVAILABLE: try later"


def test_a_line_tells_what_it_is_about() -> None:
    line = line_of(stop_requested("a", "TIMEOUT"))
    assert line.view() == {
        "sequence": 3,
        "time": "2026-11-01T12:02:00.123456Z",
        "level": "warning",
        "message": "Task a: attempt 1 is to be stopped: it takes longer than it may (TIMEOUT)",
        "event": "attempt.stop_requested",
        "task_id": "a",
        "task_title": "Task a",
        "attempt_id": attempt_id("a"),
    }
    whole = line_of(ev.OrchestrationActivated())
    assert (whole.task_id, whole.task_title, whole.attempt_id) == (None, None, None)
    assert whole.time > START


def test_a_title_is_that_of_its_time() -> None:
    renamed = ev.TaskUpdated(task_id="a", spec=make_task("a", title="Renamed"), changed=("title",))
    lines = told(*BEGINNING, (started("a"),), (renamed,), (agent_created("a"),))
    assert [line.task_title for line in lines[-3:]] == ["Task a", "Renamed", "Renamed"]


def test_what_others_wrote_neither_breaks_a_line_nor_drives_a_terminal() -> None:
    result = ev.TaskResult(outcome="NO_CHANGE", summary="One\n\ttwo\r\n\x1b[2J\x00 \u2028 three " + "x" * 1000)
    line = line_of(task_completed("a").model_copy(update={"result": result}))
    assert line.message.startswith("Task a: completed after 1 min 0 s for $0.25: NO_CHANGE, One two [2J three xxx")
    assert line.message.isprintable()
    assert len(line.message) == 500

"""Whatever is seen of an agent's life, in whatever order, however often, and however much of it not at all: once the
last look has come, the end is the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain import events as ev
from shared.domain.commands import AnyCommand, Deciding
from shared.domain.events import AgentStatus
from shared.domain.evolve import evolve
from shared.domain.orchestration import decide
from shared.domain.patience import Patience
from shared.domain.state import Attempt, Orchestration
from tests.support.given import given as having
from tests.support.orchestrations import (
    activated,
    after,
    agent_created,
    attempt_failed,
    created,
    make_task,
    observe,
    queued,
    record,
    report_missing,
    retry_scheduled,
    running,
    started,
    stop_requested,
)

PATIENCE = Patience(result_grace=timedelta(minutes=1), lost_after=timedelta(minutes=5))
LOOKS = 7
PR = "https://github.com/acme/shop/pull/7"
USAGE = ev.Usage(input_tokens=1, output_tokens=2, total_tokens=3)
END: dict[str, Any] = {"branch": "cursor/a-2", "summary": "Did a", "duration_ms": 60_000, "cost": 0.25}

CREATING = observe("a", AgentStatus.CREATING, 2)
RUNNING = observe("a", AgentStatus.RUNNING, 2)
PONDERING = observe("a", AgentStatus.UNKNOWN, 2, provider_status="PONDERING")
NOT_FOUND = report_missing("a", 2)
OF_BEFORE = observe("a", AgentStatus.FINISHED, 1, **END)
OF_OTHERS = observe("a", AgentStatus.FAILED, 2, agent_id="bc-stranger")
REPLY = record("a", 2)


def seen(status: AgentStatus = AgentStatus.FINISHED, **left: Any) -> AnyCommand:
    return observe("a", status, 2, **{**END, **left})


@dataclass(frozen=True)
class Life:
    """What looks at an agent may say, in the order in which it becomes true; the last one stays true for ever.

    `stop`: why it was to be stopped, if it was, before any of it is seen.
    """

    looks: tuple[AnyCommand, ...]
    spec: dict[str, Any] = field(default_factory=dict)
    stop: ev.StopReason | None = None
    version: ev.ApiVersion = "v1"
    is_known: bool = True


LIVES = {
    "everything at once": Life((CREATING, RUNNING, seen(pr_url=PR))),
    "one thing after the other": Life(
        (
            CREATING,
            RUNNING,
            seen(branch=None, summary=None, usage_pending=True, cost=0.9),
            seen(summary=None, usage_pending=True, cost=0.9),
            seen(usage=USAGE),
            seen(usage=USAGE, pr_url=PR),
        ),
        {"deliverable": "pr"},
    ),
    "a pull request that never comes": Life((RUNNING, seen(branch=None), seen()), {"deliverable": "pr"}),
    "no pull request wanted": Life((RUNNING, seen(branch=None), seen()), {"auto_create_pr": False}),
    "nothing changed": Life((CREATING, RUNNING, PONDERING, seen(branch=None))),
    "failed": Life((CREATING, RUNNING, PONDERING, seen(AgentStatus.FAILED))),
    "expired": Life((CREATING, seen(AgentStatus.EXPIRED, branch=None))),
    "stopped by somebody": Life((RUNNING, seen(AgentStatus.STOPPED))),
    "cancelled": Life((RUNNING, seen(AgentStatus.STOPPED, pr_url=PR)), stop="CANCEL"),
    "paused": Life((RUNNING, seen(AgentStatus.STOPPED)), stop="PAUSE"),
    "overdue": Life((RUNNING, PONDERING, seen(AgentStatus.STOPPED)), stop="TIMEOUT"),
    "finished before the stop": Life((RUNNING, seen(pr_url=PR)), stop="TIMEOUT"),
    "finished by the stop": Life((RUNNING, seen(pr_url=PR)), stop="TIMEOUT", version="v0"),
    "before the create's reply": Life((REPLY, CREATING, RUNNING, seen(), seen(pr_url=PR)), is_known=False),
    "before the create's reply, without an id": Life(
        (REPLY, CREATING, RUNNING, seen(), seen(pr_url=PR)), version="v0", is_known=False
    ),
}


def beginning(life: Life) -> Orchestration:
    """The second attempt of "a" is under way; the first one failed."""
    story = having(created(make_task("a", max_retries=2), "b", **life.spec), activated(), running("a"))
    story = story.and_then(attempt_failed("a"), retry_scheduled("a", 1, after(1)), queued("a", 2), at=after(1))
    story = story.and_then(started("a", 2, api_version=life.version), at=after(1))
    if life.is_known:
        story = story.and_then(agent_created("a", 2), at=after(1))
    if life.stop is not None:
        story = story.and_then(stop_requested("a", life.stop, 2), at=after(1))
    return story.state


def look(state: Orchestration, command: AnyCommand, at: datetime) -> Orchestration:
    """Twice, as everything may come twice; what has ended stays as it is."""
    before, deciding = second_attempt(state), Deciding(at, jitter=0.5, patience=PATIENCE)
    events = decide(state, command, deciding)
    if not events:
        return state
    for event in events:
        state = evolve(state, event, at)
    assert before.is_active, "the end was changed"
    assert decide(state, command, deciding) == [], "the same again led to something"
    if before.awaited is not None:
        assert second_attempt(state).status is AgentStatus.FINISHED, "it went back to work"
    return state


def second_attempt(state: Orchestration) -> Attempt:
    return state.tasks["a"].attempts[1]


def last_looks(state: Orchestration, life: Life, at: datetime) -> Orchestration:
    """The polls that always come: they see how things are by then, and go on until the attempt has ended."""
    for seconds in (1, 2, 4, 8, 61):
        if second_attempt(state).is_active:
            state = look(state, life.looks[-1], at + timedelta(seconds=seconds))
    return state


def end(state: Orchestration) -> dict[str, Any]:
    """All that is left of it but the times."""
    task, attempt = state.tasks["a"], second_attempt(state)
    assert not attempt.is_active
    return {
        "orchestration": state.status,
        "tasks": {name: (other.status, other.retry_count, len(other.attempts)) for name, other in state.tasks.items()},
        "result": task.result,
        "failure": task.failure and task.failure.code,
        "attempt": (attempt.ending, attempt.status, attempt.agent_id, attempt.result),
        "spent": (attempt.cost, attempt.usage, attempt.duration_ms),
        "continuation": task.continuation,
    }


def by_polls_alone(life: Life) -> dict[str, Any]:
    state, at = beginning(life), after(2)
    for command in life.looks:
        at += timedelta(seconds=1)
        state = look(state, command, at)
    return end(last_looks(state, life, at))


@pytest.mark.parametrize("name", LIVES)
def test_every_order_of_seven_looks_with_any_of_them_twice_or_never_comes_to_the_same_end(name: str) -> None:
    """All sequences of up to seven looks, of those at this agent and of some that say nothing of it."""
    life = LIVES[name]
    expected = by_polls_alone(life)
    sequences = 0
    looks = [*life.looks, NOT_FOUND, OF_BEFORE, *([OF_OTHERS] if life.is_known else [])]
    for state, at, ways in _after_all_sequences(beginning(life), looks):
        assert end(last_looks(state, life, at)) == expected
        sequences += ways
    assert sequences == sum(len(looks) ** length for length in range(LOOKS + 1))


def _after_all_sequences(
    start: Orchestration, looks: Sequence[AnyCommand]
) -> Iterator[tuple[Orchestration, datetime, int]]:
    """Each state that a sequence of looks leads to, and how many do; those that led to the same go on as one."""
    level, at = {_essence(start): (start, 1)}, after(2)
    for _ in range(LOOKS):
        yield from ((state, at, ways) for state, ways in level.values())
        at += timedelta(seconds=1)
        following: dict[str, tuple[Orchestration, int]] = {}
        for state, ways in level.values():
            for command in looks:
                then = look(state, command, at)
                key = _essence(then)
                following[key] = (then, following[key][1] + ways if key in following else ways)
        level = following
    yield from ((state, at, ways) for state, ways in level.values())


def _essence(state: Orchestration) -> str:
    """All that tells how it may go on."""
    tasks = [(task.status, task.retry_count, len(task.attempts)) for task in state.tasks.values()]
    return repr((state.status, tasks, second_attempt(state)))


# Lives and orders that nobody thought of


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Parts of the result come in any order, with or without an end that is not the agent's own."""
    looks: list[AnyCommand] = draw(st.lists(st.sampled_from([CREATING, RUNNING, PONDERING]), max_size=2, unique=True))
    status = draw(st.sampled_from([AgentStatus.FINISHED] * 4 + [AgentStatus.FAILED, AgentStatus.STOPPED]))
    stop: Any = draw(st.sampled_from([None, None, None, "CANCEL", "PAUSE", "TIMEOUT", "REQUESTED", "FAIL_FAST"]))
    wanted: dict[str, Any] = {
        "deliverable": draw(st.sampled_from(["any", "branch", "pr"])),
        "auto_create_pr": draw(st.booleans()),
        "failure_policy": draw(st.sampled_from(["fail_fast", "continue"])),
    }
    parts: dict[str, dict[str, Any]] = {
        "branch": {"branch": "cursor/a-2"},
        "summary": {"summary": "Did a"},
        "usage": {"usage": USAGE, "cost": 0.25},
    }
    if wanted["auto_create_pr"] or wanted["deliverable"] == "pr":
        parts["pull request"] = {"pr_url": PR}
    coming = draw(st.permutations(list(parts)))[: draw(st.integers(0, len(parts)))]
    left: dict[str, Any] = {"branch": None, "summary": None, "usage_pending": "usage" in coming, "cost": 0.9}
    if status is not AgentStatus.FINISHED or stop is not None:
        coming = []  # it is judged by the first look that shows its end
    for part in [None, *coming]:
        left = {**left, **(parts[part] if part else {})}
        looks.append(seen(status, **left))
    return Life(tuple(looks), wanted, stop, draw(st.sampled_from(["v0", "v1"])))


@given(life=lives(), data=st.data())
@settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_life_seen_in_any_order_comes_to_the_same_end(life: Life, data: st.DataObject) -> None:
    looks = [*life.looks, NOT_FOUND, OF_BEFORE, OF_OTHERS]
    state, at = beginning(life), after(2)
    for command in data.draw(st.lists(st.sampled_from(looks), max_size=20)):
        at += timedelta(seconds=data.draw(st.sampled_from([0, 0.001, 1, 2])))
        state = look(state, command, at)
    assert end(last_looks(state, life, at)) == by_polls_alone(life)

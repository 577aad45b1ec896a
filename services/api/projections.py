"""What the read side shows: pure functions from commits to states, and from states to rows. No clock, no chance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from services.api.terms import changed_terms, searchable
from shared.domain.evolve import evolve
from shared.domain.readiness import waiting_for
from shared.domain.state import Attempt, Orchestration, Task
from shared.envelope import Stored
from shared.views import orchestration_view, task_view

Key = tuple[str, str]
"""Team and aggregate."""

Row = dict[str, Any]
"""Values by column."""


class BrokenHistoryError(Exception):
    """A commit does not continue its aggregate: one is missing, or comes twice, or its content makes no sense.

    `sequence` is the commit's place in the log.
    """

    def __init__(self, stored: Stored, reason: str) -> None:
        super().__init__(f"commit {stored.commit.commit_id} at {stored.sequence} cannot be applied: {reason}")
        self.sequence = stored.sequence


@dataclass(slots=True)
class Change:
    """One aggregate after a batch, and which of its rows the batch changed, with the sequence of the last change.

    `before` is its state before the batch, None if it did not exist.
    """

    key: Key
    state: Orchestration
    sequence: int
    before: Orchestration | None = None
    tasks: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)


def fold(known: Mapping[Key, Orchestration], batch: Iterable[Stored]) -> dict[Key, Change]:
    """The aggregates that `batch` changes.

    Which rows changed is told commit by commit, so that the outcome does not depend on where a batch ends.

    Args:
        known: the state before the batch of every aggregate in it that exists already.
        batch: commits in the order of the log.

    Raises:
        BrokenHistoryError: a commit does not continue its aggregate.
    """
    changes: dict[Key, Change] = {}
    for stored in batch:
        key = (stored.commit.team, stored.commit.aggregate)
        change = changes.get(key)
        before = change.state if change else known.get(key)
        after = apply(before, stored)
        if change is None:
            change = changes[key] = Change(key, after, stored.sequence, before)
        change.state = after
        change.sequence = stored.sequence
        _mark(change, before, after)
    return changes


def apply(state: Orchestration | None, stored: Stored) -> Orchestration:
    """The state after a commit.

    Raises:
        BrokenHistoryError: it does not continue `state`.
    """
    commit = stored.commit
    version = state.version if state else 0
    if commit.version != version + 1:
        raise BrokenHistoryError(
            stored, f"{commit.team}/{commit.aggregate} is at version {version}, the commit begins with {commit.version}"
        )
    try:
        for recorded in commit.events:
            state = evolve(state, recorded.event, recorded.occurred_at)
    except Exception as exc:  # whatever it is, the commit is stored for ever and must be named to be dealt with
        raise BrokenHistoryError(stored, repr(exc)) from exc
    if state is None:
        raise BrokenHistoryError(stored, "it has no events")
    if (state.team, state.id) != (commit.team, commit.aggregate):
        raise BrokenHistoryError(stored, f"its events speak of {state.team}/{state.id}")
    return state


def replay(commits: Iterable[Stored]) -> dict[Key, Orchestration]:
    """The states of whole histories.

    Raises:
        BrokenHistoryError: a history has a gap or a repeat.
    """
    states: dict[Key, Orchestration] = {}
    for stored in commits:
        key = (stored.commit.team, stored.commit.aggregate)
        states[key] = apply(states.get(key), stored)
    return states


def _mark(change: Change, before: Orchestration | None, after: Orchestration) -> None:
    moved = _moved(before, after)
    for task_id, task in after.tasks.items():
        old = before.tasks.get(task_id) if before else None
        if task is not old:
            change.tasks[task_id] = change.sequence
            _mark_attempts(change, old.attempts if old else (), task.attempts)
        elif before is not None and (task_id in moved or _waits_otherwise(before, after, task)):
            change.tasks[task_id] = change.sequence


def _moved(before: Orchestration | None, after: Orchestration) -> set[str]:
    """The tasks whose rows hold a position that is no longer theirs."""
    if before is None or before.tasks is after.tasks:
        return set()
    return {new for old, new in zip_longest(before.tasks, after.tasks) if new is not None and old != new}


def _mark_attempts(change: Change, before: Sequence[Attempt], after: Sequence[Attempt]) -> None:
    for index, attempt in enumerate(after):
        is_new = index >= len(before) or attempt is not before[index]
        if is_new and attempt.agent_id is not None:
            change.attempts[attempt.attempt_id] = change.sequence


def _waits_otherwise(before: Orchestration, after: Orchestration, task: Task) -> bool:
    """What a task waits for is the one part of its view that also hangs on the rest of the orchestration."""
    return waiting_for(before, task, before.updated_at) != waiting_for(after, task, after.updated_at)


def orchestration_row(change: Change) -> Row:
    """The row in `orchestrations`."""
    state = change.state
    return {
        "team_id": state.team,
        "id": state.id,
        "seq": change.sequence,
        "version": state.version,
        "status": state.status.value,
        "name": state.spec.name,
        "repository": state.spec.repository,
        "ref": state.spec.ref,
        "tags": state.spec.tags,
        "created_by": state.created_by,
        "created_at": state.created_at,
        "updated_at": state.updated_at,
        "completed_at": state.ended_at,
        "words": searchable(state),
        "view": orchestration_view(state),
    }


def term_rows(change: Change) -> tuple[list[Row], list[Row]]:
    """The rows that come into `orchestration_terms`, and those that leave it."""
    new, old = changed_terms(change.before, change.state)
    return _term_rows(change.state, new), _term_rows(change.state, old)


def _term_rows(state: Orchestration, terms: Iterable[str]) -> list[Row]:
    return [
        {"team_id": state.team, "term": term, "created_at": state.created_at, "id": state.id} for term in sorted(terms)
    ]


def deleted_row(change: Change) -> Row:
    """Which orchestration is gone, with all its tasks."""
    team, orchestration_id = change.key
    return {"team_id": team, "id": orchestration_id}


def task_rows(change: Change) -> list[Row]:
    """The changed rows in `tasks`."""
    return [
        {
            "team_id": change.state.team,
            "id": task_id,
            "orchestration_id": change.state.id,
            "position": position,
            "status": task.status.value,
            "seq": change.tasks[task_id],
            "view": task_view(change.state, task),
        }
        for position, (task_id, task) in enumerate(change.state.tasks.items())
        if task_id in change.tasks
    ]


def agent_rows(change: Change) -> list[Row]:
    """The changed rows in `agents`."""
    if not change.attempts:
        return []
    return [
        agent_row(change.state, task, attempt, change.attempts[attempt.attempt_id])
        for task in change.state.tasks.values()
        for attempt in task.attempts
        if attempt.attempt_id in change.attempts
    ]


def cost_rows(change: Change) -> list[Row]:
    """The changed rows in `attempt_costs`: what ended attempts that had an agent cost, however they ended."""
    if not change.attempts:
        return []
    return [
        _cost_row(change, task, attempt)
        for task in change.state.tasks.values()
        for attempt in task.attempts
        if attempt.attempt_id in change.attempts and attempt.ended_at is not None
    ]


def _cost_row(change: Change, task: Task, attempt: Attempt) -> Row:
    return {
        "team_id": change.state.team,
        "attempt_id": attempt.attempt_id,
        "task_id": task.task_id,
        "orchestration_id": change.state.id,
        "repository": change.state.spec.repository,
        "model": attempt.model,
        "ended_at": attempt.ended_at,
        "failed": attempt.failure is not None,
        "duration_ms": attempt.duration_ms,
        "cost": attempt.cost,
        "seq": change.attempts[attempt.attempt_id],
    }


def agent_row(state: Orchestration, task: Task, attempt: Attempt, sequence: int) -> Row:
    """The row in `agents` of an attempt that has one."""
    return {
        "team_id": state.team,
        "attempt_id": attempt.attempt_id,
        "agent_id": attempt.agent_id,
        "task_id": task.task_id,
        "orchestration_id": state.id,
        "number": attempt.number,
        "status": attempt.status.value if attempt.status else None,
        "provider_status": attempt.provider_status,
        "api_version": attempt.api_version,
        "run_id": attempt.run_id,
        "url": attempt.url,
        "model": attempt.model,
        "branch": _branch(task, attempt),
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "seq": sequence,
    }


def _branch(task: Task, attempt: Attempt) -> str | None:
    """What the agent left last; until then the one that v0 was told, while on v1 an agent chooses its own."""
    of_agent = [other for other in task.attempts[: attempt.number] if other.agent_id == attempt.agent_id]
    left = [other.result.branch for other in of_agent if other.result and other.result.branch]
    return left[-1] if left else attempt.branch_name if attempt.api_version == "v0" else None

"""Commits to fill a log with."""

import uuid
from datetime import UTC, datetime

from shared.domain.events import OrchestrationActivated, TaskCancelled
from shared.envelope import Commit, RecordedEvent

TEAM = "team-1"
_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def new_aggregate() -> str:
    """The id of an aggregate that no other test uses."""
    return f"orc-{uuid.uuid4().hex}"


def new_commit(
    aggregate: str,
    *,
    version: int = 1,
    team: str = TEAM,
    commit_id: str | None = None,
    reason: str | None = None,
) -> Commit:
    """A commit of one event; `reason` is a text to make it large."""
    event = OrchestrationActivated() if reason is None else TaskCancelled(task_id="t", reason=reason)
    return Commit(
        commit_id=commit_id or uuid.uuid4().hex,
        command_id=f"command-{version}",
        correlation_id="correlation",
        actor="somebody",
        team=team,
        aggregate=aggregate,
        version=version,
        recorded_at=_AT,
        events=(RecordedEvent(id=uuid.uuid4().hex, occurred_at=_AT, event=event),),
    )

"""The envelope of a commit: one message of the log, holding 1..n events of one aggregate, and its wire form."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from shared.catalogue import AnyEvent, decode_event


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event with its own id and the time at which it happened."""

    id: str
    occurred_at: datetime
    event: AnyEvent


@dataclass(frozen=True, slots=True)
class Commit:
    """What one command led to.

    `version` is the version of the first event (the aggregate's n-th event has version n), so the next commit of the
    aggregate has `version + len(events)`. `command_id` is the cause; `correlation_id` ties a whole chain together.
    """

    commit_id: str
    command_id: str
    correlation_id: str
    actor: str
    team: str
    aggregate: str
    version: int
    recorded_at: datetime
    events: tuple[RecordedEvent, ...]

    @property
    def last_version(self) -> int:
        return self.version + len(self.events) - 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A commit with its place in the log: the sequence of its message in the stream.

    `raw` is the message's body as it is stored, where the log that was read keeps bytes: encoding the commit again
    drops fields of a newer release.
    """

    sequence: int
    commit: Commit
    raw: bytes | None = field(default=None, compare=False, repr=False)


def encode(commit: Commit) -> bytes:
    """JSON, one object; times as ISO 8601 in UTC."""
    return orjson.dumps(
        {
            "commit_id": commit.commit_id,
            "command_id": commit.command_id,
            "correlation_id": commit.correlation_id,
            "actor": commit.actor,
            "team": commit.team,
            "aggregate": commit.aggregate,
            "version": commit.version,
            "recorded_at": commit.recorded_at,
            "events": [
                {
                    "id": recorded.id,
                    "type": recorded.event.type,
                    "version": recorded.event.schema_version,
                    "occurred_at": recorded.occurred_at,
                    "data": recorded.event.model_dump(mode="json", exclude_none=True),
                }
                for recorded in commit.events
            ],
        }
    )


def decode(body: bytes) -> Commit:
    """Read the wire form.

    Raises:
        ValueError: not a commit (pydantic's and orjson's errors are ValueErrors; a missing field is one too).
        UnknownEventError: an event of a newer release.
    """
    raw: dict[str, Any] = orjson.loads(body)
    try:
        return Commit(
            commit_id=raw["commit_id"],
            command_id=raw["command_id"],
            correlation_id=raw["correlation_id"],
            actor=raw["actor"],
            team=raw["team"],
            aggregate=raw["aggregate"],
            version=raw["version"],
            recorded_at=datetime.fromisoformat(raw["recorded_at"]),
            events=tuple(
                RecordedEvent(
                    id=event["id"],
                    occurred_at=datetime.fromisoformat(event["occurred_at"]),
                    event=decode_event(event["type"], event["version"], event["data"]),
                )
                for event in raw["events"]
            ),
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"not a commit: {exc!r}") from exc

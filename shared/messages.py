"""What the services send to one another, and its wire form."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

import orjson

LOG_LAG: Final = timedelta(minutes=1)
"""A message that is younger may tell of what a replica of the log, which may lag behind, does not show yet."""

_TIMES = frozenset({"since", "due_at", "at"})


@dataclass(frozen=True, slots=True)
class Message:
    """Base: JSON, one object, the fields by their names."""

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the wire form; fields that are not known are ignored.

        Raises:
            ValueError: not such a message.
        """
        try:
            raw: dict[str, Any] = orjson.loads(body)
            message = cls(**{name: raw[name] for name in cls.__dataclass_fields__})
            message._check()
            return message
        except (KeyError, TypeError) as exc:
            raise ValueError(f"not a {cls.__name__}: {exc!r}") from exc

    def _check(self) -> None:
        """Raise ValueError or TypeError if a field does not hold what its type says."""
        for name, field in self.__dataclass_fields__.items():
            if field.type is str and not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is not a text")
            if name in _TIMES and datetime.fromisoformat(getattr(self, name)).tzinfo is None:
                raise ValueError(f"{name} has no time zone")


@dataclass(frozen=True, slots=True)
class Ticket(Message):
    """The attempt waits to be launched. In QUEUE from the moment it is queued until its agent is known."""

    team: str
    orchestration_id: str
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Watched(Message):
    """The attempt's agent is to be followed. In WATCH until the agent is known to have ended."""

    team: str
    orchestration_id: str
    attempt_id: str
    since: str
    """When the agent was created, ISO 8601: the older it is, the longer the pauses between looks."""

    @property
    def since_time(self) -> datetime:
        return datetime.fromisoformat(self.since)


@dataclass(frozen=True, slots=True)
class Wake(Message):
    """Time alone changes something in the orchestration at `due_at`, ISO 8601."""

    team: str
    orchestration_id: str
    due_at: str

    @property
    def due_time(self) -> datetime:
        return datetime.fromisoformat(self.due_at)


@dataclass(frozen=True, slots=True)
class Receipt(Message):
    """A webhook of the provider as it came, its signature checked. Kept in RECEIPTS.

    `body` is the text of its raw bytes; `headers` those that begin with `x-webhook-` or `x-cursor-`, in small
    letters, without the signature.
    """

    team: str
    orchestration_id: str
    attempt_id: str
    received_at: str
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """What the agent of an attempt is at. Sent to whoever listens at that moment, on no stream.

    `tool`: what it uses, with what that is about, unless it has said something since; `text`: its last words. Both
    are short, on one line, and without what looks like a secret; `at` is ISO 8601.
    """

    attempt_id: str
    tool: str | None
    text: str | None
    at: str

"""A command on its way through COMMANDS, the answer to it, and their wire forms."""

from dataclasses import dataclass, field
from typing import Any, get_args

import orjson

from shared.domain import commands as cmd

PUBLIC_COMMANDS: dict[str, type[cmd.UserCommand]] = {cls.type: cls for cls in get_args(cmd.UserCommand)}
"""What may come through COMMANDS, by its name on the wire."""


@dataclass(frozen=True, slots=True)
class CommandMessage:
    """What was asked, by whom, and where the answer goes: `reply_to` is a NATS subject, None for no answer."""

    command_id: str
    correlation_id: str
    actor: str
    team: str
    orchestration_id: str
    command: cmd.AnyCommand
    reply_to: str | None = None

    def encode(self) -> bytes:
        return orjson.dumps(
            {
                "command_id": self.command_id,
                "correlation_id": self.correlation_id,
                "actor": self.actor,
                "team": self.team,
                "orchestration_id": self.orchestration_id,
                "type": self.command.type,
                "data": self.command.model_dump(mode="json", exclude_none=True),
                "reply_to": self.reply_to,
            }
        )

    @staticmethod
    def decode(body: bytes) -> "CommandMessage":
        """Read the wire form.

        Raises:
            ValueError: not a command, or one that this release does not know.
        """
        try:
            raw: dict[str, Any] = orjson.loads(body)
            return CommandMessage(
                command_id=raw["command_id"],
                correlation_id=raw["correlation_id"],
                actor=raw["actor"],
                team=raw["team"],
                orchestration_id=raw["orchestration_id"],
                command=PUBLIC_COMMANDS[raw["type"]].model_validate(raw["data"]),
                reply_to=raw.get("reply_to"),
            )
        except (KeyError, TypeError) as exc:
            raise ValueError(f"not a command: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class Reply:
    """The decision: `sequence` of the log at which its effect is visible, or the refusal.

    `changed` is False when the command led to nothing new.
    """

    sequence: int = 0
    status: str | None = None
    changed: bool = True
    error_code: str | None = None
    error_message: str | None = None
    error_metadata: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        return orjson.dumps(self)

    @staticmethod
    def decode(body: bytes) -> "Reply":
        """Read the wire form; fields of a newer release are ignored."""
        raw: dict[str, Any] = orjson.loads(body)
        return Reply(**{name: value for name, value in raw.items() if name in Reply.__dataclass_fields__})

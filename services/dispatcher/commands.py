"""Commands: what users ask for is decided and answered."""

import logging
from dataclasses import dataclass
from typing import Protocol

from shared.command_handler import Cause, CommandHandler, Decided
from shared.command_message import CommandMessage, Reply
from shared.domain.errors import Refusal
from shared.jetstream.consumer import Delivery, Poison
from shared.observability.logging import log_context

_log = logging.getLogger(__name__)


class Answers(Protocol):
    """Sends the answer to whoever waits for it, if anybody still does."""

    async def send(self, reply_to: str, reply: Reply) -> None: ...


@dataclass(frozen=True, slots=True)
class Commands:
    handler: CommandHandler
    answers: Answers

    async def on_command(self, delivery: Delivery) -> None:
        """Decide one command of COMMANDS and answer it.

        A command that was decided already, by an earlier delivery, is answered the same way again.
        """
        try:
            message = CommandMessage.decode(delivery.data)
        except ValueError as exc:
            raise Poison(str(exc)) from exc
        with log_context(orchestration=message.orchestration_id, command=message.command_id):
            reply = await self._decide(message)
        if message.reply_to is not None:
            await self.answers.send(message.reply_to, reply)

    async def _decide(self, message: CommandMessage) -> Reply:
        cause = Cause(message.command_id, message.correlation_id, message.actor)
        try:
            decided = await self.handler.handle(message.team, message.orchestration_id, message.command, cause)
        except Refusal as refusal:
            _log.info("Refused %s: %s", message.command.type, refusal.message, extra={"code": refusal.code})
            return Reply(
                error_code=refusal.code,
                error_message=refusal.message,
                error_metadata=refusal.metadata,
            )
        _log.info("Decided %s", message.command.type, extra={"events": len(decided.events)})
        return _reply(decided)


def _reply(decided: Decided) -> Reply:
    return Reply(
        sequence=decided.sequence,
        status=decided.state.status.value if decided.state else None,
        changed=bool(decided.events) or decided.is_repeated,
    )

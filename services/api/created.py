"""Carrying out a create: the command is sent, and what it led to is shown as its own commit left it."""

import logging
from dataclasses import dataclass

from services.api.commands import Asked
from services.api.idempotency import PlannedCommand
from services.api.parts import Parts
from services.api.reading import Shown
from shared.domain.commands import CreateOrchestration
from shared.ports import LogUnavailableError

_log = logging.getLogger(__name__)

Planned = PlannedCommand[CreateOrchestration]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of a create: `sequence` of its commit, None while it is not decided; `shown`, where it can be."""

    sequence: int | None
    shown: Shown | None


async def carry_out(parts: Parts, planned: Planned, *, request_id: str) -> Outcome:
    """Send the command, wait for its decision. Sent again it leads to the same orchestration and the same view.

    Raises:
        Refusal, PayloadTooLargeError: nothing was done.
        ApiError: 503; `metadata.outcome` says whether the command may be stored.
    """
    command = planned.command
    asked = Asked(
        team=command.team,
        actor=command.created_by,
        orchestration_id=planned.orchestration_id,
        request_id=request_id,
        command=command,
    )
    reply = await parts.commands.send(asked, command_id=planned.command_id)
    if reply is None:
        return Outcome(None, None)
    return Outcome(reply.sequence, await _as_created(parts, planned, reply.sequence))


async def _as_created(parts: Parts, planned: Planned, sequence: int) -> Shown | None:
    """From the log, for the rows may have gone on; None when it cannot be read now."""
    try:
        return await parts.reader.fold(planned.command.team, planned.orchestration_id, until=sequence)
    except LogUnavailableError as exc:
        _log.warning("A new orchestration cannot be shown: %r", exc)
        return None

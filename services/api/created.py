"""Carrying out a create: the command is sent, and what it led to is shown as its own commit left it."""

import logging

import psycopg

from services.api.commands import Asked
from services.api.idempotency import PlannedCommand
from services.api.parts import Parts
from services.api.reading import Shown
from shared.domain.commands import CreateOrchestration
from shared.ports import LogUnavailableError

_log = logging.getLogger(__name__)

Planned = PlannedCommand[CreateOrchestration]


async def send(parts: Parts, planned: Planned, *, request_id: str) -> int | None:
    """The sequence of the commit that creates, None if there is no decision in time. Sent again it is the same one.

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
    return reply.sequence if reply else None


async def as_created(parts: Parts, team: str, orchestration_id: str, sequence: int) -> Shown | None:
    """The orchestration as the commit of `sequence` left it, the same at any time; None when it cannot be shown now.

    From the log, for the rows may have gone on. A replica of the log may be behind where the rows are not.
    """
    try:
        shown = await parts.reader.fold(team, orchestration_id, until=sequence)
        if shown is None:
            shown = await parts.reader.find(team, orchestration_id)
    except (LogUnavailableError, psycopg.Error) as exc:
        _log.warning("A new orchestration cannot be shown: %r", exc)
        return None
    return shown if shown and shown.sequence == sequence else None

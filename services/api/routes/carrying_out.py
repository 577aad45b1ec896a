"""Carrying out a command on what exists: sent, waited for, and shown as its own commit left it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from services.api.auth import Principal
from services.api.bodies import read_body, read_json
from services.api.parts import Parts
from services.api.problems import InvalidRequestError, problem
from services.api.reading import Shown
from services.api.responses import Json
from services.api.routes.answers import NOT_DECIDED, action, refuse_unknown_parameters, send_command
from shared.command_message import Reply
from shared.domain.commands import AnyCommand
from shared.ports import LogUnavailableError
from shared.views import View

_log = logging.getLogger(__name__)

DONE_UNSEEN: Final = "Done; it cannot be shown yet"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision that everybody's reads show, and the orchestration as it left it, None where that cannot be read."""

    reply: Reply
    shown: Shown | None

    def task(self, task_id: str) -> View | None:
        """The task as the decision left it, None where that cannot be read."""
        tasks = self.shown.tasks if self.shown else ()
        return next((task for task in tasks if task["id"] == task_id), None)


async def carry_out(
    request: Request,
    principal: Principal,
    parts: Parts,
    orchestration_id: str,
    command: AnyCommand,
    *,
    command_id: str | None = None,
) -> Outcome | None:
    """The outcome of `command`, None if there is no decision in time. Arguments and errors as `send_command` has them.

    What comes after the decision raises nothing: what is done must never look as if it had failed.
    """
    reply = await send_command(request, principal, parts, orchestration_id, command, command_id=command_id)
    if reply is None:
        return None
    await parts.reader.wait_visible(principal.team, orchestration_id, reply.sequence)
    return Outcome(reply, await _as_left(parts, principal.team, orchestration_id, reply.sequence))


async def _as_left(parts: Parts, team: str, orchestration_id: str, sequence: int) -> Shown | None:
    """From the log, for the rows may have gone on: others may have changed or deleted it again."""
    try:
        shown = await parts.reader.fold(team, orchestration_id, until=sequence)
        if shown is not None and shown.sequence < sequence:  # whoever answered for the log lags behind
            shown = await parts.reader.find(team, orchestration_id)
    except LogUnavailableError as exc:
        _log.warning("What a command led to cannot be shown: %r", exc)
        return None
    return shown


def to_come(thing_id: str, status: str | None, address: str, message: str = NOT_DECIDED) -> Json:
    """202: what came of it is to be seen at `address`."""
    return Json(action(thing_id, status, message), 202, {"Location": address})


async def optional_json(request: Request) -> Any:
    """The JSON of the body, an empty object where there is none. Raises as `read_json` does."""
    return await read_json(request) if await read_body(request) else {}


async def refuse_body(request: Request) -> None:
    """What would be ignored may be what the caller counts on.

    Raises:
        InvalidRequestError: names every field of the body.
    """
    body = await optional_json(request)
    if not isinstance(body, dict):
        raise InvalidRequestError([problem("body", "must be a JSON object, or absent")])
    if body:
        raise InvalidRequestError([problem(name[:200], "is not a known field") for name in sorted(body)])


async def refuse_anything(request: Request) -> None:
    """For actions that take neither a body nor parameters.

    Raises:
        InvalidRequestError: names every one that is given.
    """
    await refuse_body(request)
    refuse_unknown_parameters(request, set())


def json_body(schema: str, examples: Mapping[str, Any], *, required: bool = True) -> dict[str, Any]:
    """For `openapi_extra`: a body that is read by hand."""
    content = {
        "schema": {"$ref": f"#/components/schemas/{schema}"},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": required, "content": {"application/json": content}}}

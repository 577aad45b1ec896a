"""What many routes share: the id in a path, sending a command, and the small forms of answers."""

from collections import Counter
from collections.abc import Set as AbstractSet
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Path, Request
from starlette.requests import HTTPConnection

from services.api.auth import Principal
from services.api.commands import Asked
from services.api.errors import not_found
from services.api.parts import Parts
from services.api.problems import InvalidRequestError, problem
from services.api.reading import Shown
from services.api.routes.examples import ORCHESTRATION_ID
from shared.command_message import Reply
from shared.domain.commands import AnyCommand
from shared.views import View

STILL_TO_COME: Final = "The decision is still to come; look at `Location` for it."
NOT_DECIDED: Final = "Accepted; not decided yet"
_NO_PARAMETER: Final = "is not a parameter of this address"


def known_form(
    orchestration_id: Annotated[str, Path(description="The orchestration's `id`.", examples=[ORCHESTRATION_ID])],
) -> str:
    """The id; what cannot be one is not found like any other."""
    try:
        genuine = str(UUID(orchestration_id)) == orchestration_id
    except ValueError:
        genuine = False
    if not genuine:
        raise not_found()
    return orchestration_id


OrchestrationId = Annotated[str, Depends(known_form)]


async def send_command(
    request: Request,
    principal: Principal,
    parts: Parts,
    orchestration_id: str,
    command: AnyCommand,
    *,
    command_id: str | None = None,
) -> Reply | None:
    """The decision on `command`; None if there is none in time: it is still to come.

    Args:
        command_id: makes repeating the command harmless; None takes a new one.

    Raises:
        Refusal: the state does not allow it; nothing has changed.
        ApiError: 503, the broker is away. `metadata.outcome` says whether the command may be stored.
    """
    asked = Asked(
        team=principal.team,
        actor=principal.name,
        orchestration_id=orchestration_id,
        request_id=request.state.request_id,
        command=command,
    )
    return await parts.commands.send(asked, command_id=command_id)


def found(shown: Shown | None) -> Shown:
    """What was looked for.

    Raises:
        ApiError: 404, there is none.
    """
    if shown is None:
        raise not_found()
    return shown


def orchestration_address(orchestration_id: str) -> str:
    """For `Location`."""
    return f"/api/orchestrations/{orchestration_id}"


def action(thing_id: str, status: str | None, message: str) -> View:
    """The answer to an action on an orchestration, task or agent."""
    return {"id": thing_id, "status": status, "message": message}


def page(items: list[View], next_cursor: str | None) -> View:
    """One page of a list; `nextCursor` is absent on the last."""
    return {"items": items, **({"nextCursor": next_cursor} if next_cursor is not None else {})}


def refuse_unknown_parameters(
    request: HTTPConnection, known: AbstractSet[str], repeatable: AbstractSet[str] = frozenset()
) -> None:
    """A parameter that is ignored would show what was not asked for.

    Args:
        repeatable: those of the known ones that may be given several times.

    Raises:
        InvalidRequestError: names every parameter that is not `known`, or is there more than once.
    """
    given = Counter(name for name, _ in request.query_params.multi_items())
    problems = [
        problem(name[:100], "must be given once" if name in known else _NO_PARAMETER)
        for name, count in sorted(given.items())
        if name not in known or (count > 1 and name not in repeatable)
    ]
    if problems:
        raise InvalidRequestError(problems)

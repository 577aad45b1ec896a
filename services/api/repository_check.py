"""Looks, where a request asks for it, whether its repositories and refs are there, before anything is created."""

import asyncio
from typing import Any, Final

from services.api.bulk import BulkItem, BulkPlan, refused_item
from services.api.github import Amiss, GitHub, unanswered
from services.api.problems import InvalidRequestError, Problem
from shared.domain.commands import CreateOrchestration

NOT_CHECKED: Final = "the repository was not checked, for GITHUB_TOKEN is not set: Cursor says so when it has no access"
_PATIENCE_SECONDS: Final = 12.0
"""For all repositories of a bulk request together."""


async def check_one(github: GitHub | None, command: CreateOrchestration) -> CreateOrchestration:
    """The command, with a warning where nobody can be asked.

    Raises:
        InvalidRequestError: no agent could work there.
        ApiError: 502, GitHub did not say.
    """
    if github is None:
        return _warned(command)
    amiss = await github.look(command.spec.repository, command.spec.ref)
    if amiss is not None:
        raise InvalidRequestError([_problem(amiss.what, amiss)])
    return command


async def check_all(github: GitHub | None, plan: BulkPlan, body: Any) -> BulkPlan:
    """The plan without the repositories in which no agent could work; each of those is refused by itself.

    Args:
        body: the request that the plan was made of, item by item.

    Raises:
        ApiError: 502, GitHub did not say; nothing of the plan is to be carried out.
    """
    if github is None:
        return plan.model_copy(update={"command": _warned(plan.command)})
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            looks = [
                group.create_task(_looked_at(github, item, index, body["repositories"][index]))
                for index, item in enumerate(plan.items)
            ]
    except TimeoutError as exc:
        raise unanswered("did not answer in time") from exc
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # one is enough: the others were cancelled for it
    return plan.model_copy(update={"items": tuple(look.result() for look in looks)})


async def _looked_at(github: GitHub, item: BulkItem, index: int, value: Any) -> BulkItem:
    if item.target is None:
        return item
    amiss = await github.look(item.target.repository, item.target.ref)
    return item if amiss is None else refused_item(item.given, [_problem(_field(amiss, index, value), amiss)])


def _field(amiss: Amiss, index: int, value: Any) -> str:
    """Where the request says it: of its own, or for all."""
    own: dict[str, Any] = value if isinstance(value, dict) else {}
    if amiss.what == "ref" and own.get("ref") is None:
        return "ref"
    return f"repositories[{index}].{amiss.what}" if own else f"repositories[{index}]"


def _problem(field: str, amiss: Amiss) -> Problem:
    return Problem(field, amiss.message, "INVALID_REPOSITORY")


def _warned(command: CreateOrchestration) -> CreateOrchestration:
    return command.model_copy(update={"warnings": (*command.warnings, NOT_CHECKED)})

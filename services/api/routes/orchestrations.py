"""Orchestrations: create, activate, read."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from services.api.auth import Principal, Reader, Writer
from services.api.bodies import read_json
from services.api.commands import Asked
from services.api.creation import create_command, read_create
from services.api.errors import not_found
from services.api.parts import Parts, TheParts
from services.api.problems import InvalidRequestError, problem
from services.api.reading import Shown
from services.api.responses import (
    ActionShape,
    CreatedShape,
    DetailShape,
    EventsPage,
    Json,
    OrchestrationsPage,
    TasksPage,
)
from services.api.routes.documented import ACTION_EXAMPLE, AUTH_CODES, CREATE_EXAMPLE, errors
from shared.command_message import Reply
from shared.domain.commands import ActivateOrchestration, AnyCommand
from shared.views import View

router = APIRouter(prefix="/api/orchestrations", tags=["orchestrations"])

_READ_ERRORS: Final = errors(*AUTH_CODES, "ORCHESTRATION_NOT_FOUND")
_CREATE_ERRORS: Final = errors(
    "INVALID_REQUEST",
    "MISSING_REQUIRED_FIELD",
    "INVALID_REPOSITORY",
    "INVALID_TASK",
    "INVALID_MODEL",
    *AUTH_CODES,
    "PAYLOAD_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
)
_ACTION_ERRORS: Final = errors(*AUTH_CODES, "ORCHESTRATION_NOT_FOUND", "INVALID_STATE_TRANSITION", "ALREADY_COMPLETED")
_STILL_TO_COME: Final = "The decision is still to come; look at `Location` for it."
_CREATE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/CreateRequest"},
                "example": CREATE_EXAMPLE,
            }
        },
    }
}


def known_form(orchestration_id: str) -> str:
    """The id; what cannot be one is not found like any other."""
    try:
        genuine = str(UUID(orchestration_id)) == orchestration_id
    except ValueError:
        genuine = False
    if not genuine:
        raise not_found()
    return orchestration_id


OrchestrationId = Annotated[str, Depends(known_form)]


@router.post(
    "",
    operation_id="createOrchestration",
    summary="Create an orchestration",
    status_code=201,
    responses={
        201: {"model": CreatedShape, "description": "The new orchestration with its tasks."},
        202: {"model": ActionShape, "description": _STILL_TO_COME},
        **_CREATE_ERRORS,
    },
    openapi_extra=_CREATE_BODY,
)
async def create(request: Request, principal: Writer, parts: TheParts) -> Response:
    """Takes every field in camelCase and in snake_case. Unknown fields are refused."""
    _refuse_idempotency_key(request)
    body = await read_json(request)
    models = await parts.models.names()
    wanted = read_create(body, models, allow_private_webhooks=parts.settings.allow_private_webhooks)
    orchestration_id = parts.ids.new()
    command = create_command(
        wanted, models, orchestration_id=orchestration_id, team=principal.team, created_by=principal.name
    )
    reply = await _send(request, principal, parts, orchestration_id, command)
    location = {"Location": _address(orchestration_id)}
    if reply is None:
        return Json(_action(orchestration_id, None, "Accepted; not decided yet"), 202, location)
    await parts.reader.wait_visible(principal.team, orchestration_id, reply.sequence)
    created = _found(await parts.reader.find(principal.team, orchestration_id))
    return Json({**created.orchestration, "tasks": created.tasks}, 201, location)


@router.post(
    "/{orchestration_id}/activate",
    operation_id="activateOrchestration",
    summary="Activate an orchestration",
    responses={
        200: {
            "model": ActionShape,
            "description": "It is active. Activating twice is no error.",
            "content": {"application/json": {"example": ACTION_EXAMPLE}},
        },
        202: {"model": ActionShape, "description": _STILL_TO_COME},
        **_ACTION_ERRORS,
    },
)
@router.patch("/{orchestration_id}/activate", include_in_schema=False)
async def activate(request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    """Starts the tasks that are ready. No body is needed."""
    known = _found(await parts.reader.exists(principal.team, orchestration_id))
    reply = await _send(request, principal, parts, orchestration_id, ActivateOrchestration())
    if reply is None:
        pending = _action(orchestration_id, known.orchestration["status"], "Accepted; not decided yet")
        return Json(pending, 202, {"Location": _address(orchestration_id)})
    await parts.reader.wait_visible(principal.team, orchestration_id, reply.sequence)
    return Json(_action(orchestration_id, reply.status, "Activated" if reply.changed else "Already active"))


@router.get(
    "",
    operation_id="listOrchestrations",
    summary="List orchestrations, newest first",
    responses={
        200: {"model": OrchestrationsPage, "description": "One page."},
        **errors("INVALID_REQUEST", *AUTH_CODES),
    },
)
async def list_newest(
    request: Request,
    principal: Reader,
    parts: TheParts,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=500, description="a page's `nextCursor`")] = None,
) -> Response:
    _refuse_unknown_parameters(request, {"limit", "cursor"})
    page = await parts.queries.orchestrations(principal.team, limit=limit, cursor=cursor)
    return Json(_page(page.items, page.next_cursor))


@router.get(
    "/{orchestration_id}",
    operation_id="getOrchestration",
    summary="Get an orchestration with its tasks and statistics",
    responses={200: {"model": DetailShape, "description": "As it is now."}, **_READ_ERRORS},
)
async def get(principal: Reader, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    found = _found(await parts.reader.find(principal.team, orchestration_id))
    return Json(found.detail(parts.clock.now()))


@router.get(
    "/{orchestration_id}/tasks",
    operation_id="listTasks",
    summary="List the tasks of an orchestration in their order",
    responses={200: {"model": TasksPage, "description": "All of them."}, **_READ_ERRORS},
)
async def tasks(principal: Reader, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    found = _found(await parts.reader.find(principal.team, orchestration_id))
    return Json(_page(found.tasks, None))


@router.get(
    "/{orchestration_id}/events",
    operation_id="listEvents",
    summary="List the events of an orchestration, oldest first",
    responses={
        200: {"model": EventsPage, "description": "One page of its history."},
        **errors("INVALID_REQUEST", *AUTH_CODES, "ORCHESTRATION_NOT_FOUND"),
    },
)
async def events(
    principal: Reader,
    orchestration_id: OrchestrationId,
    parts: TheParts,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[
        int, Query(ge=0, le=2**31 - 1, description="a page's `nextCursor`: the version behind which to begin")
    ] = 0,
) -> Response:
    page = await parts.queries.events(principal.team, orchestration_id, after=cursor, limit=limit)
    if not page.items:
        _found(await parts.reader.find(principal.team, orchestration_id))
    return Json(_page(page.items, None if page.next_cursor is None else str(page.next_cursor)))


async def _send(
    request: Request, principal: Principal, parts: Parts, orchestration_id: str, command: AnyCommand
) -> Reply | None:
    return await parts.commands.send(
        Asked(
            team=principal.team,
            actor=principal.name,
            orchestration_id=orchestration_id,
            request_id=request.state.request_id,
            command=command,
        )
    )


def _found(shown: Shown | None) -> Shown:
    if shown is None:
        raise not_found()
    return shown


def _address(orchestration_id: str) -> str:
    return f"/api/orchestrations/{orchestration_id}"


def _action(orchestration_id: str, status: str | None, message: str) -> View:
    return {"id": orchestration_id, "status": status, "message": message}


def _page(items: list[View], next_cursor: str | None) -> View:
    return {"items": items, **({"nextCursor": next_cursor} if next_cursor is not None else {})}


def _refuse_idempotency_key(request: Request) -> None:
    """Whoever sends one counts on it; to ignore it could cost them a second set of agents."""
    if "idempotency-key" in request.headers:
        raise InvalidRequestError([problem("Idempotency-Key", "is not available yet; send the request without it")])


def _refuse_unknown_parameters(request: Request, known: set[str]) -> None:
    """A filter that is ignored would show what was not asked for."""
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise InvalidRequestError([problem(name[:100], "is not a parameter of this list") for name in unknown])

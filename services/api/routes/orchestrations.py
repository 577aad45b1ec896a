"""Orchestrations: create, activate, read."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.api.auth import Reader, Writer
from services.api.bodies import read_json
from services.api.creation import create_command, read_create
from services.api.parts import TheParts
from services.api.problems import InvalidRequestError, problem
from services.api.responses import (
    ActionShape,
    CreatedShape,
    DetailShape,
    EventsPage,
    Json,
    OrchestrationsPage,
    TasksPage,
)
from services.api.routes.answers import (
    NOT_DECIDED,
    STILL_TO_COME,
    OrchestrationId,
    action,
    found,
    orchestration_address,
    page,
    refuse_unknown_parameters,
    send_command,
)
from services.api.routes.documented import ACTION_EXAMPLE, AUTH_CODES, CREATE_EXAMPLE, errors
from shared.domain.commands import ActivateOrchestration

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


@router.post(
    "",
    operation_id="createOrchestration",
    summary="Create an orchestration",
    status_code=201,
    responses={
        201: {"model": CreatedShape, "description": "The new orchestration with its tasks."},
        202: {"model": ActionShape, "description": STILL_TO_COME},
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
    reply = await send_command(request, principal, parts, orchestration_id, command)
    location = {"Location": orchestration_address(orchestration_id)}
    if reply is None:
        return Json(action(orchestration_id, None, NOT_DECIDED), 202, location)
    await parts.reader.wait_visible(principal.team, orchestration_id, reply.sequence)
    created = found(await parts.reader.find(principal.team, orchestration_id))
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
        202: {"model": ActionShape, "description": STILL_TO_COME},
        **_ACTION_ERRORS,
    },
)
@router.patch("/{orchestration_id}/activate", include_in_schema=False)
async def activate(request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    """Starts the tasks that are ready. No body is needed."""
    known = found(await parts.reader.exists(principal.team, orchestration_id))
    reply = await send_command(request, principal, parts, orchestration_id, ActivateOrchestration())
    if reply is None:
        pending = action(orchestration_id, known.orchestration["status"], NOT_DECIDED)
        return Json(pending, 202, {"Location": orchestration_address(orchestration_id)})
    await parts.reader.wait_visible(principal.team, orchestration_id, reply.sequence)
    return Json(action(orchestration_id, reply.status, "Activated" if reply.changed else "Already active"))


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
    refuse_unknown_parameters(request, {"limit", "cursor"})
    newest = await parts.queries.orchestrations(principal.team, limit=limit, cursor=cursor)
    return Json(page(newest.items, newest.next_cursor))


@router.get(
    "/{orchestration_id}",
    operation_id="getOrchestration",
    summary="Get an orchestration with its tasks and statistics",
    responses={200: {"model": DetailShape, "description": "As it is now."}, **_READ_ERRORS},
)
async def get(principal: Reader, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    shown = found(await parts.reader.find(principal.team, orchestration_id))
    return Json(shown.detail(parts.clock.now()))


@router.get(
    "/{orchestration_id}/tasks",
    operation_id="listTasks",
    summary="List the tasks of an orchestration in their order",
    responses={200: {"model": TasksPage, "description": "All of them."}, **_READ_ERRORS},
)
async def tasks(principal: Reader, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    shown = found(await parts.reader.find(principal.team, orchestration_id))
    return Json(page(shown.tasks, None))


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
    history = await parts.queries.events(principal.team, orchestration_id, after=cursor, limit=limit)
    if not history.items:
        found(await parts.reader.find(principal.team, orchestration_id))
    return Json(page(history.items, None if history.next_cursor is None else str(history.next_cursor)))


def _refuse_idempotency_key(request: Request) -> None:
    """Whoever sends one counts on it; to ignore it could cost them a second set of agents."""
    if "idempotency-key" in request.headers:
        raise InvalidRequestError([problem("Idempotency-Key", "is not available yet; send the request without it")])

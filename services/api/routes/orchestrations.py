"""Orchestrations: create, activate, list."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.api.auth import Reader, Writer
from services.api.bodies import read_json
from services.api.created import Outcome, Planned, carry_out
from services.api.creation import create_command, read_create
from services.api.idempotency import Once, RequestIds
from services.api.parts import Parts, TheParts
from services.api.responses import (
    ActionShape,
    CreatedShape,
    Json,
    OrchestrationsPage,
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

_CREATE_ERRORS: Final = errors(
    "INVALID_REQUEST",
    "MISSING_REQUIRED_FIELD",
    "INVALID_REPOSITORY",
    "INVALID_TASK",
    "INVALID_MODEL",
    *AUTH_CODES,
    "PAYLOAD_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "IDEMPOTENCY_CONFLICT",
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
async def create(request: Request, principal: Writer, parts: TheParts, once: Once) -> Response:
    """Takes every field in camelCase and in snake_case. Unknown fields are refused."""
    body = await read_json(request)

    async def plan(ids: RequestIds) -> Planned:
        models = await parts.models.names()
        wanted = read_create(body, models, allow_private_webhooks=parts.settings.allow_private_webhooks)
        command = create_command(
            wanted,
            models,
            orchestration_id=ids.new("orchestration"),
            team=principal.team,
            created_by=principal.name,
        )
        return Planned(orchestration_id=command.orchestration_id, command_id=ids.new("command"), command=command)

    async def act(planned: Planned) -> Response:
        outcome = await carry_out(parts, planned, request_id=request.state.request_id)
        return await _created(parts, planned, outcome)

    return await once.answer(principal.team, body, Planned, plan, act)


async def _created(parts: Parts, planned: Planned, outcome: Outcome) -> Response:
    orchestration_id = planned.orchestration_id
    location = {"Location": orchestration_address(orchestration_id)}
    if outcome.sequence is None:
        return Json(action(orchestration_id, None, NOT_DECIDED), 202, location)
    await parts.reader.wait_visible(planned.command.team, orchestration_id, outcome.sequence)
    if outcome.shown is None:
        return Json(action(orchestration_id, None, "Created; it cannot be shown yet"), 202, location)
    return Json({**outcome.shown.orchestration, "tasks": outcome.shown.tasks}, 201, location)


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

"""Creating orchestrations, one or many."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api.auth import Writer
from services.api.bodies import read_json
from services.api.bulk import BulkPlan, asks_for_check, carry_out_bulk, plan_bulk
from services.api.created import Planned, as_created, send
from services.api.creation import create_command, read_create
from services.api.idempotency import Once, RequestIds
from services.api.parts import Parts, TheParts
from services.api.repository_check import check_all, check_one
from services.api.responses import (
    ActionShape,
    BulkShape,
    CreatedShape,
    Json,
)
from services.api.routes.answers import (
    NOT_DECIDED,
    STILL_TO_COME,
    action,
    orchestration_address,
    refuse_unknown_parameters,
)
from services.api.routes.carrying_out import json_body
from services.api.routes.documented import AUTH_CODES, BULK_EXAMPLE, CREATE_EXAMPLE, errors

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
    "GITHUB_API_ERROR",
)


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
    openapi_extra=json_body("CreateRequest", {"two tasks": CREATE_EXAMPLE}),
)
async def create(request: Request, principal: Writer, parts: TheParts, once: Once) -> Response:
    """Takes every field in camelCase and in snake_case. Unknown fields are refused.

    With `checkRepository` GitHub is asked first whether repository and ref are there; 502 if it does not say, and then
    nothing is created. Without a token for GitHub the log has a warning instead.
    """
    refuse_unknown_parameters(request, set())
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
        if wanted.check_repository:
            command = await check_one(parts.github, command)
        return Planned(orchestration_id=command.orchestration_id, command_id=ids.new("command"), command=command)

    async def act(planned: Planned) -> Response:
        sequence = await send(parts, planned, request_id=request.state.request_id)
        return await _created(parts, planned, sequence)

    return await once.answer(principal.team, body, Planned, plan, act)


@router.post(
    "/bulk",
    operation_id="createOrchestrations",
    summary="Create one orchestration in each of many repositories",
    status_code=200,
    responses={
        200: {"model": BulkShape, "description": "Every repository is decided: created, or refused."},
        202: {"model": BulkShape, "description": "Some are not decided yet; send it again with its Idempotency-Key."},
        **_CREATE_ERRORS,
    },
    openapi_extra=json_body("BulkRequest", {"two repositories": BULK_EXAMPLE}),
)
async def create_many(request: Request, principal: Writer, parts: TheParts, once: Once) -> Response:
    """Takes the fields of a single create, with `repositories` instead of `repository`.

    A repository that is wrong is refused by itself, and so is one that comes twice with the same ref. What is wrong
    in a field that all share refuses the whole. With `checkRepository` GitHub is asked for each. An item holds the
    orchestration without its tasks.
    """
    refuse_unknown_parameters(request, set())
    body = await read_json(request)

    async def plan(ids: RequestIds) -> BulkPlan:
        planned = plan_bulk(
            body,
            await parts.models.names(),
            ids,
            team=principal.team,
            created_by=principal.name,
            allow_private_webhooks=parts.settings.allow_private_webhooks,
        )
        return await check_all(parts.github, planned, body) if asks_for_check(body) else planned

    async def act(planned: BulkPlan) -> Response:
        answer, settled = await carry_out_bulk(parts, planned, request_id=request.state.request_id)
        return Json(answer, 200) if settled else Json(answer, 202, {"Retry-After": "1"})

    return await once.answer(principal.team, body, BulkPlan, plan, act)


async def _created(parts: Parts, planned: Planned, sequence: int | None) -> Response:
    orchestration_id = planned.orchestration_id
    location = {"Location": orchestration_address(orchestration_id)}
    if sequence is None:
        return Json(action(orchestration_id, None, NOT_DECIDED), 202, location)
    await parts.reader.wait_visible(planned.command.team, orchestration_id, sequence)
    shown = await as_created(parts, planned.command.team, orchestration_id, sequence)
    if shown is None:
        return Json(action(orchestration_id, None, "Created; it cannot be shown yet"), 202, location)
    return Json({**shown.orchestration, "tasks": shown.tasks}, 201, location)

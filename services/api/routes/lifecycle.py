"""The life of one orchestration: activate, pause, resume, cancel, change, delete."""

from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api.auth import Principal, Writer
from services.api.bodies import read_json
from services.api.parts import Parts, TheParts
from services.api.patches import read_mode, read_orchestration_patch
from services.api.responses import ActionShape, DeletedShape, Json, OrchestrationShape
from services.api.routes.answers import (
    STILL_TO_COME,
    OrchestrationId,
    action,
    found,
    orchestration_address,
    refuse_unknown_parameters,
)
from services.api.routes.carrying_out import DONE_UNSEEN, carry_out, json_body, optional_json, refuse_anything, to_come
from services.api.routes.documented import ACTION_EXAMPLE, AUTH_CODES, errors, good
from shared.command_message import Reply
from shared.domain.commands import (
    ActivateOrchestration,
    AnyCommand,
    CancelOrchestration,
    DeleteOrchestration,
    PauseOrchestration,
    ResumeOrchestration,
    UpdateOrchestration,
)
from shared.domain.events import OrchestrationStatus

router = APIRouter(prefix="/api/orchestrations", tags=["orchestrations"])

_CODES: Final = ("INVALID_REQUEST", *AUTH_CODES, "ORCHESTRATION_NOT_FOUND", "PAYLOAD_TOO_LARGE")
_ERRORS: Final = errors(*_CODES, "INVALID_STATE_TRANSITION", "ALREADY_COMPLETED", "UNSUPPORTED_MEDIA_TYPE")
_UPDATE_ERRORS: Final = errors(
    *(*_CODES, "INVALID_REPOSITORY", "INVALID_MODEL"),
    *("INVALID_STATE_TRANSITION", "UNSUPPORTED_MEDIA_TYPE"),
)
_DELETE_ERRORS: Final = errors(*_CODES, "UNSUPPORTED_MEDIA_TYPE")
_PAUSE_BODY: Final = json_body("PauseRequest", {"stop": {"mode": "stop"}, "drain": {"mode": "drain"}}, required=False)
_PATCH_BODY: Final = json_body(
    "OrchestrationPatch",
    {
        "name": {"name": "Checkout clean-up, second part", "tags": ["checkout", "q3"]},
        "before it is active": {"ref": "develop", "executionMode": "parallel", "maxParallel": 2},
        "cleared": {"webhookUrl": None, "maxCost": None},
    },
)


@dataclass(frozen=True, slots=True)
class _Words:
    """What is said of a command that was carried out, and of one that found nothing left to do."""

    done: str
    already: str

    def of(self, reply: Reply) -> str:
        return self.done if reply.changed else self.already


def _answers(description: str, *examples: tuple[str, str]) -> dict[int | str, dict[str, Any]]:
    """The good answers of an action, with an example of each status and message."""
    shown = {
        message: {"value": {**ACTION_EXAMPLE, "status": status, "message": message}} for status, message in examples
    }
    return {
        200: {
            "model": ActionShape,
            "description": description,
            "content": {"application/json": {"examples": shown}},
        },
        202: {"model": ActionShape, "description": STILL_TO_COME},
    }


_ACTIVATED: Final = {
    **_answers("It is active. Activating twice is no error.", ("ACTIVE", "Activated"), ("ACTIVE", "Already active")),
    **_ERRORS,
}


@router.post(
    "/{orchestration_id}/activate",
    operation_id="activateOrchestration",
    summary="Activate an orchestration",
    responses=_ACTIVATED,
)
@router.patch(
    "/{orchestration_id}/activate",
    operation_id="activateOrchestrationByPatch",
    summary="Activate an orchestration, for clients that send PATCH",
    responses=_ACTIVATED,
)
async def activate(request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    """Starts the tasks that are ready. No body is needed."""
    await refuse_anything(request)
    return await _act(
        request, principal, parts, orchestration_id, ActivateOrchestration(), _Words("Activated", "Already active")
    )


@router.post(
    "/{orchestration_id}/pause",
    operation_id="pauseOrchestration",
    summary="Pause an orchestration",
    responses={
        **_answers("It is paused. Pausing twice is no error.", ("PAUSED", "Paused"), ("PAUSED", "Already paused")),
        **_ERRORS,
    },
    openapi_extra=_PAUSE_BODY,
)
async def pause(request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    """Launches nothing any more. `stop`, which holds without a body, also stops the agents at work: their tasks go
    back to PENDING, and go on with the same agents after a resume where the provider can. `drain` lets them finish.
    """
    refuse_unknown_parameters(request, set())
    mode = read_mode(await optional_json(request))
    return await _act(
        request, principal, parts, orchestration_id, PauseOrchestration(mode=mode), _Words("Paused", "Already paused")
    )


@router.post(
    "/{orchestration_id}/resume",
    operation_id="resumeOrchestration",
    summary="Resume a paused orchestration",
    responses={
        **_answers("It goes on. Resuming twice is no error.", ("ACTIVE", "Resumed"), ("ACTIVE", "Already active")),
        **_ERRORS,
    },
)
async def resume(request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    """Goes on where the pause broke off. No body is needed."""
    await refuse_anything(request)
    return await _act(
        request, principal, parts, orchestration_id, ResumeOrchestration(), _Words("Resumed", "Already active")
    )


@router.post(
    "/{orchestration_id}/cancel",
    operation_id="cancelOrchestration",
    summary="Cancel an orchestration",
    responses={
        **_answers(
            "It is cancelled, or CANCELLING until every agent of it is known to have stopped. Cancelling twice is no "
            "error.",
            *(("CANCELLED", "Cancelled"), ("CANCELLING", "Cancelling")),
            *(("CANCELLED", "Already cancelled"), ("CANCELLING", "Already cancelling")),
        ),
        **_ERRORS,
    },
)
async def cancel(request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    """Stops every agent and cancels what is not finished. No body is needed."""
    await refuse_anything(request)
    ended = _Words("Cancelled", "Already cancelled")
    under_way = _Words("Cancelling", "Already cancelling")
    return await _act(request, principal, parts, orchestration_id, CancelOrchestration(), ended, under_way)


@router.patch(
    "/{orchestration_id}",
    operation_id="updateOrchestration",
    summary="Change an orchestration",
    responses={
        200: {"model": OrchestrationShape, "description": "The orchestration with the changes."},
        202: {"model": ActionShape, "description": STILL_TO_COME},
        **_UPDATE_ERRORS,
    },
    openapi_extra=_PATCH_BODY,
)
async def update(request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    """Takes the fields of a create, but for its tasks; what is absent stays as it is. Null clears `name`,
    `description`, `tags`, `metadata`, `model`, `webhookUrl`, `maxParallel`, `maxCost`, `startAt` and `schedule`.

    `repository`, `ref`, `executionMode`, `startAt` and `schedule` can be changed only while it is PENDING. Agents
    that are at work are not concerned, and a new `model` holds for tasks that have none of their own.
    """
    refuse_unknown_parameters(request, set())
    body = await read_json(request)
    known = found(await parts.reader.exists(principal.team, orchestration_id))
    changes = read_orchestration_patch(
        body,
        known.orchestration,
        await parts.models.names(),
        allow_private_webhooks=parts.settings.allow_private_webhooks,
    )
    command = UpdateOrchestration(changes=changes.values, warnings=changes.warnings)
    outcome = await carry_out(request, principal, parts, orchestration_id, command)
    address = orchestration_address(orchestration_id)
    if outcome is None:
        return to_come(orchestration_id, known.orchestration["status"], address)
    if outcome.shown is None:
        return to_come(orchestration_id, outcome.reply.status, address, DONE_UNSEEN)
    return Json(outcome.shown.orchestration)


@router.delete(
    "/{orchestration_id}",
    operation_id="deleteOrchestration",
    summary="Delete an orchestration",
    responses={
        200: {"model": DeletedShape, "description": "It is gone."},
        202: good(
            ActionShape,
            "It is gone once its agents are known to have stopped, or the decision is still to come.",
            {**ACTION_EXAMPLE, "status": "CANCELLING", "message": "Cancelling"},
        ),
        **_DELETE_ERRORS,
    },
)
async def delete(request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts) -> Response:
    """Cancels what runs, then removes it: after that neither it nor its tasks or agents are found. What it cost stays
    counted, and deliveries of what was told of it stay on record."""
    await refuse_anything(request)
    known = found(await parts.reader.exists(principal.team, orchestration_id))
    outcome = await carry_out(request, principal, parts, orchestration_id, DeleteOrchestration())
    address = orchestration_address(orchestration_id)
    if outcome is None:
        return to_come(orchestration_id, known.orchestration["status"], address)
    if outcome.reply.status == OrchestrationStatus.CANCELLING:
        return to_come(orchestration_id, outcome.reply.status, address, "Cancelling")
    return Json(action(orchestration_id, "DELETED", "Deleted"))


async def _act(
    request: Request,
    principal: Principal,
    parts: Parts,
    orchestration_id: str,
    command: AnyCommand,
    words: _Words,
    cancelling: _Words | None = None,
) -> Response:
    """Carry out a command and tell the state that it led to; `cancelling` are the words while that is CANCELLING."""
    known = found(await parts.reader.exists(principal.team, orchestration_id))
    outcome = await carry_out(request, principal, parts, orchestration_id, command)
    if outcome is None:
        return to_come(orchestration_id, known.orchestration["status"], orchestration_address(orchestration_id))
    status = outcome.reply.status
    if cancelling is not None and status == OrchestrationStatus.CANCELLING:
        words = cancelling
    return Json(action(orchestration_id, status, words.of(outcome.reply)))

"""What can be asked of single tasks: add, change, retry, restart, skip."""

from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from services.api.auth import Principal, Writer
from services.api.bodies import read_json
from services.api.idempotency import Once, PlannedCommand, RequestIds
from services.api.parts import Parts, TheParts
from services.api.patches import read_new_task, read_task_patch
from services.api.responses import Json, TaskActionShape, TaskShape
from services.api.routes.answers import STILL_TO_COME, OrchestrationId, action, found, refuse_unknown_parameters
from services.api.routes.carrying_out import DONE_UNSEEN, Outcome, carry_out, json_body, refuse_anything, to_come
from services.api.routes.documented import AUTH_CODES, errors, good
from services.api.routes.tasks import TaskId, found_task, task_not_found
from shared.domain.commands import AddTask, RestartTask, RetryTask, SkipTask, UpdateTask
from shared.domain.errors import Refusal

router = APIRouter(tags=["tasks"])

_CODES: Final = ("INVALID_REQUEST", *AUTH_CODES, "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
_STATES: Final = ("INVALID_STATE_TRANSITION", "ALREADY_ACTIVE", "ALREADY_COMPLETED")
_ADD_ERRORS: Final = errors(
    *(*_CODES, "MISSING_REQUIRED_FIELD", "INVALID_TASK", "INVALID_MODEL", "ORCHESTRATION_NOT_FOUND"),
    *("INVALID_STATE_TRANSITION", "IDEMPOTENCY_CONFLICT"),
)
_UPDATE_ERRORS: Final = errors(*_CODES, "INVALID_TASK", "INVALID_MODEL", "TASK_NOT_FOUND", *_STATES)
_AGAIN_ERRORS: Final = errors(*_CODES, "TASK_NOT_FOUND", *_STATES, "IDEMPOTENCY_CONFLICT")
_SKIP_ERRORS: Final = errors(*_CODES, "TASK_NOT_FOUND", "INVALID_STATE_TRANSITION", "ALREADY_COMPLETED")
_TASK_EXAMPLE: Final = {
    "title": "Update the changelog",
    "description": "Add a line for the new validation to CHANGELOG.md, under the next release.",
    "complexity": "simple",
    "dependsOn": ["Add input validation"],
}
_ADD_BODY: Final = json_body("TaskRequest", {"task": _TASK_EXAMPLE})
_PATCH_BODY: Final = json_body(
    "TaskPatch",
    {
        "sooner": {"priority": "high", "orderIndex": 0},
        "reworded": {"description": "Validate every field of the form and name the field in the error.", "model": None},
        "dependencies": {"dependsOn": ["Add input validation", 2]},
    },
)
_ACTION_EXAMPLE: Final = {"id": "5d6f3f0e-9a52-5f0a-8f0e-1f6d0a3b7c21", "status": "PENDING", "message": "Restarted"}


def task_address(task_id: str) -> str:
    """For `Location`."""
    return f"/api/tasks/{task_id}"


def _answers(description: str, **example: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: good(TaskActionShape, description, {**_ACTION_EXAMPLE, **example}),
        202: {"model": TaskActionShape, "description": STILL_TO_COME},
    }


@router.post(
    "/api/orchestrations/{orchestration_id}/tasks",
    operation_id="addTask",
    summary="Add a task to an orchestration",
    status_code=201,
    responses={
        201: {"model": TaskShape, "description": "The new task."},
        202: {"model": TaskActionShape, "description": STILL_TO_COME},
        **_ADD_ERRORS,
    },
    openapi_extra=_ADD_BODY,
)
async def add(
    request: Request, principal: Writer, orchestration_id: OrchestrationId, parts: TheParts, once: Once
) -> Response:
    """Also while it runs; one that had ended becomes ACTIVE again. Without `orderIndex` the task comes last, and behind
    those that have the same one already.

    `dependsOn` names tasks that are there already: by title, by index in their order (from 0) or by id.
    """
    refuse_unknown_parameters(request, set())
    body = await read_json(request)

    async def plan(ids: RequestIds) -> PlannedCommand[AddTask]:
        known = found(await parts.reader.exists(principal.team, orchestration_id))
        models = await parts.models.names()
        new = read_new_task(body, known.orchestration, known.tasks, models, task_id=ids.new("task"))
        command = AddTask(task=new.spec, at_end=new.at_end, warnings=new.warnings)
        return PlannedCommand(orchestration_id=orchestration_id, command_id=ids.new("command"), command=command)

    async def act(planned: PlannedCommand[AddTask]) -> Response:
        task_id = planned.command.task.task_id
        outcome = await carry_out(
            request, principal, parts, orchestration_id, planned.command, command_id=planned.command_id
        )
        return _whole(outcome, task_id, status=201)

    return await once.answer(principal.team, body, PlannedCommand[AddTask], plan, act)


@router.patch(
    "/api/tasks/{task_id}",
    operation_id="updateTask",
    summary="Change a task",
    responses={
        200: {"model": TaskShape, "description": "The task with the changes."},
        202: {"model": TaskActionShape, "description": STILL_TO_COME},
        **_UPDATE_ERRORS,
    },
    openapi_extra=_PATCH_BODY,
)
async def update(request: Request, principal: Writer, task_id: TaskId, parts: TheParts) -> Response:
    """What is absent stays as it is; null clears `model`, `dependsOn` and `metadata`. `dependsOn` names tasks by
    title, by index in their order (from 0) or by id. Of tasks with the same `orderIndex`, those come first that came
    first before.

    While an agent is at work on the task only `maxRetries` and `metadata` can be changed, and only `metadata` once it
    is COMPLETED.
    """
    refuse_unknown_parameters(request, set())
    body = await read_json(request)
    known = found_task(await parts.reader.find_task(principal.team, task_id))
    whole = await parts.reader.exists(principal.team, known.orchestration_id)
    if whole is None:
        raise task_not_found()
    models = await parts.models.names()
    changes = read_task_patch(body, known.task, whole.orchestration, whole.tasks, models)
    command = UpdateTask(task_id=task_id, changes=changes.values, warnings=changes.warnings)
    outcome = await _carried_out(request, principal, parts, known.orchestration_id, command)
    return _whole(outcome, task_id, status=200)


@router.post(
    "/api/tasks/{task_id}/retry",
    operation_id="retryTask",
    summary="Try a failed task again",
    responses={**_answers("It is tried again, with all its retries.", message="Retried"), **_AGAIN_ERRORS},
)
async def retry(request: Request, principal: Writer, task_id: TaskId, parts: TheParts, once: Once) -> Response:
    """Only a FAILED one. An orchestration that had ended goes on, also with what was given up for this task's failure.
    No body is needed.
    """
    return await _run_again(request, principal, parts, once, RetryTask(task_id=task_id), "Retried")


@router.post(
    "/api/tasks/{task_id}/restart",
    operation_id="restartTask",
    summary="Do a finished task once more",
    responses={**_answers("It is done once more.", message="Restarted"), **_AGAIN_ERRORS},
)
async def restart(request: Request, principal: Writer, task_id: TaskId, parts: TheParts, once: Once) -> Response:
    """Whatever came of it. An orchestration that had ended goes on. No body is needed."""
    return await _run_again(request, principal, parts, once, RestartTask(task_id=task_id), "Restarted")


@router.post(
    "/api/tasks/{task_id}/skip",
    operation_id="skipTask",
    summary="Go on as if a task were done",
    responses={
        **_answers("It is skipped. Skipping twice is no error.", status="SKIPPED", message="Skipped"),
        **_SKIP_ERRORS,
    },
)
async def skip(request: Request, principal: Writer, task_id: TaskId, parts: TheParts) -> Response:
    """Only a PENDING or FAILED one. What depends on it can start. No body is needed."""
    await refuse_anything(request)
    known = found_task(await parts.reader.find_task(principal.team, task_id))
    outcome = await _carried_out(request, principal, parts, known.orchestration_id, SkipTask(task_id=task_id))
    return _action(outcome, task_id, "Skipped" if outcome and outcome.reply.changed else "Already skipped")


class _Planned(BaseModel):
    """Where a command goes, and the id that makes sending it again harmless."""

    orchestration_id: str
    command_id: str


async def _run_again(
    request: Request, principal: Principal, parts: Parts, once: Once, command: RetryTask | RestartTask, done: str
) -> Response:
    """Each time leads to another agent, so a repeat with the same Idempotency-Key must not count."""
    await refuse_anything(request)

    async def plan(ids: RequestIds) -> _Planned:
        known = found_task(await parts.reader.find_task(principal.team, command.task_id))
        return _Planned(orchestration_id=known.orchestration_id, command_id=ids.new("command"))

    async def act(planned: _Planned) -> Response:
        outcome = await _carried_out(
            request, principal, parts, planned.orchestration_id, command, command_id=planned.command_id
        )
        return _action(outcome, command.task_id, done)

    return await once.answer(principal.team, None, _Planned, plan, act)


async def _carried_out(
    request: Request,
    principal: Principal,
    parts: Parts,
    orchestration_id: str,
    command: UpdateTask | RetryTask | RestartTask | SkipTask,
    *,
    command_id: str | None = None,
) -> Outcome | None:
    """See `carry_out`; a task whose orchestration was deleted meanwhile is not found either."""
    try:
        return await carry_out(request, principal, parts, orchestration_id, command, command_id=command_id)
    except Refusal as refusal:
        if refusal.code == "ORCHESTRATION_NOT_FOUND":
            raise task_not_found() from None
        raise


def _whole(outcome: Outcome | None, task_id: str, *, status: int) -> Json:
    """The task as the command left it."""
    location = {"Location": task_address(task_id)}
    if outcome is None:
        return to_come(task_id, None, task_address(task_id))
    task = outcome.task(task_id)
    if task is None:
        return to_come(task_id, None, task_address(task_id), DONE_UNSEEN)
    return Json(task, status, location if status == 201 else None)


def _action(outcome: Outcome | None, task_id: str, message: str) -> Json:
    """The status that the command led to."""
    if outcome is None:
        return to_come(task_id, None, task_address(task_id))
    task = outcome.task(task_id)
    if task is None:
        return to_come(task_id, None, task_address(task_id), DONE_UNSEEN)
    return Json(action(task_id, task["status"], message))

"""One task by its id."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from services.api.auth import Reader
from services.api.errors import ApiError
from services.api.parts import TheParts
from services.api.reading import ShownTask
from services.api.responses import Json, TaskShape
from services.api.routes.answers import refuse_unknown_parameters
from services.api.routes.documented import AUTH_CODES, errors, good
from services.api.routes.examples import TASK_EXAMPLES

router = APIRouter(prefix="/api/tasks", tags=["tasks"])


def task_not_found() -> ApiError:
    return ApiError("TASK_NOT_FOUND", "there is no task with this id")


def _known_form(
    task_id: Annotated[str, Path(description="The task's `id`.", examples=[TASK_EXAMPLES[0]["id"]])],
) -> str:
    """The id; what cannot be one is not found like any other."""
    try:
        genuine = str(UUID(task_id)) == task_id
    except ValueError:
        genuine = False
    if not genuine:
        raise task_not_found()
    return task_id


TaskId = Annotated[str, Depends(_known_form)]


def found_task(shown: ShownTask | None) -> ShownTask:
    """What was looked for.

    Raises:
        ApiError: 404, there is none.
    """
    if shown is None:
        raise task_not_found()
    return shown


@router.get(
    "/{task_id}",
    operation_id="getTask",
    summary="Get a task with its attempts",
    responses={
        200: good(TaskShape, "As it is now.", TASK_EXAMPLES[0]),
        **errors("INVALID_REQUEST", *AUTH_CODES, "TASK_NOT_FOUND"),
    },
)
async def get(request: Request, principal: Reader, task_id: TaskId, parts: TheParts) -> Response:
    """`waiting_for` says why a task does not run yet, `attempts` what was tried so far, each with its agent."""
    refuse_unknown_parameters(request, set())
    return Json(found_task(await parts.reader.find_task(principal.team, task_id)).task)

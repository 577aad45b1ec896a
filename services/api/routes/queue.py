"""The queue of the key's team."""

import logging
from typing import Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.api.auth import QueueWriter, Reader
from services.api.parts import TheParts
from services.api.responses import ActionShape, Json
from services.api.routes.answers import action, refuse_unknown_parameters
from services.api.routes.carrying_out import refuse_anything
from services.api.routes.documented import AUTH_CODES, BODY_CODES, errors, good

router = APIRouter(prefix="/api/queue", tags=["queue"])

_log = logging.getLogger(__name__)

_STATS: Final = {
    "held": False,
    "running": 3,
    "waiting": 5,
    "waiting_by_priority": {"high": 1, "medium": 4, "low": 0},
    "waiting_for": {"slot": 2, "turn": 3},
    "failed": 0,
}


class WaitingByPriority(BaseModel):
    high: int
    medium: int
    low: int


class QueueStats(BaseModel):
    """Tasks of the team that are under way or wait."""

    held: bool = Field(description="nothing is launched until the queue is resumed")
    running: int
    waiting: int
    waiting_by_priority: WaitingByPriority
    waiting_for: dict[str, int] = Field(description="tasks by what they wait for")
    failed: int = Field(description="messages that could not be handled, at most 1000; see retry-failed")


def _answers(message: str, status: str) -> dict[int | str, dict[str, object]]:
    example = {"id": "checkout", "status": status, "message": message}
    return {
        200: good(ActionShape, "Done; asking twice is no error.", example),
        **errors(*BODY_CODES, *AUTH_CODES),
    }


@router.get(
    "/stats",
    operation_id="getQueueStats",
    summary="Count what runs and what waits",
    responses={
        200: good(QueueStats, "As of now.", _STATS),
        **errors("INVALID_REQUEST", *AUTH_CODES),
    },
)
async def stats(request: Request, principal: Reader, parts: TheParts) -> Response:
    refuse_unknown_parameters(request, set())
    await parts.reader.wait_current(principal.team)
    return Json(await parts.queue.stats(principal.team))


@router.post(
    "/pause",
    operation_id="pauseQueue",
    summary="Launch no agents of the team for now",
    responses=_answers("Paused", "PAUSED"),
)
async def pause(request: Request, principal: QueueWriter, parts: TheParts) -> Response:
    """What runs goes on. Tasks whose turn has come wait, and show `waiting_for: pause`."""
    await refuse_anything(request)
    changed = await parts.queue.switch.hold(principal.team)
    _log.info("The queue is held", extra={"team": principal.team, "actor": principal.name})
    return Json(action(principal.team, "PAUSED", "Paused" if changed else "Already paused"))


@router.post(
    "/resume",
    operation_id="resumeQueue",
    summary="Launch agents of the team again",
    responses=_answers("Resumed", "ACTIVE"),
)
async def resume(request: Request, principal: QueueWriter, parts: TheParts) -> Response:
    await refuse_anything(request)
    changed = await parts.queue.switch.let_go(principal.team)
    _log.info("The queue goes on", extra={"team": principal.team, "actor": principal.name})
    return Json(action(principal.team, "ACTIVE", "Resumed" if changed else "Already active"))


@router.post(
    "/retry-failed",
    operation_id="retryFailedMessages",
    summary="Handle again what could not be handled",
    responses=_answers("2 messages are handled again", "ACTIVE"),
)
async def retry_failed(request: Request, principal: QueueWriter, parts: TheParts) -> Response:
    """Puts at most 1000 parked messages of the team back where they came from. Failed tasks are not meant: those are
    retried one by one."""
    await refuse_anything(request)
    handled = await parts.queue.retry_failed(principal.team)
    kept = f"; {handled.kept} can only be cleared" if handled.kept else ""
    return Json(action(principal.team, "ACTIVE", f"{_messages(handled.done)} handled again{kept}"))


@router.post(
    "/clear-failed",
    operation_id="clearFailedMessages",
    summary="Throw away what could not be handled",
    responses=_answers("2 messages are thrown away", "ACTIVE"),
)
async def clear_failed(request: Request, principal: QueueWriter, parts: TheParts) -> Response:
    """Throws at most 1000 parked messages of the team away."""
    await refuse_anything(request)
    handled = await parts.queue.clear_failed(principal.team)
    _log.warning("Parked messages are thrown away", extra={"team": principal.team, "actor": principal.name})
    return Json(action(principal.team, "ACTIVE", f"{_messages(handled.done)} thrown away"))


def _messages(count: int) -> str:
    return "1 message is" if count == 1 else f"{count} messages are"

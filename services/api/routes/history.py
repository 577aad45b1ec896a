"""What has happened to an orchestration: its events as they are stored, and its log for people."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from services.api.auth import Reader
from services.api.history import Kept
from services.api.log_lines import Level, LogLine, log_lines
from services.api.ndjson import MEDIA_TYPE, Lines, wants_lines
from services.api.paging import Cut, Place, cut, left, read_place
from services.api.parts import Parts, TheParts
from services.api.past import At, FutureError
from services.api.problems import InvalidRequestError, problem
from services.api.projections import apply
from services.api.reading import Shown
from services.api.responses import EventsPage, Json, LogPage
from services.api.routes.answers import OrchestrationId, found, page, refuse_unknown_parameters
from services.api.routes.documented import AUTH_CODES, errors, good
from shared.views import View

router = APIRouter(prefix="/api/orchestrations", tags=["history"])

_CHUNK_BYTES: Final = 16 * 1024
_ERRORS: Final = errors("INVALID_REQUEST", *AUTH_CODES, "ORCHESTRATION_NOT_FOUND")
_EVENT: Final = {
    "sequence": 4711,
    "version": 9,
    "id": "b7d7c3f5-6c1e-5a52-8a7f-3f0c6f0a9d21",
    "type": "task.retry_scheduled",
    "occurred_at": "2030-01-31T09:00:00+00:00",
    "actor": "monitor",
    "command_id": "0f0f6a1e-7a44-5f0b-9d5d-1c8f3a1b2c3d",
    "correlation_id": "5f6f0f3e-5a4b-5a0e-8f5f-0d6f7a0f4c55",
    "data": {
        "task_id": "5f6f0f3e-5a4b-5a0e-8f5f-0d6f7a0f4c55",
        "retry_count": 1,
        "due_at": "2030-01-31T09:01:00Z",
    },
}
_EVENTS_ANSWER: Final[dict[str, Any]] = good(
    EventsPage, "One page of its history.", {"items": [_EVENT], "nextCursor": "4711"}
)
_LINE: Final = {
    "sequence": 4711,
    "time": "2030-01-31T09:00:00Z",
    "level": "warning",
    "message": "Add input validation: attempt 1 failed after 2 min 5 s: AGENT_FAILED: the agent ended in an error",
    "event": "attempt.failed",
    "task_id": "5f6f0f3e-5a4b-5a0e-8f5f-0d6f7a0f4c55",
    "task_title": "Add input validation",
    "attempt_id": "7c0e4d0b-9a1f-5e55-b0a8-6a2f1d9c8e47",
}
_LOG_ANSWER: Final[dict[str, Any]] = {
    "model": LogPage,
    "description": "One page, or every line where `Accept` names NDJSON.",
    "content": {
        "application/json": {"example": {"items": [_LINE], "nextCursor": "4711"}},
        MEDIA_TYPE: {"schema": {"type": "string"}, "example": orjson.dumps(_LINE).decode() + "\n"},
    },
}

Cursor = Annotated[
    str | None, Query(max_length=30, description="a page's `nextCursor`; not with `after`", examples=["4711"])
]
After = Annotated[
    int | None,
    Query(ge=0, le=10**18 - 1, description="the sequence of a commit, behind which to begin", examples=[4711]),
]
Limit = Annotated[int, Query(ge=1, le=500, description="of a page")]
LevelName = Literal["info", "warning", "error"]


@router.get(
    "/{orchestration_id}/events",
    operation_id="listEvents",
    summary="List the events of an orchestration, oldest first",
    responses={200: _EVENTS_ANSWER, **_ERRORS},
)
async def events(
    request: Request,
    principal: Reader,
    orchestration_id: OrchestrationId,
    parts: TheParts,
    limit: Limit = 100,
    after: After = None,
    cursor: Cursor = None,
) -> Response:
    """The events of one commit share its sequence and stand on one page, unless they are more than `limit`."""
    refuse_unknown_parameters(request, {"limit", "after", "cursor"})
    begin = _begin(after, cursor)
    shown = found(await parts.reader.exists(principal.team, orchestration_id))
    async with aclosing(_events(parts, principal.team, shown, begin)) as commits:
        return _page(await cut(commits, begin, limit))


@router.get(
    "/{orchestration_id}/logs",
    operation_id="listLogLines",
    summary="Read the log of an orchestration, oldest first",
    responses={200: _LOG_ANSWER, **_ERRORS},
)
async def logs(
    request: Request,
    principal: Reader,
    orchestration_id: OrchestrationId,
    parts: TheParts,
    level: Annotated[LevelName, Query(description="lines of this level and above: info, warning, error")] = "info",
    task: Annotated[
        str | None,
        Query(max_length=200, description="the id of a task, its title, or its index (from 0): only its lines"),
    ] = None,
    limit: Annotated[int | None, Query(ge=1, le=500, description="of a page; 100 if absent")] = None,
    after: After = None,
    cursor: Cursor = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Lines for people, made of the events alone. With `Accept: application/x-ndjson` all of them, one JSON object a
    line, as fast as the client takes them; then there is no `limit`. A stream that fails in the middle is cut off: only
    one that has ended whole is whole.
    """
    refuse_unknown_parameters(request, {"level", "task", "limit", "after", "cursor"})
    begin = _begin(after, cursor)
    shown = found(await parts.reader.exists(principal.team, orchestration_id))
    wanted = _Wanted(Level[level.upper()], None if task is None else _task_ids(shown, task))
    if not wants_lines(accept):
        async with aclosing(_lines(parts, principal.team, shown, begin, wanted)) as commits:
            return _page(await cut(commits, begin, limit or 100), {"Vary": "Accept"})
    if limit is not None:
        raise InvalidRequestError([problem("limit", "is only for pages; NDJSON brings every line")])
    commits = _lines(parts, principal.team, shown, begin, wanted)
    return await Lines.begun(_chunks(commits, begin))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which lines to show. `task_ids` None: those of all tasks, and those about none."""

    level: Level
    task_ids: Collection[str] | None

    def __call__(self, line: LogLine) -> bool:
        return line.level >= self.level and (self.task_ids is None or line.task_id in self.task_ids)


def _commits(parts: Parts, team: str, shown: Shown, begin: Place) -> AsyncGenerator[Kept, None]:
    """From `begin` to at least where the orchestration is shown to be: this process need not have heard of all that."""
    known = max(begin.sequence, shown.sequence)
    return parts.history.commits(team, shown.orchestration["id"], after=begin.behind, known=known)


async def _events(
    parts: Parts, team: str, shown: Shown, begin: Place
) -> AsyncGenerator[tuple[int, Sequence[View]], None]:
    """The events of each commit, as they are stored: a newer release's are shown, too."""
    async with aclosing(_commits(parts, team, shown, begin)) as commits:
        async for kept in commits:
            yield kept.sequence, _event_views(kept)


def _event_views(kept: Kept) -> list[View]:
    commit = orjson.loads(kept.body)
    return [
        {
            "sequence": kept.sequence,
            "version": version,
            "id": event["id"],
            "type": event["type"],
            "occurred_at": event["occurred_at"],
            "actor": commit["actor"],
            "command_id": commit["command_id"],
            "correlation_id": commit["correlation_id"],
            "data": event["data"],
        }
        for version, event in enumerate(commit["events"], start=commit["version"])
    ]


async def _lines(
    parts: Parts, team: str, shown: Shown, begin: Place, wanted: _Wanted
) -> AsyncGenerator[tuple[int, Sequence[View]], None]:
    """The wanted lines of each commit."""
    orchestration_id, at = shown.orchestration["id"], At(begin.behind, None)
    try:
        point = await parts.past.point(team, orchestration_id, at, known=shown.sequence) if begin.behind else None
    except FutureError:
        return
    state = point.state if point else None
    async with aclosing(_commits(parts, team, shown, begin)) as commits:
        async for kept in commits:
            stored = kept.decoded()
            state = apply(state, stored)
            yield kept.sequence, [line.view() for line in log_lines(stored, state) if wanted(line)]


async def _chunks(
    commits: AsyncGenerator[tuple[int, Sequence[View]], None], begin: Place
) -> AsyncGenerator[bytes, None]:
    """Lines of JSON, many at a time."""
    chunk = bytearray()
    async with aclosing(commits):
        async for sequence, views in commits:
            for view in left(views, sequence, begin):
                chunk += orjson.dumps(view, option=orjson.OPT_APPEND_NEWLINE)
            if len(chunk) >= _CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
    if chunk:
        yield bytes(chunk)


def _begin(after: int | None, cursor: str | None) -> Place:
    if cursor is None:
        return Place(after or 0)
    if after is not None:
        raise InvalidRequestError([problem("after", "cannot be combined with cursor")])
    try:
        return read_place(cursor)
    except ValueError as exc:
        raise InvalidRequestError([problem("cursor", str(exc))]) from None


def _task_ids(shown: Shown, wanted: str) -> Collection[str]:
    """The tasks of this id, else of this title, else the one at this index, as they are now."""
    by_id = [task["id"] for task in shown.tasks if task["id"] == wanted]
    by_title = [task["id"] for task in shown.tasks if task["title"] == wanted.strip()]
    by_index = shown.tasks[int(wanted) :][:1] if wanted.isascii() and wanted.isdigit() else []
    task_ids = by_id or by_title or [task["id"] for task in by_index]
    if not task_ids:
        raise InvalidRequestError([problem("task", "is no id, title or index of a task of this orchestration")])
    return frozenset(task_ids)


def _page(found: Cut[View], headers: Mapping[str, str] | None = None) -> Json:
    return Json(page(found.items, None if found.end is None else str(found.end)), headers=headers)

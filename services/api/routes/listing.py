"""The list of orchestrations."""

import re
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.api import rules
from services.api.auth import Reader
from services.api.listing_plan import SortName, Wanted
from services.api.parts import TheParts
from services.api.problems import InvalidRequestError, Problem, problem
from services.api.responses import Json, OrchestrationsPage
from services.api.routes.answers import page, refuse_unknown_parameters
from services.api.routes.documented import AUTH_CODES, errors, good
from services.api.routes.examples import ORCHESTRATION_EXAMPLE
from services.api.terms import read_search
from shared.domain.events import OrchestrationStatus

router = APIRouter(prefix="/api/orchestrations", tags=["orchestrations"])

_PARAMETERS: Final = {
    *("status", "repository", "tag", "created_by", "since", "until", "q"),
    *("sort", "limit", "cursor"),
}
_CURSOR: Final = "WyIyMDI2LTExLTIwVDA5OjMwOjAwKzAwOjAwIiwiMGIwZThjMGEiLCIzOGJiNjM1M2Y0ZmQ1YjBiIl0"
_ZONE_WITHOUT_PLUS: Final = re.compile(r"(T.*) (\d\d:?\d\d)")


@router.get(
    "",
    operation_id="listOrchestrations",
    summary="List orchestrations",
    responses={
        200: good(
            OrchestrationsPage,
            "One page. Where matches are rare it may have fewer items than `limit`, even none; the list "
            "goes on for as long as there is a `nextCursor`.",
            {"items": [ORCHESTRATION_EXAMPLE], "nextCursor": _CURSOR},
        ),
        **errors("INVALID_REQUEST", "INVALID_REPOSITORY", *AUTH_CODES),
    },
)
async def list_orchestrations(
    request: Request,
    principal: Reader,
    parts: TheParts,
    status: Annotated[
        list[OrchestrationStatus],
        Query(max_length=8, description="In any of these states; may be given several times.", examples=[["ACTIVE"]]),
    ] = [],  # noqa: B006 - the framework copies it
    repository: Annotated[
        str | None,
        Query(max_length=200, description="`owner/repo` or its https address.", examples=["acme/shop"]),
    ] = None,
    tag: Annotated[
        list[str],
        Query(
            max_length=20,
            description="With this tag; given several times, with all of them.",
            examples=[["checkout"]],
        ),
    ] = [],  # noqa: B006 - the framework copies it
    created_by: Annotated[
        str | None, Query(max_length=200, description="The name of the key that made it.", examples=["operator"])
    ] = None,
    since: Annotated[
        str | None,
        Query(
            max_length=100,
            description="Made at this time or later; ISO 8601 with a time zone.",
            examples=["2026-11-01T00:00:00Z"],
        ),
    ] = None,
    until: Annotated[
        str | None,
        Query(
            max_length=100,
            description="Made before this time; ISO 8601 with a time zone.",
            examples=["2026-12-01T00:00:00Z"],
        ),
    ] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Words in the name, the description or a task's title, in any order and case. "
            '`"several words"` in quotes must follow one another, `-word` must not be there; '
            "the last word may be the beginning of one.",
            examples=['validation "checkout form" -draft'],
        ),
    ] = None,
    sort: Annotated[
        SortName,
        Query(description="By when it was made or last changed, `-` for the newest first.", examples=["-updated_at"]),
    ] = "-created_at",
    limit: Annotated[int, Query(ge=1, le=100, description="Items on a page, at most.", examples=[20])] = 20,
    cursor: Annotated[
        str | None,
        Query(
            max_length=500,
            description="A page's `nextCursor`, for the page behind it, with the same filters.",
            examples=[_CURSOR],
        ),
    ] = None,
) -> Response:
    """All filters must hold. Pages stay in order while orchestrations are added; sorted by `updated_at`, one that
    changes meanwhile moves to where it then belongs."""
    refuse_unknown_parameters(request, _PARAMETERS, {"status", "tag"})
    problems: list[Problem] = []
    wanted = Wanted(
        statuses=tuple(dict.fromkeys(state.value for state in status)),
        repository=_repository(repository, problems),
        tags=tuple(dict.fromkeys(_text("tag", value.strip(), problems) for value in tag)),
        created_by=_text("created_by", created_by, problems) if created_by is not None else None,
        since=moment("since", since, problems),
        until=moment("until", until, problems),
        search=_search(q, problems),
        sort=sort,
    )
    if problems:
        raise InvalidRequestError(problems)
    await parts.reader.wait_current(principal.team)
    found = await parts.listing.page(principal.team, wanted, limit=limit, cursor=cursor)
    return Json(page(found.items, found.next_cursor))


def _repository(text: str | None, problems: list[Problem]) -> str | None:
    if text is None:
        return None
    try:
        return rules.repository(text)
    except ValueError as exc:
        problems.append(problem("repository", str(exc)))
        return None


def _text(name: str, text: str, problems: list[Problem]) -> str:
    if "\0" in text:
        problems.append(problem(name, "must not contain NUL characters"))
    return text


def _search(text: str | None, problems: list[Problem]) -> str | None:
    if text is not None and not read_search(text):
        problems.append(problem("q", "has no word to look for"))
    return text


def moment(name: str, text: str | None, problems: list[Problem]) -> datetime | None:
    """The time in a parameter, None if it is absent or wrong; then `problems` says so."""
    if text is None:
        return None
    try:
        # A plus that was not encoded arrives as a blank.
        return rules.moment(_ZONE_WITHOUT_PLUS.sub(r"\1+\2", text))
    except ValueError as exc:
        problems.append(problem(name, str(exc)))
        return None

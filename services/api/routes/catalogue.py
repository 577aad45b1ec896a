"""What can be asked for and what it has cost: models, repositories and costs."""

from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.api.auth import Reader
from services.api.costs import Costs, GroupBy, Span, Sums
from services.api.parts import TheParts
from services.api.problems import InvalidRequestError, Problem
from services.api.responses import Json
from services.api.routes.answers import page, refuse_unknown_parameters
from services.api.routes.documented import AUTH_CODES, errors, good
from services.api.routes.listing import moment
from shared.moments import written
from shared.views import View

router = APIRouter(prefix="/api", tags=["catalogue"])

_CURRENCY: Final = "USD"


class ModelShape(BaseModel):
    id: str
    display_name: str
    aliases: list[str] = Field(description="other names that are taken for it")


class ModelsShape(BaseModel):
    """The models that can be named in an orchestration or a task."""

    items: list[ModelShape]
    source: Literal["provider", "fallback"] = Field(
        description="`fallback` while the provider could not be asked: it may have others"
    )


class RepositoryShape(BaseModel):
    repository: str


class RepositoriesShape(BaseModel):
    """The repositories in which the provider can have agents work."""

    items: list[RepositoryShape]
    as_of: str = Field(description="when the provider said so")
    age: int = Field(description="seconds since then")


class SumsShape(BaseModel):
    """Over all attempts that have ended."""

    cost: float = Field(description="dollars")
    attempts: int
    failed_attempts: int = Field(description="they are among `attempts`, and their cost is counted")
    duration: int = Field(description="milliseconds")


class CostGroupShape(SumsShape):
    key: str = Field(
        description="the team, the month in UTC as YYYY-MM, the repository, the orchestration's id, or the model; "
        "`auto` stands for those that the provider chose"
    )


class CostsShape(BaseModel):
    """What the attempts of a span of time cost."""

    currency: Literal["USD"]
    since: str | None
    until: str | None
    group_by: GroupBy | None
    total: SumsShape
    items: list[CostGroupShape] = Field(description="the groups, in the order of their keys; empty without `groupBy`")
    nextCursor: str | None = Field(default=None, description="absent on the last page")


_MODELS_EXAMPLE: Final = {
    "items": [{"id": "claude-4-sonnet-thinking", "display_name": "Claude 4 Sonnet", "aliases": ["sonnet"]}],
    "source": "provider",
}
_REPOSITORIES_EXAMPLE: Final = {
    "items": [{"repository": "https://github.com/acme/shop"}],
    "as_of": "2026-11-20T09:30:00Z",
    "age": 1260,
}
_COSTS_EXAMPLE: Final = {
    "currency": _CURRENCY,
    "since": "2026-11-01T00:00:00Z",
    "until": None,
    "group_by": "repository",
    "total": {"cost": 4.25, "attempts": 9, "failed_attempts": 2, "duration": 5_100_000},
    "items": [
        {
            "key": "https://github.com/acme/shop",
            "cost": 4.25,
            "attempts": 9,
            "failed_attempts": 2,
            "duration": 5_100_000,
        }
    ],
}


@router.get(
    "/models",
    operation_id="listModels",
    summary="List the models that can be named",
    responses={
        200: good(ModelsShape, "The provider's list, at most an hour old.", _MODELS_EXAMPLE),
        **errors("INVALID_REQUEST", *AUTH_CODES),
    },
)
async def models(request: Request, _principal: Reader, parts: TheParts) -> Response:
    """Naming no model leaves the choice to the provider, which is recommended."""
    refuse_unknown_parameters(request, set())
    offer = await parts.models.offer()
    items = [
        {"id": model.id, "display_name": model.display_name, "aliases": list(model.aliases)} for model in offer.models
    ]
    return Json({"items": items, "source": offer.source})


@router.get(
    "/repositories",
    operation_id="listRepositories",
    summary="List the repositories that the provider has access to",
    responses={
        200: good(RepositoriesShape, "The provider's list, as a rule at most an hour old.", _REPOSITORIES_EXAMPLE),
        **errors("INVALID_REQUEST", *AUTH_CODES, "CURSOR_API_ERROR"),
    },
)
async def repositories(request: Request, _principal: Reader, parts: TheParts) -> Response:
    """Those of its GitHub App's installations. The provider may be asked for them seldom, and takes its time: 503 as
    long as it has not told them, with the seconds to wait in `Retry-After`.
    """
    refuse_unknown_parameters(request, set())
    listed = await parts.repositories.listed()
    as_of = parts.clock.now() - timedelta(seconds=listed.age)
    items = [{"repository": address} for address in listed.addresses]
    return Json({"items": items, "as_of": written(as_of), "age": round(listed.age)})


@router.get(
    "/costs",
    operation_id="getCosts",
    summary="Sum up what attempts cost",
    responses={
        200: good(CostsShape, "The sums, and one page of groups.", _COSTS_EXAMPLE),
        **errors("INVALID_REQUEST", *AUTH_CODES),
    },
)
async def costs(
    request: Request,
    principal: Reader,
    parts: TheParts,
    since: Annotated[
        str | None,
        Query(
            max_length=100,
            description="Attempts that ended at this time or later; ISO 8601 with a time zone.",
            examples=["2026-11-01T00:00:00Z"],
        ),
    ] = None,
    until: Annotated[
        str | None,
        Query(
            max_length=100,
            description="Attempts that ended before this time; ISO 8601 with a time zone.",
            examples=["2026-12-01T00:00:00Z"],
        ),
    ] = None,
    group_by: Annotated[
        GroupBy | None,
        Query(alias="groupBy", description="Give the sums of each group too.", examples=["repository"]),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Groups on a page, at most.", examples=[100])] = 100,
    cursor: Annotated[
        str | None,
        Query(
            max_length=1000,
            description="A page's `nextCursor`, for the groups behind it, with the same parameters.",
            examples=["WyJtb250aCIsbnVsbCxudWxsLCIyMDI2LTExIl0"],
        ),
    ] = None,
) -> Response:
    """An attempt counts once it has ended, however it ended and whether its orchestration is still there or not."""
    refuse_unknown_parameters(request, {"since", "until", "groupBy", "limit", "cursor"})
    problems: list[Problem] = []
    span = Span(moment("since", since, problems), moment("until", until, problems))
    if problems:
        raise InvalidRequestError(problems)
    await parts.reader.wait_current(principal.team)
    found = await parts.costs.sums(principal.team, span, by=group_by, limit=limit, cursor=cursor)
    return Json(_costs(found, span, group_by))


def _costs(found: Costs, span: Span, group_by: GroupBy | None) -> View:
    return {
        "currency": _CURRENCY,
        "since": written(span.since),
        "until": written(span.until),
        "group_by": group_by,
        "total": _sums(found.total),
        **page([{"key": key, **_sums(sums)} for key, sums in found.groups], found.next_cursor),
    }


def _sums(sums: Sums) -> View:
    return {
        "cost": float(sums.cost),
        "attempts": sums.attempts,
        "failed_attempts": sums.failed_attempts,
        "duration": sums.duration_ms,
    }

"""Requests to make a key."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from services.api.auth import Permission, Principal
from services.api.errors import ApiError
from services.api.field_types import Moment, text
from services.api.problems import InvalidRequestError, Problem, problem
from services.api.schemas import Strict, check_part
from services.api.settings import TEAM_PATTERN


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("rule", "must not contain control characters")
    return value


class KeyRequest(Strict):
    """A key to be made."""

    name: Annotated[
        str,
        text(1, 100),
        AfterValidator(_printable),
        Field(description="who or what will hold it; shown as the author of what it does"),
    ]
    team: (
        Annotated[
            str,
            StringConstraints(pattern=TEAM_PATTERN, max_length=64),
        ]
        | None
    ) = None
    """Whose work it sees; the asking key's own team if absent."""
    permissions: Annotated[
        list[Permission], Field(min_length=1, max_length=10, description="none that the asking key lacks")
    ]
    expires_at: Moment | None = Field(default=None, description="after this it is refused; absent: never")


def read_key(body: Any, asking: Principal, now: datetime) -> KeyRequest:
    """The request, checked.

    Raises:
        InvalidRequestError: names every field that is wrong.
        ApiError: 403, `asking` may not make such a key.
    """
    request, problems = check_part(KeyRequest, body, {})
    if request is not None:
        problems = list(_across(body, request, now))
    if request is None or problems:
        raise InvalidRequestError(problems)
    refuse_more_than_own(asking, request.permissions, request.team)
    return request


def _across(body: dict[str, Any], request: KeyRequest, now: datetime) -> Iterator[Problem]:
    if request.expires_at is not None and request.expires_at <= now:
        yield problem("expires_at" if "expires_at" in body else "expiresAt", "must be in the future")


def refuse_more_than_own(asking: Principal, permissions: Collection[Permission], team: str | None) -> None:
    """
    Raises:
        ApiError: 403, `asking` may not give these permissions, or not in that team.
    """
    lacking = sorted(set(permissions) - asking.permissions)
    if lacking:
        raise ApiError(
            "FORBIDDEN",
            f"a key cannot give what it lacks itself: {', '.join(lacking)}",
            metadata={"permissions": lacking},
        )
    if team not in (None, asking.team) and not asking.operator:
        raise ApiError("FORBIDDEN", "only the operator's key makes keys for other teams", metadata={"field": "team"})

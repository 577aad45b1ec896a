"""Who asks, and what they may do."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, get_args

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from services.api.errors import ApiError

Permission = Literal["orchestrations:read", "orchestrations:write", "agents:write", "queue:write", "admin"]
ALL_PERMISSIONS: frozenset[Permission] = frozenset(get_args(Permission))


@dataclass(frozen=True, slots=True)
class Principal:
    """Who holds the key that was shown, and whose work they see."""

    team: str
    name: str
    permissions: frozenset[Permission]


class Authenticator(Protocol):
    async def authenticate(self, key: bytes) -> Principal | None:
        """Whose key it is, None if it is nobody's."""


class OneKey:
    """`Authenticator` for the one key of the settings, which may do everything in its team."""

    def __init__(self, key: str, *, team: str) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()
        self._principal = Principal(team, "operator", ALL_PERMISSIONS)

    async def authenticate(self, key: bytes) -> Principal | None:
        genuine = hmac.compare_digest(hashlib.sha256(key).digest(), self._digest)
        return self._principal if genuine else None


# For the OpenAPI document; the headers are read below, where both are looked at in order.
_API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False)
_BEARER = HTTPBearer(auto_error=False)


def presented_key(request: Request) -> bytes | None:
    """The key in `X-API-Key`, else in `Authorization: Bearer`, as the bytes that were sent."""
    key = request.headers.get("X-API-Key", "").strip()
    if not key:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
    return key.strip().encode("latin-1") or None


def requires(permission: Permission) -> Callable[..., Awaitable[Principal]]:
    """A dependency that gives the principal.

    The answer is 401 without a key or with one that is nobody's, 403 where the key lacks `permission`.
    """

    async def authorized(
        request: Request,
        _header: Annotated[object, Security(_API_KEY)] = None,
        _bearer: Annotated[object, Security(_BEARER)] = None,
    ) -> Principal:
        authenticator: Authenticator = request.app.state.parts.authenticator
        key = presented_key(request)
        if key is None:
            raise ApiError("UNAUTHORIZED", "an API key is needed, in X-API-Key or as Authorization: Bearer")
        principal = await authenticator.authenticate(key)
        if principal is None:
            raise ApiError("INVALID_API_KEY", "the API key is not valid")
        if permission not in principal.permissions:
            raise ApiError("FORBIDDEN", f"the API key lacks the permission {permission}")
        return principal

    return authorized


Reader = Annotated[Principal, Depends(requires("orchestrations:read"))]
Writer = Annotated[Principal, Depends(requires("orchestrations:write"))]

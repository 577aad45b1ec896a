"""Who asks, and what they may do."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol, get_args

from fastapi import Depends, Request, Security, WebSocket
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection

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

KEY_PROTOCOL: Final = "bearer."
"""A browser cannot set headers on a WebSocket: there the key is offered as the subprotocol `bearer.<key>`.

It must never be the one that is chosen, for the choice is answered. There is no query parameter for keys: addresses
are written to logs by everything on the way.
"""


def presented_key(connection: HTTPConnection) -> bytes | None:
    """The key in `X-API-Key`, else in `Authorization: Bearer`, else (WebSocket) in a subprotocol; as it was sent."""
    key = connection.headers.get("X-API-Key", "").strip()
    if not key:
        scheme, _, key = connection.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = _offered_key(connection)
    return key.strip().encode("latin-1") or None


def _offered_key(connection: HTTPConnection) -> str:
    if connection.scope["type"] != "websocket":
        return ""
    offered = [protocol for protocol in connection.scope["subprotocols"] if protocol.startswith(KEY_PROTOCOL)]
    return offered[0].removeprefix(KEY_PROTOCOL) if offered else ""


async def authenticate(connection: HTTPConnection, permission: Permission) -> Principal:
    """Who asks, by HTTP or WebSocket (before it is accepted).

    Raises:
        ApiError: 401 without a key or with one that is nobody's, 403 where the key lacks `permission`.
    """
    authenticator: Authenticator = connection.app.state.parts.authenticator
    key = presented_key(connection)
    if key is None:
        raise ApiError("UNAUTHORIZED", "an API key is needed, in X-API-Key or as Authorization: Bearer")
    principal = await authenticator.authenticate(key)
    if principal is None:
        raise ApiError("INVALID_API_KEY", "the API key is not valid")
    if permission not in principal.permissions:
        raise ApiError("FORBIDDEN", f"the API key lacks the permission {permission}")
    return principal


@dataclass(frozen=True, slots=True)
class Requires:
    """A dependency of HTTP routes that gives the principal, see `authenticate`. The permission can be read off it."""

    permission: Permission

    async def __call__(
        self,
        request: Request,
        _header: Annotated[object, Security(_API_KEY)] = None,
        _bearer: Annotated[object, Security(_BEARER)] = None,
    ) -> Principal:
        return await authenticate(request, self.permission)


@dataclass(frozen=True, slots=True)
class WebSocketRequires:
    """The same for WebSocket routes: what it raises comes before the connection is accepted."""

    permission: Permission

    async def __call__(self, websocket: WebSocket) -> Principal:
        return await authenticate(websocket, self.permission)


def requires(permission: Permission) -> Requires:
    """A dependency that gives the principal, or answers 401 or 403."""
    return Requires(permission)


Reader = Annotated[Principal, Depends(requires("orchestrations:read"))]
Writer = Annotated[Principal, Depends(requires("orchestrations:write"))]
AgentsWriter = Annotated[Principal, Depends(requires("agents:write"))]
QueueWriter = Annotated[Principal, Depends(requires("queue:write"))]
Admin = Annotated[Principal, Depends(requires("admin"))]
WebSocketReader = Annotated[Principal, Depends(WebSocketRequires("orchestrations:read"))]

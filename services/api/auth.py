"""Who asks, and what they may do."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol, get_args

from fastapi import Depends, Request, Security, WebSocket
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection

from services.api.errors import ApiError
from services.api.failed_attempts import FailedAttempts
from services.api.request_limit import QuotaExceededError, RequestQuota, Standing, too_many_requests

Permission = Literal["orchestrations:read", "orchestrations:write", "agents:write", "queue:write", "admin"]
ALL_PERMISSIONS: frozenset[Permission] = frozenset(get_args(Permission))


OPERATOR_ID: Final = "operator"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who holds the key that was shown, and whose work they see.

    `key_id` is the stored key's id, or "operator" for the one of the settings. `operator`: manages the keys of every
    team; everything else is its own team's, as for any other key.
    """

    team: str
    name: str
    permissions: frozenset[Permission]
    key_id: str = OPERATOR_ID
    operator: bool = False


class Authenticator(Protocol):
    def recognises(self, key: bytes) -> bool:
        """Whether the key has been shown before and was genuine. Asks nobody."""

    async def authenticate(self, key: bytes) -> Principal | None:
        """Whose key it is, None if it is nobody's.

        Raises:
            ApiError: 401, it was somebody's, but is revoked or has expired.
            psycopg.OperationalError: it cannot be told without the database, which is away.
        """


class OneKey:
    """`Authenticator` for the one key of the settings, which may do everything in its team and manages all keys."""

    def __init__(self, key: str, *, team: str) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()
        self._principal = Principal(team, "operator", ALL_PERMISSIONS, OPERATOR_ID, operator=True)

    def recognises(self, key: bytes) -> bool:
        return hmac.compare_digest(hashlib.sha256(key).digest(), self._digest)

    async def authenticate(self, key: bytes) -> Principal | None:
        return self._principal if self.recognises(key) else None


class Gate:
    """Lets in who shows a key, as often as the limits allow.

    Args:
        authenticators: asked in order.
        failures: stops an address that goes on showing keys that are nobody's.
        quota: of requests, for each key.
    """

    def __init__(self, authenticators: Sequence[Authenticator], failures: FailedAttempts, quota: RequestQuota) -> None:
        self._authenticators = tuple(authenticators)
        self._failures = failures
        self._quota = quota

    async def admit(self, key: bytes, address: str) -> tuple[Principal, Standing | None]:
        """Who asks, and how much they may still ask; None where there is no limit.

        Raises:
            ApiError: 401 for a key that is not valid, 429 for too many failures from `address` or too many requests.
        """
        principal = await self._principal(key, address)
        standing = await self._quota.take(principal.key_id)
        return principal, standing

    async def _principal(self, key: bytes, address: str) -> Principal:
        # Whoever is known is let pass: others at the same address may be behind the same proxy.
        if not any(authenticator.recognises(key) for authenticator in self._authenticators):
            self._failures.check(address)
        try:
            return await self.identify(key)
        except ApiError:
            self._failures.note(address)
            raise

    async def identify(self, key: bytes) -> Principal:
        """Whose key it is. Counts as nothing: for those who were let in before.

        Raises:
            ApiError: 401, it is not valid.
            psycopg.OperationalError: it cannot be told without the database, which is away.
        """
        for authenticator in self._authenticators:
            principal = await authenticator.authenticate(key)
            if principal is not None:
                return principal
        raise ApiError("INVALID_API_KEY", "the API key is not valid")


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
    """Who asks, by HTTP or WebSocket (before it is accepted). Counts as one request of theirs.

    Raises:
        ApiError: 401 without a key or with one that is not valid, 403 where the key lacks `permission`, 429 for too
            many requests.
    """
    key = presented_key(connection)
    if key is None:
        raise ApiError("UNAUTHORIZED", "an API key is needed, in X-API-Key or as Authorization: Bearer")
    gate: Gate = connection.app.state.parts.access.gate
    try:
        principal, standing = await gate.admit(key, connection.client.host if connection.client else "")
    except QuotaExceededError as exc:
        connection.state.standing = exc.standing
        raise too_many_requests(exc.standing) from None
    connection.state.standing = standing
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

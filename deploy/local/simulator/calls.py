"""Carries out calls, with all that can go wrong on their way in and out."""

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from deploy.local.simulator.board import Board, Subject
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.connection import DroppedError, gone
from deploy.local.simulator.errors import ApiError, limit_headers
from deploy.local.simulator.faults import Version

Handler = Callable[[Request], Awaitable[Response]]

# What a 429 names as the limit; none is published.
_LIMIT = 100
# Nothing of the kind is documented; a client has to leave it unread.
_EXTRA = {"x_simulated": {"nested": [1, "two", None]}}


def version_of(request: Request) -> Version:
    return "v0" if request.url.path.startswith("/v0/") else "v1"


class Calls:
    """Asks the board at each point of a call whether something strikes there."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board = board
        self._clock = clock

    async def change(
        self,
        request: Request,
        kind: str,
        subject: Subject | None,
        effect: Callable[[], Response],
        blocks: Callable[[], Awaitable[None]] | None = None,
    ) -> Response:
        """Do what the caller wants by `effect`, then block; the effect stays, whatever becomes of the answer.

        Args:
            kind: one of `faults.CHANGES`.
            blocks: how long the caller has to wait for the answer.

        Raises:
            ApiError, DroppedError: what the caller gets instead.
        """
        self._admit(request, subject)
        if self._strikes(request, f"{kind}_reset_before", subject):
            raise DroppedError
        if self._strikes(request, f"{kind}_error_before", subject):
            raise ApiError("internal_error")
        response = effect()
        if blocks is not None:
            await blocks()
        await self._delay(request, kind, subject)
        if self._strikes(request, f"{kind}_reset_after", subject):
            raise DroppedError
        if self._strikes(request, f"{kind}_error_after", subject):
            raise ApiError("internal_error")
        return self._garbled(request, kind, subject, response)

    async def read(self, request: Request, subject: Subject | None, handler: Handler) -> Response:
        """Answer a question by `handler`; raises as `change` does."""
        self._admit(request, subject)
        if self._strikes(request, "read_reset", subject):
            raise DroppedError
        if self._strikes(request, "read_error", subject):
            raise ApiError("upstream_error", status=503)
        await self._delay(request, "read", subject)
        return self._garbled(request, "read", subject, await handler(request))

    def refused(self, request: Request, error: ApiError) -> Response:
        """The answer to a call that is refused, in whichever of the API's shapes."""
        subject = getattr(request.state, "subject", None)
        raw, media_type = orjson.dumps(error.body()), "application/json"
        if self._strikes(request, "errors_as_text", subject):
            raw = error.as_text()
        elif self._strikes(request, "errors_flat", subject):
            raw = error.flat()
        elif self._strikes(request, "errors_not_json", subject):
            raw, media_type = error.page(), "text/html"
        return Response(raw, error.status, error.headers(), media_type=media_type)

    def refuse_if(self, request: Request, fault: str, code: str) -> None:
        """Within a read: refuse it with this code if the fault strikes.

        Raises:
            ApiError: that refusal.
        """
        if self._strikes(request, fault, request.state.subject):
            raise ApiError(code)

    def _strikes(self, request: Request, name: str, subject: Subject | None) -> bool:
        return self._board.strikes(name, version_of(request), subject) is not None

    def _admit(self, request: Request, subject: Subject | None) -> None:
        request.state.subject = subject
        limited = self._board.strikes("rate_limited", version_of(request), subject)
        if limited is not None:
            raise ApiError("rate_limit_exceeded", headers=limit_headers(limited.seconds, _LIMIT))
        if self._strikes(request, "rate_limited_bare", subject):
            raise ApiError("rate_limit_exceeded", headers={})

    async def _delay(self, request: Request, kind: str, subject: Subject | None) -> None:
        slow = self._board.strikes(f"{kind}_slow", version_of(request), subject)
        if slow is not None:
            await self._clock.sleep(slow.seconds)
        if self._strikes(request, f"{kind}_hang", subject):
            await gone(request)

    def _garbled(self, request: Request, kind: str, subject: Subject | None, response: Response) -> Response:
        if isinstance(response, StreamingResponse):
            return response
        raw = bytes(response.body)
        if self._strikes(request, "extra_fields", subject):
            raw = orjson.dumps(_with_more(orjson.loads(raw)))
        if self._strikes(request, f"{kind}_truncated", subject):
            raw = raw[: len(raw) // 2]
        if raw == response.body:
            return response
        return Response(raw, response.status_code, media_type=response.media_type)


def _with_more(value: object) -> object:
    """The same with unknown fields in every object."""
    match value:
        case dict():
            return {**{key: _with_more(item) for key, item in value.items()}, **_EXTRA}
        case list():
            return [_with_more(item) for item in value]
        case _:
            return value

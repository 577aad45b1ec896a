"""The gate that every request passes: counted, authorised, read strictly, answered in the API's shapes."""

import base64
import hmac
from collections.abc import Callable
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.local.simulator.board import Subject
from deploy.local.simulator.calls import Calls, Handler
from deploy.local.simulator.connection import DroppedError, drop
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.limits import Limits, bucket_of
from deploy.local.simulator.settings import SimulatorSettings
from deploy.local.simulator.stats import Stats

Body = TypeVar("Body", bound=BaseModel)

_DEFAULT_LIMIT, _LIMITS = 20, range(1, 101)


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


class Gate:
    """Makes a route of a handler. `subject_of` gives that of an agent, by its id."""

    def __init__(
        self,
        settings: SimulatorSettings,
        stats: Stats,
        calls: Calls,
        limits: Limits,
        subject_of: Callable[[str], Subject | None],
    ) -> None:
        key = settings.api_key
        self._key = key.get_secret_value().encode() if key is not None else None
        self._stats = stats
        self._calls = calls
        self._limits = limits
        self._subject_of = subject_of

    def route(self, method: str, path: str, handler: Handler) -> Route:
        name, bucket = f"{method} {path}", bucket_of(method, path)

        async def endpoint(request: Request) -> Response:
            self._stats.calls[name] += 1
            try:
                self._authorise(request)
                if bucket is not None:
                    self._limits.take(bucket)
                if method != "GET":
                    return await handler(request)
                subject = self._subject_of(request.path_params.get("id", ""))
                return await self._calls.read(request, subject, handler)
            except ApiError as error:
                return self._calls.refused(request, error)
            except DroppedError:
                return await drop(request)

        return Route(path, endpoint, methods=[method], name=name)

    def _authorise(self, request: Request) -> None:
        given = _key_in(request.headers.get("authorization", ""))
        if not given or (self._key is not None and not hmac.compare_digest(given, self._key)):
            raise ApiError("unauthorized")


def _key_in(authorization: str) -> bytes:
    """The key of a Bearer or Basic header; empty when there is none."""
    scheme, _, value = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip().encode()
        case "basic":
            try:
                return base64.b64decode(value, validate=True).partition(b":")[0]
            except ValueError:  # no base64, or not even ASCII
                return b""
        case _:
            return b""


async def no_such_route(request: Request, error: Exception) -> Response:
    """The live API's answer to a path or method that it does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    return json_response({"message": f"Route {request.method}:{request.url.path} not found"}, status)


async def read_body(request: Request, model: type[Body]) -> Body:
    """The body as `model`: unknown keys, nulls and values of another type are refused.

    Raises:
        ApiError: `missing_body`, or `validation_error` naming each bad field.
    """
    return validated(await read_json(request), model)


def validated(content: object, model: type[Body]) -> Body:
    """As `read_body`, of what has been read already."""
    null = _null_in(content)
    if null is not None:
        raise ApiError("validation_error", f"{null or 'body'}: null is not allowed")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise ApiError("validation_error", "; ".join(map(_problem, problems))) from None


async def read_json(request: Request) -> object:
    """The body, whatever it holds.

    Raises:
        ApiError: `missing_body`, or `validation_error` if it is no JSON.
    """
    try:
        raw = await request.body()
    except ClientDisconnect:
        raw = b""  # nobody hears the answer
    if not raw:
        raise ApiError("missing_body")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ApiError("validation_error", "The body is not valid JSON") from None


def _problem(problem: ErrorDetails) -> str:
    return f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"


def _null_in(content: object) -> str | None:
    """The path of the first null, or None. Without recursion, which a deep body would exhaust."""
    left = [("", content)]
    while left:
        path, value = left.pop()
        match value:
            case None:
                return path
            case dict():
                items = [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]
            case list():
                items = [(f"{path}.{index}".lstrip("."), item) for index, item in enumerate(value)]
            case _:
                continue
        left += reversed(items)
    return None


def page_of(request: Request) -> tuple[int, str | None]:
    """`limit` and `cursor` of a list request."""
    query = request.query_params
    text = query.get("limit", str(_DEFAULT_LIMIT))
    limit = int(text) if text.isdecimal() and len(text) <= 3 else 0
    if limit not in _LIMITS:
        raise ApiError("validation_error", f"limit: must be {_LIMITS.start} to {_LIMITS.stop - 1}")
    cursor = query.get("cursor")
    if cursor == "":
        raise ApiError("validation_error", "cursor: must not be empty")
    return limit, cursor


def flag_of(request: Request, name: str, default: bool) -> bool:
    """A yes or no in the query."""
    match request.query_params.get(name):
        case None:
            return default
        case "true" | "false" as given:
            return given == "true"
        case _:
            raise ApiError("validation_error", f"{name}: must be true or false")

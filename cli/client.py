"""The API as this command sees it: requests and live messages, failures in words for people."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import httpx_sse

from cli import paths
from cli.access import Access
from cli.errors import BadField, RefusedError, UnreachableError

View = dict[str, Any]
Parameter = str | int | Sequence[str] | None
Parameters = Mapping[str, Parameter]
"""Of a query: None and an empty sequence leave one out."""

# The API answers within 5 s where a decision is waited for, 20 s where it asks the provider, half a minute for a bulk.
_SECONDS = 40.0
_CONNECT_SECONDS = 5.0
_TIMEOUT = httpx.Timeout(_SECONDS, connect=_CONNECT_SECONDS)
# A live stream sends at least a heartbeat every 10 s; silence beyond this is a dead connection.
_STREAM_TIMEOUT = httpx.Timeout(5.0, read=25.0)
# Of these, nothing was sent.
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer; `retry_after` is in seconds, `as_of` the moment that a read shows, fit for `at`."""

    status: int
    body: View
    retry_after: float | None = None
    as_of: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One live message; `sequence` is what the stream may be resumed after, None before the first complete commit."""

    body: View
    sequence: str | None


class Client:
    """Use it as `async with Client(access) as client`. Every method raises UnreachableError and RefusedError."""

    def __init__(self, access: Access) -> None:
        self._url = access.url
        self._http = httpx.AsyncClient(
            base_url=access.url,
            headers={"X-API-Key": access.api_key, "User-Agent": "orchestrator-cli"},
            timeout=_TIMEOUT,
            # A proxy from the environment can't reach what runs on this machine.
            trust_env=not access.is_local,
            # Where TLS has no part there is nothing to verify, and reading all certificates takes a while.
            verify=not access.is_local or access.url.startswith("https:"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: View | None = None,
        params: Parameters | None = None,
        key: str | None = None,
        seconds: float = _SECONDS,
    ) -> Answer:
        """Sends one request once; `key` is its Idempotency-Key, `seconds` how long its answer may take."""
        given = {name: value for name, value in (params or {}).items() if value not in (None, [], ())}
        headers = {"Idempotency-Key": key} if key is not None else {}
        timeout = httpx.Timeout(seconds, connect=_CONNECT_SECONDS)
        try:
            response = await self._http.request(method, path, json=body, params=given, headers=headers, timeout=timeout)
        except httpx.HTTPError as exc:
            raise self._unreachable(exc, changes=method != "GET") from exc
        if not response.is_success:
            raise _refusal(response)
        return Answer(
            response.status_code,
            self._object(response.content),
            _seconds(response.headers.get("Retry-After")),
            response.headers.get("X-As-Of"),
        )

    async def get(self, path: str, params: Parameters | None = None) -> View:
        return (await self.ask("GET", path, params=params)).body

    async def pages(
        self,
        path: str,
        params: Parameters | None = None,
        *,
        most: int | None = None,
        page: int = _PAGE,
        cursor: str | None = None,
    ) -> View:
        """The items of as many pages as `most` items take, or of all: `{items, nextCursor}` and what the first has."""
        whole: View | None = None
        items: list[View] = []
        seen = set()
        while True:
            limit = page if most is None else min(page, most - len(items))
            # What comes behind a cursor is not asked for by `after`, too.
            apart = {"limit": limit, "cursor": cursor, **({"after": None} if cursor else {})}
            answer = await self.get(path, {**(params or {}), **apart})
            items += answer.get("items", [])
            whole = answer if whole is None else whole
            cursor = answer.get("nextCursor")
            if not cursor or cursor in seen or (most is not None and len(items) >= most):
                break
            seen.add(cursor)
        rest = {name: value for name, value in whole.items() if name not in ("items", "nextCursor")}
        return {**rest, "items": items, **({"nextCursor": cursor} if cursor else {})}

    async def activate(self, orchestration_id: str) -> View:
        """`{id, status, message}`; activating twice is fine."""
        return (await self.ask("POST", f"{paths.orchestration(orchestration_id)}/activate")).body

    async def orchestration(self, orchestration_id: str, *, at: str | None = None) -> Answer:
        """`{orchestration, tasks, statistics}`, as it is or was."""
        answer = await self.ask("GET", paths.orchestration(orchestration_id), params={"at": at})
        if not isinstance(answer.body.get("orchestration"), dict):
            raise self._stranger("another object than an orchestration")
        return answer

    async def stream(
        self, orchestration_id: str, after: str | None, *, on_open: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Message, None]:
        """Live messages until the server closes; from the state as it is, or, with `after`, what came since then.

        `on_open` is called once the server has agreed, which may be long before the first message.
        """
        headers = {"Last-Event-ID": after} if after else {}
        path = f"{paths.orchestration(orchestration_id)}/stream"
        try:
            async with httpx_sse.aconnect_sse(
                self._http, "GET", path, headers=headers, timeout=_STREAM_TIMEOUT
            ) as source:
                if not source.response.is_success:
                    await source.response.aread()
                    raise _refusal(source.response)
                on_open()
                async with aclosing(source.aiter_sse()) as messages:
                    async for message in messages:
                        if message.data:
                            yield Message(self._object(message.data), message.id or after)
        except httpx_sse.SSEError as exc:
            raise self._stranger("no event stream") from exc
        except httpx.HTTPError as exc:
            raise self._unreachable(exc) from exc

    def _object(self, text: str | bytes) -> View:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._stranger("something else than a JSON object")
        return body

    def _stranger(self, what: str) -> UnreachableError:
        return UnreachableError(f"{self._url} answered {what}; is that the orchestrator's API?")

    def _unreachable(self, error: httpx.HTTPError, *, changes: bool = False) -> UnreachableError:
        connected = not isinstance(error, _BEFORE_SENDING)
        may_be_done = changes and connected
        unsure = "; what was asked for may still happen: look before you ask again" if may_be_done else ""
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return UnreachableError(f"no answer in time from the API at {self._url}{unsure}", may_be_done=may_be_done)
        reason = str(error) or type(error).__name__
        if may_be_done:
            return UnreachableError(f"no answer from the API at {self._url}: {reason}{unsure}", may_be_done=True)
        return UnreachableError(
            f"cannot reach the API at {self._url}: {reason}; `orchestrator up` starts one on this machine, "
            "--url or ORCHESTRATOR_URL names another",
            connected=connected,
        )


def _refusal(response: httpx.Response) -> RefusedError:
    error = _error_of(response)
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    fallback = f"{response.reason_phrase or 'no reason given'} ({response.request.url.path})"
    return RefusedError(
        response.status_code,
        str(error.get("code") or f"HTTP_{response.status_code}"),
        str(error.get("message") or fallback),
        fields=tuple(_bad_fields(metadata.get("fields"))),
        request_id=metadata.get("requestId") or response.headers.get("X-Request-ID"),
        retry_after=_seconds(response.headers.get("Retry-After")),
        outcome=metadata.get("outcome"),
    )


def _error_of(response: httpx.Response) -> View:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def _bad_fields(fields: object) -> list[BadField]:
    if not isinstance(fields, list):
        return []
    found = [field for field in fields if isinstance(field, dict)]
    return [BadField(str(field.get("field", "?")), str(field.get("message", ""))) for field in found]


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not sent by our API."""
    return float(header) if header and header.isascii() and header.isdigit() else None

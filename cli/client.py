"""The API as this command sees it: one method per request, failures in words for people."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import httpx_sse

from cli.access import Access
from cli.errors import BadField, RefusedError, UnreachableError, UsageError

View = dict[str, Any]

# The API waits up to 5 s for the decision on a command before it answers.
_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
# A live stream sends at least a heartbeat every 10 s; silence beyond this is a dead connection.
_STREAM_TIMEOUT = httpx.Timeout(5.0, read=25.0)


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
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def create(self, body: View) -> View:
        """The new orchestration with its `tasks`; only `id`, `status` and `message` while it is not yet decided."""
        return await self._call("POST", "/api/orchestrations", body=body)

    async def activate(self, orchestration_id: str) -> View:
        """`{id, status, message}`; activating twice is fine."""
        return await self._call("POST", f"{_path(orchestration_id)}/activate")

    async def get(self, orchestration_id: str) -> View:
        """`{orchestration, tasks, statistics}`."""
        view = await self._call("GET", _path(orchestration_id))
        if not isinstance(view.get("orchestration"), dict):
            raise self._stranger("another object than an orchestration")
        return view

    async def newest(self, *, cursor: str | None = None) -> View:
        """One page, the newest first: `{items, nextCursor}`."""
        return await self._call("GET", "/api/orchestrations", cursor=cursor)

    async def events(self, orchestration_id: str) -> list[View]:
        """The whole history, the oldest first."""
        path = f"{_path(orchestration_id)}/events"
        items: list[View] = []
        cursors: set[str] = set()
        cursor: str | None = None
        while True:
            page = await self._call("GET", path, cursor=cursor)
            items += page.get("items", [])
            cursor = page.get("nextCursor")
            if not cursor or cursor in cursors:
                return items
            cursors.add(cursor)

    async def stream(
        self, orchestration_id: str, after: str | None, *, on_open: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Message, None]:
        """Live messages until the server closes; from the state as it is, or, with `after`, what came since then.

        `on_open` is called once the server has agreed, which may be long before the first message.
        """
        headers = {"Last-Event-ID": after} if after else {}
        path = f"{_path(orchestration_id)}/stream"
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

    async def _call(self, method: str, path: str, *, body: View | None = None, cursor: str | None = None) -> View:
        params = {"cursor": cursor} if cursor else None
        try:
            response = await self._http.request(method, path, json=body, params=params)
        except httpx.HTTPError as exc:
            raise self._unreachable(exc, changes=method != "GET") from exc
        if not response.is_success:
            raise _refusal(response)
        return self._object(response.content)

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
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            unsure = "; what was asked may still happen, `orchestrator list` shows it" if changes else ""
            return UnreachableError(f"no answer in time from the API at {self._url}{unsure}")
        reason = str(error) or type(error).__name__
        return UnreachableError(
            f"cannot reach the API at {self._url}: {reason}; `orchestrator up` starts one on this machine, "
            "--url or ORCHESTRATOR_URL names another"
        )


def _path(orchestration_id: str) -> str:
    if orchestration_id.strip(". ") == "":
        raise UsageError(f"{orchestration_id!r} is not the id of an orchestration")
    return f"/api/orchestrations/{quote(orchestration_id, safe='')}"


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

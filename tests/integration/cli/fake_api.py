"""The REST API in small: it plays the life of an orchestration, and can break off, refuse and fall silent."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.unit.cli.story import ID, Moment, View

KEY = "the-key-of-the-fake-api"


class FakeApi:
    """Attributes may be changed while it runs.

    `position` is the moment that reads show. A stream plays the story on from there, at most `per_stream` messages
    before it is cut off; `stays_open` leaves it open after the end. `stream_status` other than 200 refuses streams,
    `refuse` answers every request so. `undecided` creates are answered before they are decided. `progress` is
    told after each commit.
    """

    def __init__(self, story: Sequence[Moment]) -> None:
        self.story = story
        self.position = 0
        self.per_stream: int | None = None
        self.stream_status = 200
        self.silent_streams = False
        self.stays_open = False
        self.play_by_reads = False
        self.hold = asyncio.Event()
        self.hold.set()
        self.refuse: Response | None = None
        self.undecided = 0
        self.progress: View | None = None
        self.keys: list[str | None] = []
        self.url = ""
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[View] = []
        self.resumed_after: list[str | None] = []
        self.app = Starlette(
            routes=[
                Route("/api/orchestrations", self._collection, methods=["GET", "POST"]),
                Route("/api/orchestrations/{id}", self._one),
                Route("/api/orchestrations/{id}/activate", self._activate, methods=["POST"]),
                Route("/api/orchestrations/{id}/events", self._events),
                Route("/api/orchestrations/{id}/stream", self._stream),
            ]
        )

    @property
    def now(self) -> Moment:
        return self.story[self.position]

    def count(self, method: str, path: str) -> int:
        return self.requests.count((method, path))

    def _refused(self, request: Request) -> Response | None:
        self.requests.append((request.method, request.url.path))
        if request.headers.get("X-API-Key") != KEY:
            return error(401, "INVALID_API_KEY", "the key is not known")
        if self.refuse is not None:
            return self.refuse
        if request.path_params.get("id", ID) != ID:
            return error(404, "ORCHESTRATION_NOT_FOUND", "there is no such orchestration")
        return None

    async def _collection(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused:
            return refused
        if request.method == "GET":
            return JSONResponse({"items": [self.now.view["orchestration"]], "nextCursor": "more"})
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Idempotency-Key"))
        if self.undecided:
            self.undecided -= 1
            return JSONResponse({"id": ID, "status": None, "message": "still to come"}, 202, {"Retry-After": "0"})
        return JSONResponse({**self.now.view["orchestration"], "tasks": self.now.view["tasks"]}, 201)

    async def _activate(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused:
            return refused
        already = self.position > 0
        self.position = max(1, self.position)
        return JSONResponse({"id": ID, "status": "ACTIVE", "message": "Already active" if already else "Activated"})

    async def _one(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused:
            return refused
        shown = self.now
        if self.play_by_reads:
            self.position = min(self.position + 1, len(self.story) - 1)
        return JSONResponse(shown.view)

    async def _events(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused:
            return refused
        first = int(request.query_params.get("cursor", 0))
        page: View = {"items": [{"version": v, "type": f"event.{v}", "data": {}} for v in range(first + 1, first + 3)]}
        return JSONResponse(page if first >= 4 else {**page, "nextCursor": str(first + 2)})

    async def _stream(self, request: Request) -> Response:
        refused = self._refused(request)
        self.resumed_after.append(request.headers.get("Last-Event-ID"))
        if refused:
            return refused
        if self.stream_status != 200:
            return error(self.stream_status, "SERVICE_UNAVAILABLE", "no streams today")
        return StreamingResponse(self._limited(self.resumed_after[-1]), media_type="text/event-stream")

    async def _limited(self, after: str | None) -> AsyncIterator[str]:
        yield ": hello\n\n"
        sent = 0
        async for message in self._messages(after):
            if self.silent_streams or (self.per_stream is not None and sent >= self.per_stream):
                return
            yield message
            sent += 1
        if self.stays_open:
            await asyncio.Event().wait()

    async def _messages(self, after: str | None) -> AsyncIterator[str]:
        if after is None:
            yield sse(self.now.status_message, self.now.sequence)
            reached = self.now.sequence
        else:
            reached = int(after)
        for index, moment in enumerate(self.story):
            if moment.sequence <= reached:
                continue
            await self.hold.wait()
            self.position = max(self.position, index)
            for message in moment.messages:
                yield sse(message, moment.sequence if message is moment.messages[-1] else None)
            if self.progress is not None:
                yield sse(self.progress, None)


def sse(message: View, sequence: int | None) -> str:
    """Only the last message of a commit may be resumed after, so only that one has an id."""
    identity = "" if sequence is None else f"id: {sequence}\n"
    return f"{identity}data: {json.dumps(message)}\n\n"


def error(status: int, code: str, message: str, **metadata: Any) -> JSONResponse:
    """A refusal in the API's one shape."""
    body = {"code": code, "message": message, "statusCode": status, "metadata": {"requestId": "req-1", **metadata}}
    return JSONResponse({"error": body}, status)


@asynccontextmanager
async def serving(api: FakeApi, *, port: int = 0) -> AsyncIterator[FakeApi]:
    """Serves it on a free port, or on this one, in this loop; the socket listens before anybody is told of it."""
    listener = socket.create_server(("127.0.0.1", port))
    api.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(api.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield api
    finally:
        server.should_exit = True
        await running

"""Who is told by webhook: takes, puts off, or refuses, by the address, and remembers all of it."""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from shared.observability.health import http_server


@dataclass
class Receiver:
    """`ids`: the `webhook-id` of each request, by orchestration and event."""

    url: str = ""
    ids: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    async def take(self, request: Request) -> Response:
        """204."""
        await self._note(request)
        return Response(status_code=204)

    async def put_off(self, request: Request) -> Response:
        """503 to the first request about something, 204 to the others."""
        told = await self._note(request)
        return Response(status_code=503 if told == 1 else 204)

    async def refuse(self, request: Request) -> Response:
        """410: never again."""
        await self._note(request)
        return Response(status_code=410)

    async def _note(self, request: Request) -> int:
        """How often that was told by now. Who dies in the middle of a request has told nothing."""
        try:
            body = orjson.loads(await request.body())
        except ClientDisconnect:
            return 0
        ids = self.ids[body["orchestrationId"], body["event"]]
        ids.append(request.headers["webhook-id"])
        return len(ids)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    told = Receiver()
    routes = [
        Route("/take", told.take, methods=["POST"]),
        Route("/later", told.put_off, methods=["POST"]),
        Route("/gone", told.refuse, methods=["POST"]),
    ]
    async with http_server(Starlette(routes=routes), "127.0.0.1", 0, stop_seconds=1) as port:
        told.url = f"http://127.0.0.1:{port}"
        yield told

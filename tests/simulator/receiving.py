"""A receiver of webhooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.simulator.serving import SECRET, serving, stats
from tests.support.eventually import eventually


@dataclass
class Receiver:
    """Takes webhooks: answers with the next of `answers`, then with 200."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        self.received.append((dict(request.headers), await request.body()))
        return Response(status_code=self.answers.pop(0) if self.answers else 200)

    def target(self) -> dict[str, str]:
        return {"url": self.url, "secret": SECRET}

    async def until(self, number: int) -> list[tuple[dict[str, str], bytes]]:
        """What has been received, once it is so many."""
        await eventually(lambda: len(self.received) >= number)
        return self.received


async def counted(client: httpx.AsyncClient, **counts: int) -> None:
    """Wait until the simulator counts so many webhooks: it hears of an answer later than the receiver gives it."""

    async def seen() -> None:
        assert (await stats(client))["webhooks"] == counts

    await eventually(seen)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    app = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
    with serving(app) as base:
        receiver.url = f"{base}/hook"
        yield receiver

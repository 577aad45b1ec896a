"""A provider over a transport that answers from a script, with the requests and answers that tests use."""

import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Literal

import httpx
from hypothesis import HealthCheck, settings

from shared.cursor.factory import connect
from shared.cursor.http import Observe, RateLimiter
from shared.cursor.provider import AgentRequest, Provider, WebhookTarget

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For what is tried on made-up examples: that a machine stands still for a moment is no fault of the one it is at."""

KEY = "key_5f3a9c"
SECRET = "a-webhook-secret-of-at-least-32-characters"
AGENT_ID = "bc-00000000-0000-0000-0000-000000000001"
RUN_ID = "run-00000000-0000-0000-0000-000000000001"
REPOSITORY = "https://github.com/acme/widgets"
BRANCH = "orchestrator/add-a-readme-1"

REQUEST = AgentRequest(
    agent_id=AGENT_ID,
    name="Add a README",
    prompt="Add a README with set-up instructions",
    repository=REPOSITORY,
    ref="main",
    branch_name=BRANCH,
    auto_create_pr=True,
)
WITH_WEBHOOK = replace(REQUEST, webhook=WebhookTarget("https://orchestrator.example/hooks/1", SECRET))

Step = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
Version = Literal["v0", "v1"]


class Script:
    """Answers each request with the next step, keeps what was asked, and fails when asked too often."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self._steps, f"one request too many: {request.method} {request.url}"
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else step(request)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    @property
    def calls(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def body(self, index: int = 0) -> Any:
        return json.loads(self.requests[index].content)


def provider(
    version: Version,
    script: Script | Callable[[httpx.Request], httpx.Response],
    *,
    observe: Observe | None = None,
    limiter: RateLimiter | None = None,
) -> Provider:
    return connect(
        version,
        "https://api.cursor.example",
        KEY,
        observe=observe,
        limiter=limiter,
        transport=httpx.MockTransport(script),
        rng=random.Random(1),
        sleep=script.sleep if isinstance(script, Script) else _at_once,
    )


async def _at_once(_: float) -> None:
    return


def answer(body: object, status: int = 200, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=named)


def raw(content: bytes, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=content)


def error(status: int, code: str, message: str = "no", **headers: str) -> httpx.Response:
    return answer({"error": {"code": code, "message": message}}, status, **headers)


def v0_agent(**fields: object) -> dict[str, object]:
    return {
        "id": "bc_abc123",
        "name": "Add a README",
        "status": "CREATING",
        "source": {"repository": REPOSITORY, "ref": "main"},
        "target": {"url": "https://cursor.com/agents?id=bc_abc123", "branchName": BRANCH},
        "createdAt": "2026-11-05T10:30:00Z",
        **fields,
    }


def v1_agent(**fields: object) -> dict[str, object]:
    return {
        "id": AGENT_ID,
        "status": "ACTIVE",
        "env": {"type": "cloud"},
        "url": f"https://cursor.com/agents/{AGENT_ID}",
        "createdAt": "2026-11-05T10:30:00Z",
        "updatedAt": "2026-11-05T10:30:00Z",
        "latestRunId": RUN_ID,
        "repos": [{"url": REPOSITORY, "startingRef": "main"}],
        **fields,
    }


def v1_run(**fields: object) -> dict[str, object]:
    return {
        "id": RUN_ID,
        "agentId": AGENT_ID,
        "status": "CREATING",
        "createdAt": "2026-11-05T10:30:01Z",
        "updatedAt": "2026-11-05T10:30:01Z",
        **fields,
    }


def created(version: Version) -> httpx.Response:
    return answer(v0_agent() if version == "v0" else {"agent": v1_agent(), "run": v1_run()}, 201)


def found(version: Version) -> httpx.Response:
    """The answer to `get` by the run's id."""
    return answer(v0_agent() if version == "v0" else v1_run())


class Broken(httpx.AsyncByteStream):
    """A body that stops with an error after its first bytes."""

    def __init__(self, first: bytes, failure: Exception) -> None:
        self._first = first
        self._failure = failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        raise self._failure

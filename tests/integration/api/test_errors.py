"""The one shape of errors, whoever finds the error: a route, the framework, a limit, or nobody, as in a crash."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.api.listing import Listing
from shared.domain.errors import HTTP_STATUS
from tests.integration.api.system import Running, order
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIST = "/api/orchestrations"
JSON = {"Content-Type": "application/json"}
NOWHERE = "00000000-0000-4000-8000-000000000000"


@dataclasses.dataclass(frozen=True)
class Case:
    """A request and how it is refused. `named` is the field that is named."""

    method: str
    path: str
    status: int
    code: str
    named: str | None = None
    request: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path[:40]} {self.status} {self.named or ''}{str(self.request)[:50]}"


def body(content: bytes, field: str = "body", code: str = "INVALID_REQUEST", **headers: str) -> Case:
    return Case("POST", LIST, 400, code, field, {"content": content, "headers": JSON | headers})


def created(**fields: Any) -> dict[str, Any]:
    return {"json": order(**fields)}


PATHS = [
    Case("GET", "/nowhere", 404, "NOT_FOUND"),
    Case("GET", "/api/nowhere", 404, "NOT_FOUND"),
    Case("GET", LIST + "/", 404, "NOT_FOUND"),
    Case("GET", "/%00", 404, "NOT_FOUND"),
    Case("GET", "/%FF%FE", 404, "NOT_FOUND"),
    Case("GET", "/" + "x" * 5000, 404, "NOT_FOUND"),
    Case("GET", f"{LIST}/{NOWHERE}", 404, "ORCHESTRATION_NOT_FOUND"),
    Case("GET", f"{LIST}/%00", 404, "ORCHESTRATION_NOT_FOUND"),
    Case("GET", f"{LIST}/%F0%9F%98%80", 404, "ORCHESTRATION_NOT_FOUND"),
    Case("GET", f"{LIST}/{NOWHERE.upper().replace('0', 'A', 1)}", 404, "ORCHESTRATION_NOT_FOUND"),
    Case("GET", f"{LIST}/{'9' * 3000}", 404, "ORCHESTRATION_NOT_FOUND"),
    Case("GET", f"{LIST}/a%2Fb", 404, "NOT_FOUND"),
    Case("GET", "/api/tasks/%FF", 404, "TASK_NOT_FOUND"),
    Case("POST", "/api/tasks/%00/skip", 404, "TASK_NOT_FOUND"),
    Case("GET", "/api/cloud-agents/%00", 404, "AGENT_NOT_FOUND"),
    Case("GET", "/api/cloud-agents/%E2%80%A8", 404, "AGENT_NOT_FOUND"),
    Case("GET", "/api/keys/%00", 404, "NOT_FOUND"),
    Case("DELETE", "/api/keys/%FF", 404, "NOT_FOUND"),
    Case("GET", "/api/webhook-deliveries/%00", 404, "NOT_FOUND"),
    Case("POST", f"/api/webhook-deliveries/{'x' * 2000}/redeliver", 404, "NOT_FOUND"),
]
METHODS = [
    Case("PUT", LIST, 405, "METHOD_NOT_ALLOWED"),
    Case("OPTIONS", LIST, 405, "METHOD_NOT_ALLOWED"),
    Case("TRACE", "/api/models", 405, "METHOD_NOT_ALLOWED"),
    Case("DELETE", "/health", 405, "METHOD_NOT_ALLOWED"),
    Case("POST", "/openapi.json", 405, "METHOD_NOT_ALLOWED"),
]
BODIES = [
    body(b""),
    body(b"{"),
    body(b'{"repository": NaN}'),
    body(b'\xff{"repository": "acme/shop"}'),
    body(b'{"repository": "\\ud800"}'),
    body(b'{"repository": "\\u0000"}', "repository", "INVALID_REPOSITORY"),
    body(b'{"\\u0000": 1}'),
    body(b"[" * 100_000),
    body(b"[" * 100 + b"]" * 100, "[0][0][0]"),
    body(b'{"a":' * 100 + b"1" + b"}" * 100, "a.a.a"),
    body(b"[]"),
    body(b"null"),
    body(b"1" * 400),
    Case("POST", LIST, 400, "INVALID_REQUEST", "maxParallel", created(maxParallel=2**64, executionMode="parallel")),
    Case("POST", LIST, 400, "INVALID_REQUEST", "maxCost", created(maxCost=-1)),
    Case("POST", LIST, 400, "INVALID_REQUEST", "nonsense", created(nonsense=1)),
    Case("POST", LIST, 400, "INVALID_REQUEST", "tags[0]", created(tags=[None])),
    Case("POST", "/api/keys", 400, "INVALID_REQUEST", "body", {"json": "text"}),
]
KINDS = [
    Case("POST", LIST, 415, "UNSUPPORTED_MEDIA_TYPE", None, {"content": b"{}"}),
    Case("POST", LIST, 415, "UNSUPPORTED_MEDIA_TYPE", None, {"data": {"repository": "acme/shop"}}),
    Case("POST", LIST, 415, "UNSUPPORTED_MEDIA_TYPE", None, {"files": {"file": b"{}"}}),
    Case(
        *("POST", LIST, 415, "UNSUPPORTED_MEDIA_TYPE", None),
        {"content": b"\x1f\x8b", "headers": JSON | {"Content-Encoding": "gzip"}},
    ),
    Case("POST", LIST, 413, "PAYLOAD_TOO_LARGE", None, {"content": b" " * (1024 * 1024 + 1), "headers": JSON}),
    Case("GET", LIST, 413, "PAYLOAD_TOO_LARGE", None, {"content": b" " * (1024 * 1024 + 1)}),
    Case("POST", "/nowhere", 413, "PAYLOAD_TOO_LARGE", None, {"content": b" " * (1024 * 1024 + 1)}),
]
PARAMETERS = [
    Case("GET", f"{LIST}?limit=0", 400, "INVALID_REQUEST", "limit"),
    Case("GET", f"{LIST}?limit=1e3", 400, "INVALID_REQUEST", "limit"),
    Case("GET", f"{LIST}?limit={'9' * 5000}", 400, "INVALID_REQUEST", "limit"),
    Case("GET", f"{LIST}?limit=%D9%A1%D9%A0x", 400, "INVALID_REQUEST", "limit"),
    Case("GET", f"{LIST}?tag=%00", 400, "INVALID_REQUEST", "tag"),
    Case("GET", f"{LIST}?created_by=%00", 400, "INVALID_REQUEST", "created_by"),
    Case("GET", f"{LIST}?status=NONE", 400, "INVALID_REQUEST", "status[0]"),
    Case("GET", f"{LIST}?since=yesterday", 400, "INVALID_REQUEST", "since"),
    Case("GET", f"{LIST}?cursor=%FF", 400, "INVALID_REQUEST", "cursor"),
    Case("GET", f"{LIST}?cursor=WyJ4Il0", 400, "INVALID_REQUEST", "cursor"),
    Case("GET", f"{LIST}?%00=1", 400, "INVALID_REQUEST", "\0"),
    Case("GET", "/api/costs?groupBy=planet", 400, "INVALID_REQUEST", "groupBy"),
    Case("GET", "/api/costs?since=0000-00-00T00:00:00Z", 400, "INVALID_REQUEST", "since"),
    Case("GET", f"{LIST}/{NOWHERE}?at={'9' * 40}", 400, "INVALID_REQUEST", "at"),
    Case("GET", f"{LIST}/{NOWHERE}/events?after={2**63}", 400, "INVALID_REQUEST", "after"),
    Case("GET", f"{LIST}/{NOWHERE}/events?after=-1", 400, "INVALID_REQUEST", "after"),
    Case("GET", f"{LIST}/{NOWHERE}/stream?after=x", 400, "INVALID_REQUEST", "after"),
    Case("GET", f"/api/keys?team={'x' * 200}", 400, "INVALID_REQUEST", "team"),
    Case("GET", "/api/webhook-deliveries?orchestration=%00", 400, "INVALID_REQUEST", "orchestration"),
]
HEADERS = [
    Case("GET", LIST, 401, "INVALID_API_KEY", None, {"headers": {"X-API-Key": b"\xff\xfe"}}),
    Case("GET", LIST, 401, "UNAUTHORIZED", None, {"headers": {"X-API-Key": "", "Authorization": "Basic eDp5"}}),
    Case(
        *("POST", LIST, 400, "INVALID_REQUEST", "Idempotency-Key"),
        {**created(), "headers": {"Idempotency-Key": b"\xff\xfe"}},
    ),
    Case(
        *("POST", LIST, 400, "INVALID_REQUEST", "Idempotency-Key"),
        {**created(), "headers": {"Idempotency-Key": "x" * 5000}},
    ),
    Case(
        *("GET", f"{LIST}/{NOWHERE}/stream", 400, "INVALID_REQUEST", "Last-Event-ID"),
        {"headers": {"Last-Event-ID": b"\xff"}},
    ),
    Case(
        *("POST", "/api/cloud-agents/webhook", 401, "INVALID_SIGNATURE", None),
        {"headers": {"X-Webhook-Signature": b"\xff"}},
    ),
]


def has_the_shape(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error, after everything was looked at that all of them have in common."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"code", "message", "statusCode", "metadata"}
    assert (error["code"], error["statusCode"]) == (code, status)
    assert HTTP_STATUS[code] == status
    assert error["message"]
    assert error["metadata"]["requestId"] == response.headers["X-Request-ID"]
    assert (status == 401) == ("WWW-Authenticate" in response.headers)
    return error


@pytest.mark.usefixtures("bodies_to_their_end")
@pytest.mark.parametrize("case", [*PATHS, *METHODS, *BODIES, *KINDS, *PARAMETERS, *HEADERS], ids=str)
async def test_an_error_has_the_one_shape(shared_api: Running, case: Case) -> None:
    response = await shared_api.http.request(case.method, case.path, **case.request)
    error = has_the_shape(response, case.status, case.code)
    fields = [problem["field"] for problem in error["metadata"].get("fields", [])]
    assert case.named is None or case.named in fields, error


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (LIST, "GET, HEAD, POST"),
        (f"{LIST}/{NOWHERE}", "DELETE, GET, HEAD, PATCH"),
        (f"{LIST}/{NOWHERE}/activate", "PATCH, POST"),
        ("/api/cloud-agents/bc-1", "DELETE, GET, HEAD"),
        ("/api/keys", "GET, HEAD, POST"),
        ("/health", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_taken_is_answered_with_those_that_are(
    shared_api: Running, path: str, methods: str
) -> None:
    response = await shared_api.http.put(path)
    has_the_shape(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == methods


async def test_a_method_that_is_not_taken_is_told_without_a_key(shared_api: Running) -> None:
    async with httpx.AsyncClient(base_url=shared_api.url, timeout=60, trust_env=False) as anybody:
        has_the_shape(await anybody.put(LIST), 405, "METHOD_NOT_ALLOWED")
        has_the_shape(await anybody.get("/nowhere"), 404, "NOT_FOUND")
        has_the_shape(await anybody.get(LIST), 401, "UNAUTHORIZED")


@pytest.mark.usefixtures("bodies_to_their_end")
async def test_a_body_without_an_announced_length_is_cut_off_just_so(shared_api: Running) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 64 * 1024

    response = await shared_api.http.post(LIST, content=endless(), headers=JSON)
    has_the_shape(response, 413, "PAYLOAD_TOO_LARGE")


async def test_a_key_that_was_used_for_another_request_has_the_one_shape(shared_api: Running) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    assert (await shared_api.http.post(LIST, headers=headers, **created())).status_code == 201
    other = await shared_api.http.post(LIST, headers=headers, **created(name="Other"))
    has_the_shape(other, 422, "IDEMPOTENCY_CONFLICT")


async def test_a_crash_shows_nothing_of_the_inside(
    shared_api: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("postgresql://user:secret@db/orchestrator")

    monkeypatch.setattr(Listing, "page", crash)
    response = await shared_api.http.get(LIST)
    has_the_shape(response, 500, "INTERNAL_ERROR")
    assert "secret" not in response.text
    assert "postgresql" not in response.text
    [crashed] = [record for record in caplog.records if record.message == "A request crashed"]
    assert crashed.exc_info
    assert (await shared_api.http.get("/health/live")).status_code == 200


async def test_head_is_answered_like_get_without_a_body(shared_api: Running) -> None:
    for path, status in (("/health", 200), (LIST, 200), (f"{LIST}/{NOWHERE}", 404), (f"{LIST}/bulk/x", 404)):
        response = await shared_api.http.head(path)
        assert (response.status_code, response.content) == (status, b"")
        assert int(response.headers["Content-Length"]) > 0


async def test_head_of_a_stream_ends(shared_api: Running) -> None:
    made = await shared_api.create()
    response = await shared_api.http.head(f"{LIST}/{made['id']}/stream")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    await eventually(lambda: shared_api.parts.hub.listeners == 0)

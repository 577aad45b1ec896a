"""What a route does not take is refused by name, instead of doing something else in silence."""

from typing import Final, cast

import pytest

from services.api.app import make_app
from services.api.parts import Parts
from services.api.permissions import accesses
from tests.integration.api.steering import NOWHERE, error_of
from tests.integration.api.system import Running

IDS: Final = {
    "{orchestration_id}": NOWHERE,
    "{task_id}": NOWHERE,
    "{agent_id}": "bc-1",
    "{delivery_id}": NOWHERE,
    "{key_id}": "abcdefgh",
}


def address(path: str) -> str:
    for name, value in IDS.items():
        path = path.replace(name, value)
    assert "{" not in path, f"an id for {path} is missing here"
    return path


ROUTES: Final = [
    (access.method, address(access.path))
    for access in accesses(make_app(cast(Parts, None)))
    if not access.is_public and access.method != "WS"
]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_parameter_that_the_route_does_not_have_is_refused(shared_api: Running, method: str, path: str) -> None:
    needed = {"path": "report.md"} if path.endswith("/artifacts/link") else {}
    response = await shared_api.http.request(method, path, params={"dryRun": "true", **needed})
    error = error_of(response, 400, "INVALID_REQUEST")
    assert error["metadata"]["fields"] == [{"field": "dryRun", "message": "is not a parameter of this address"}]


@pytest.mark.parametrize(
    ("path", "name"), [("/api/orchestrations", "limit"), ("/api/costs", "since"), ("/api/keys", "cursor")]
)
async def test_a_parameter_that_comes_twice_is_refused(shared_api: Running, path: str, name: str) -> None:
    value = "5" if name == "limit" else "2026-11-01T00:00:00Z"
    error = error_of(await shared_api.http.get(path, params={name: [value, value]}), 400, "INVALID_REQUEST")
    assert error["metadata"]["fields"] == [{"field": name, "message": "must be given once"}]


async def test_filters_that_may_come_several_times_do(shared_api: Running) -> None:
    several = {"status": ["ACTIVE", "PAUSED"], "tag": ["a", "b"]}
    assert (await shared_api.http.get("/api/orchestrations", params=several)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/queue/pause"),
        ("POST", "/api/queue/clear-failed"),
        ("POST", f"/api/webhook-deliveries/{NOWHERE}/redeliver"),
        ("DELETE", "/api/keys/abcdefgh"),
        ("DELETE", f"/api/orchestrations/{NOWHERE}"),
        ("POST", f"/api/tasks/{NOWHERE}/skip"),
    ],
)
async def test_a_body_that_would_be_ignored_is_refused(shared_api: Running, method: str, path: str) -> None:
    error = error_of(await shared_api.http.request(method, path, json={"force": True}), 400, "INVALID_REQUEST")
    assert error["metadata"]["fields"] == [{"field": "force", "message": "is not a known field"}]

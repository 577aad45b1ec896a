"""Creating, activating and reading orchestrations over HTTP, on real servers."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deploy.local.nats import NatsServer
from shared.jetstream.topology import COMMANDS
from tests.integration.api.system import KEY, TASK, Running, order, running_api
from tests.support.eventually import eventually

PATHS = (("GET", ""), ("GET", "/tasks"), ("GET", "/events"), ("GET", "/stream"), ("POST", "/activate"))
"""Every way to an orchestration by its id."""
NOWHERE = "00000000-0000-4000-8000-000000000000"


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"code", "message", "statusCode", "metadata"}
    assert error["statusCode"] == status
    assert error["metadata"]["requestId"] == response.headers["X-Request-ID"]
    return error


async def test_creating_answers_the_orchestration_and_its_tasks(api: Running) -> None:
    body = order(name="Clean-up", tags=["a"], metadata={"k": [1, None]}, autoCreatePr=False)
    response = await api.http.post("/api/orchestrations", json=body)
    assert response.status_code == 201
    created = response.json()
    assert response.headers["Location"] == f"/api/orchestrations/{created['id']}"
    assert created["status"] == "PENDING"
    assert created["repository"] == "https://github.com/acme/shop"
    assert (created["name"], created["tags"], created["metadata"]) == ("Clean-up", ["a"], {"k": [1, None]})
    assert created["auto_create_pr"] is False
    assert [task["title"] for task in created["tasks"]] == [TASK["title"]]
    found = (await api.http.get(response.headers["Location"])).json()
    assert {**found["orchestration"], "tasks": found["tasks"]} == created
    assert found["statistics"]["totalTasks"] == 1


async def test_create_and_activate_in_one_call(api: Running) -> None:
    created = await api.create(activate=True)
    assert created["status"] == "ACTIVE"
    assert created["tasks"][0]["waiting_for"] == "slot"


async def test_an_unknown_model_leaves_a_warning(api: Running) -> None:
    created = await api.create(model="gpt-99")
    assert created["model"] == "claude-4-sonnet-thinking"
    assert "gpt-99" in created["warnings"][0]


async def test_activating_twice_is_no_error(api: Running) -> None:
    for method in ("POST", "PATCH"):
        created = await api.create()
        path = f"/api/orchestrations/{created['id']}/activate"
        first = await api.http.request(method, path)
        second = await api.http.request(method, path)
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.json() == {"id": created["id"], "status": "ACTIVE", "message": "Activated"}
        assert second.json() == {"id": created["id"], "status": "ACTIVE", "message": "Already active"}


async def test_what_does_not_exist_is_not_found_and_nothing_is_asked_of_the_dispatcher(api: Running) -> None:
    before = (await api.runtime.nc.jsm().stream_info(COMMANDS)).state.last_seq
    for name in (NOWHERE, "nonsense", str(uuid.uuid4()).upper(), "a.b", "%00", "*"):
        for method, path in (
            ("GET", ""),
            ("GET", "/tasks"),
            ("GET", "/events"),
            ("GET", "/stream"),
            ("POST", "/activate"),
        ):
            response = await api.http.request(method, f"/api/orchestrations/{name}{path}")
            assert error_of(response, 404)["code"] == "ORCHESTRATION_NOT_FOUND"
    assert (await api.runtime.nc.jsm().stream_info(COMMANDS)).state.last_seq == before


async def test_a_read_behind_a_write_sees_it_every_time(api: Running) -> None:
    async def one() -> None:
        created = await api.create()
        path = f"/api/orchestrations/{created['id']}"
        assert (await api.http.get(path)).json()["orchestration"]["status"] == "PENDING"
        await api.http.post(f"{path}/activate")
        assert (await api.http.get(path)).json()["orchestration"]["status"] == "ACTIVE"
        assert (await api.http.get(f"{path}/tasks")).json()["items"][0]["attempts"]

    await asyncio.gather(*(one() for _ in range(10)))


async def test_events_come_in_pages(api: Running) -> None:
    created = await api.create(activate=True)
    path = f"/api/orchestrations/{created['id']}/events"
    whole = (await api.http.get(path)).json()
    assert [event["type"] for event in whole["items"]] == [
        "orchestration.created", "orchestration.activated", "task.queued",
    ]  # fmt: skip
    assert "nextCursor" not in whole
    paged: list[Any] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = (await api.http.get(path, params={"limit": 1, "cursor": cursor})).json()
        paged += page["items"]
        cursor = page.get("nextCursor")
    assert paged == whole["items"]
    assert (await api.http.get(path, params={"cursor": 3})).json() == {"items": []}


async def test_the_list_has_the_newest_first_and_ends(api: Running) -> None:
    made = [(await api.create(name=f"n{i}"))["id"] for i in range(5)]
    listed: list[str] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await api.http.get("/api/orchestrations", params=params)).json()
        listed += [item["id"] for item in page["items"]]
        cursor = page.get("nextCursor")
        pages += 1
    assert listed == made[::-1]
    assert pages == 3


async def test_wrong_parameters_are_named(api: Running) -> None:
    for query, field in (
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00", "cursor"),
    ):
        error = error_of(await api.http.get(f"/api/orchestrations?{query}"), 400)
        assert error["code"] == "INVALID_REQUEST"
        assert [problem["field"] for problem in error["metadata"]["fields"]] == [field]


async def test_a_wrong_request_names_every_field_and_changes_nothing(api: Running) -> None:
    body = {"repository": "nonsense", "tasks": [{"title": "", "status": "DONE"}], "colour": 1}
    error = error_of(await api.http.post("/api/orchestrations", json=body), 400)
    assert {problem["field"] for problem in error["metadata"]["fields"]} == {
        "repository", "tasks[0].title", "tasks[0].description", "tasks[0].status", "colour",
    }  # fmt: skip
    assert (await api.http.get("/api/orchestrations")).json() == {"items": []}


@pytest.mark.usefixtures("bodies_to_their_end")
async def test_bodies_that_cannot_be_read_are_refused(api: Running) -> None:
    for content, kind, status, code in (
        (b"{}", "text/plain", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", "", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b'{"a": }', "application/json", 400, "INVALID_REQUEST"),
        (b"", "application/json", 400, "INVALID_REQUEST"),
        (b'{"maxCost": NaN}', "application/json", 400, "INVALID_REQUEST"),
        (b"\xff\xfe", "application/json", 400, "INVALID_REQUEST"),
        (b"[" * 100_000, "application/json", 400, "INVALID_REQUEST"),
        (b"[]", "application/json; charset=utf-8", 400, "INVALID_REQUEST"),
        (b" " * (1024 * 1024 + 1), "application/json", 413, "PAYLOAD_TOO_LARGE"),
    ):
        response = await api.http.post("/api/orchestrations", content=content, headers={"Content-Type": kind})
        assert error_of(response, status)["code"] == code


async def test_broken_json_is_told_with_its_place(api: Running) -> None:
    headers = {"Content-Type": "application/json"}
    response = await api.http.post("/api/orchestrations", content=b'{\n  "a": }', headers=headers)
    assert "line 2, column 8" in error_of(response, 400)["message"]


async def test_an_endless_body_is_cut_off(api: Running) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while given < 200:
            given += 1
            yield b" " * 1024 * 512

    headers = {"Content-Type": "application/json"}
    try:
        response = await api.http.post("/api/orchestrations", content=endless(), headers=headers)
        assert error_of(response, 413)["code"] == "PAYLOAD_TOO_LARGE"
    except httpx.TransportError:
        pass  # the connection may be closed before all of the answer is read
    assert given < 200


async def test_what_is_too_large_for_the_log_is_refused_whole(api: Running) -> None:
    tasks = [{"title": f"t{i}", "description": "字" * 4000} for i in range(50)]
    response = await api.http.post(
        "/api/orchestrations",
        content=httpx.Request("POST", "http://x", json=order(tasks=tasks)).content,
        headers={"Content-Type": "application/json"},
    )
    assert error_of(response, 413)["code"] == "PAYLOAD_TOO_LARGE"


KEYS_THAT_ARE_NONE: list[tuple[dict[str, str], str]] = [
    ({}, "UNAUTHORIZED"),
    ({"X-API-Key": ""}, "UNAUTHORIZED"),
    ({"Authorization": "Basic abc"}, "UNAUTHORIZED"),
    ({"Authorization": "Bearer"}, "UNAUTHORIZED"),
    ({"X-API-Key": KEY[:-1]}, "INVALID_API_KEY"),
    ({"X-API-Key": KEY + "x"}, "INVALID_API_KEY"),
    ({"X-API-Key": KEY.upper()}, "INVALID_API_KEY"),
    ({"Authorization": "Bearer nope"}, "INVALID_API_KEY"),
    ({"Authorization": f"Bearer {KEY}", "X-API-Key": "nope"}, "INVALID_API_KEY"),
]


async def test_without_a_good_key_nothing_is_shown(api: Running) -> None:
    paths = [("POST", ""), ("GET", ""), ("GET", "/nonsense"), *((way, f"/{NOWHERE}{rest}") for way, rest in PATHS)]
    async with httpx.AsyncClient(base_url=api.url, timeout=60, trust_env=False) as stranger:
        for headers, code in KEYS_THAT_ARE_NONE:
            for method, path in paths:
                response = await stranger.request(method, f"/api/orchestrations{path}", headers=headers)
                assert error_of(response, 401)["code"] == code
                assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_bearer_is_as_good_as_the_other_header(api: Running) -> None:
    headers = {"Authorization": f"bearer {KEY}"}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=60, trust_env=False) as client:
        assert (await client.get("/api/orchestrations")).status_code == 200


async def test_another_teams_orchestration_is_not_found(nats_url: str, database_url: str) -> None:
    async with (
        running_api(nats_url, database_url) as red,
        running_api(nats_url, database_url, prepared=True, team="blue", run_projector=False) as blue,
    ):
        created = await red.create()
        path = f"/api/orchestrations/{created['id']}"
        for method, rest in (
            ("GET", ""),
            ("GET", "/tasks"),
            ("GET", "/events"),
            ("GET", "/stream"),
            ("POST", "/activate"),
        ):
            assert error_of(await blue.http.request(method, path + rest), 404)["code"] == "ORCHESTRATION_NOT_FOUND"
        assert (await blue.http.get("/api/orchestrations")).json() == {"items": []}


async def test_without_a_decision_in_time_the_answer_says_where_to_look(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, dispatching=False, reply_seconds=0.2) as api:
        response = await api.http.post("/api/orchestrations", json=order())
        assert response.status_code == 202
        pending = response.json()
        assert (pending["status"], response.headers["Location"]) == (None, f"/api/orchestrations/{pending['id']}")

        async def decided() -> bool:
            return (await api.http.get(response.headers["Location"])).status_code == 200

        async with api.dispatcher.deciding():
            await eventually(decided)
        late = await api.http.post(f"{response.headers['Location']}/activate")
        assert (late.status_code, late.json()["status"]) == (202, "PENDING")


async def test_reads_see_writes_although_nobody_projects(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, run_projector=False, visible_seconds=0.05) as api:
        created = await api.create()
        path = f"/api/orchestrations/{created['id']}"
        activated = await api.http.post(f"{path}/activate")
        assert activated.json()["message"] == "Activated"
        found = (await api.http.get(path)).json()
        assert found["orchestration"]["status"] == "ACTIVE"
        assert found["tasks"][0]["attempts"]


async def test_a_second_replica_shows_a_write_to_the_first_at_once(nats_url: str, database_url: str) -> None:
    async with (
        running_api(nats_url, database_url) as one,
        running_api(nats_url, database_url, prepared=True, run_projector=False, dispatching=False) as other,
    ):
        for _ in range(10):
            created = await one.create()
            path = f"/api/orchestrations/{created['id']}"
            assert (await other.http.get(path)).json()["orchestration"]["status"] == "PENDING"
            await one.http.post(f"{path}/activate")
            assert (await other.http.get(path)).json()["orchestration"]["status"] == "ACTIVE"


async def test_without_a_broker_writes_are_refused_and_reads_go_on(api: Running, nats: NatsServer) -> None:
    created = await api.create()
    nats.kill()
    await eventually(lambda: not api.runtime.nc.is_connected)
    response = await api.http.post("/api/orchestrations", json=order(name="lost"))
    error = error_of(response, 503)
    assert error["code"] == "SERVICE_UNAVAILABLE"
    assert error["metadata"]["outcome"] == "not sent"
    assert int(response.headers["Retry-After"]) > 0
    assert (await api.http.get(f"/api/orchestrations/{created['id']}")).status_code == 200
    report = await api.http.get("/health")
    assert (report.status_code, report.json()["status"]) == (503, "unhealthy")
    nats.start()

    async def accepted() -> bool:
        # Under a key: of a try without an answer nobody knows whether it is carried out.
        headers = {"Idempotency-Key": "kept"}
        return (await api.http.post("/api/orchestrations", json=order(name="kept"), headers=headers)).status_code == 201

    await eventually(accepted)

    async def listed() -> bool:
        items = (await api.http.get("/api/orchestrations")).json()["items"]
        return [item["name"] for item in items] == ["kept", None]

    await eventually(listed)


async def test_a_broker_that_hangs_leaves_the_outcome_open_and_says_so(
    nats_url: str, database_url: str, nats: NatsServer
) -> None:
    async with running_api(nats_url, database_url, publish_seconds=0.5) as api:
        nats.pause()
        try:
            response = await api.http.post("/api/orchestrations", json=order())
        finally:
            nats.resume()
        metadata = error_of(response, 503)["metadata"]
        assert metadata["outcome"] == "unknown"
        path = f"/api/orchestrations/{metadata['orchestrationId']}"

        async def carried_out() -> bool:
            return (await api.http.get(path)).status_code == 200

        await eventually(carried_out)

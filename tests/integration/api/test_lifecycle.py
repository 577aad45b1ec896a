"""Commands on orchestrations over HTTP: every move, its repeat, and every refusal."""

from typing import Any

import pytest

from shared.domain.events import OrchestrationStatus
from tests.integration.api.steering import NOWHERE, ONE, TWO, Case, error_of, in_state, new, running, stopped
from tests.integration.api.system import Running
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ILLEGAL, OVER = "INVALID_STATE_TRANSITION", "ALREADY_COMPLETED"
Answer = tuple[str, str]
"""What an action leads to: the new status and what is said, or nothing and the code of the refusal."""

MOVES: dict[str, dict[str, Answer]] = {
    "activate": {
        "PENDING": ("ACTIVE", "Activated"),
        "ACTIVE": ("ACTIVE", "Already active"),
        "PAUSED": ("", ILLEGAL),
        "CANCELLING": ("", ILLEGAL),
        "CANCELLED": ("", OVER),
        "COMPLETED": ("", OVER),
        "PARTIAL_COMPLETED": ("", OVER),
        "FAILED": ("", OVER),
    },
    "pause": {
        "PENDING": ("", ILLEGAL),
        "ACTIVE": ("PAUSED", "Paused"),
        "PAUSED": ("PAUSED", "Already paused"),
        "CANCELLING": ("", ILLEGAL),
        "CANCELLED": ("", OVER),
        "COMPLETED": ("", OVER),
        "PARTIAL_COMPLETED": ("", OVER),
        "FAILED": ("", OVER),
    },
    "resume": {
        "PENDING": ("", ILLEGAL),
        "ACTIVE": ("ACTIVE", "Already active"),
        "PAUSED": ("ACTIVE", "Resumed"),
        "CANCELLING": ("", ILLEGAL),
        "CANCELLED": ("", OVER),
        "COMPLETED": ("", OVER),
        "PARTIAL_COMPLETED": ("", OVER),
        "FAILED": ("", OVER),
    },
    "cancel": {
        "PENDING": ("CANCELLED", "Cancelled"),
        "ACTIVE": ("CANCELLING", "Cancelling"),
        "PAUSED": ("CANCELLING", "Cancelling"),
        "CANCELLING": ("CANCELLING", "Already cancelling"),
        "CANCELLED": ("CANCELLED", "Already cancelled"),
        "COMPLETED": ("", OVER),
        "PARTIAL_COMPLETED": ("", OVER),
        "FAILED": ("", OVER),
    },
}
REPEATED = {"activate": "Already active", "pause": "Already paused", "resume": "Already active"}


@pytest.mark.parametrize("status", OrchestrationStatus)
async def test_every_action_in_every_state(shared_api: Running, status: OrchestrationStatus) -> None:
    case = await in_state(shared_api, status)
    for action, answers in MOVES.items():
        leads_to, said = answers[status]
        if not leads_to:
            await case.is_refused("POST", f"/{action}", 409, said)
            continue
        response = await case.ask("POST", f"/{action}")
        assert response.status_code == 200
        assert response.json() == {"id": case.id, "status": leads_to, "message": said}
        seen = await case.seen()
        assert seen["orchestration"]["status"] == leads_to
        again = await case.ask("POST", f"/{action}")
        message = REPEATED.get(action, f"Already {leads_to.lower()}")
        assert again.json() == {"id": case.id, "status": leads_to, "message": message}
        assert await case.seen() == seen
        if leads_to != status:
            case = await in_state(shared_api, status)


async def test_activating_is_known_by_another_method_too(shared_api: Running) -> None:
    case = await new(shared_api)
    assert (await case.ask("PATCH", "/activate")).json()["message"] == "Activated"


async def test_a_pause_that_drains_lets_the_agent_finish_and_one_that_stops_does_not(shared_api: Running) -> None:
    case = await running(shared_api)
    assert (await case.ask("POST", "/pause", json={"mode": "drain"})).json()["message"] == "Paused"
    seen = await case.seen()
    assert seen["orchestration"]["pause_mode"] == "drain"
    assert seen["tasks"][0]["attempts"][0]["stop_reason"] is None
    assert (await case.ask("POST", "/pause", json={"mode": "drain"})).json()["message"] == "Already paused"
    assert (await case.ask("POST", "/pause")).json()["message"] == "Paused"
    seen = await case.seen()
    assert seen["orchestration"]["pause_mode"] == "stop"
    assert seen["tasks"][0]["attempts"][0]["stop_reason"] == "PAUSE"


async def test_a_body_of_a_pause_is_checked_field_by_field(shared_api: Running) -> None:
    case = await running(shared_api)
    named = await case.names("POST", "/pause", {"mode": "soft", "when": "now"})
    assert set(named) == {"mode", "when"}
    assert named["when"] == "is not a known field"
    assert set(await case.names("POST", "/pause", ["drain"])) == {"body"}
    for body in ({"mode": None}, {"mode": True}):
        assert set(await case.names("POST", "/pause", body)) == {"mode"}
    # As a parameter it would be passed over, and the agents stopped instead of drained.
    error = await case.is_refused("POST", "/pause?mode=drain", 400, "INVALID_REQUEST")
    assert error["metadata"]["fields"][0]["field"] == "mode"
    headers = {"Content-Type": "text/plain"}
    await case.is_refused("POST", "/pause", 415, "UNSUPPORTED_MEDIA_TYPE", content=b"drain", headers=headers)
    assert (await case.ask("POST", "/pause", json={})).json()["message"] == "Paused"


@pytest.mark.parametrize(
    ("method", "path"), [*(("POST", f"/{a}") for a in ("activate", "resume", "cancel")), ("DELETE", "")]
)
async def test_what_takes_no_body_refuses_one(shared_api: Running, method: str, path: str) -> None:
    case = await in_state(shared_api, OrchestrationStatus.PAUSED)
    assert await case.names(method, path, {"mode": "stop"}) == {"mode": "is not a known field"}
    assert set(await case.names(method, path, [])) == {"body"}
    error = await case.is_refused(method, f"{path}?force=1", 400, "INVALID_REQUEST")
    assert error["metadata"]["fields"][0]["field"] == "force"


async def test_cancelled_at_last_once_the_agent_is_known_to_have_stopped(shared_api: Running) -> None:
    case = await in_state(shared_api, OrchestrationStatus.CANCELLING)
    await case.decide(stopped(case.one))
    assert await case.status() == "CANCELLED"
    assert (await case.ask("POST", "/cancel")).json()["message"] == "Already cancelled"


async def test_a_change_is_answered_with_the_whole_object_and_seen_by_whoever_asks_next(shared_api: Running) -> None:
    case = await new(shared_api)
    before = (await case.seen())["orchestration"]
    body = {
        "repository": "acme/blog",
        "ref": "develop",
        "name": "Another",
        "description": "With a description",
        "tags": ["a", "b"],
        "metadata": {"k": [1, None]},
        "model": "gpt-4",
        "strictModel": True,
        "priority": "speed",
        "autoCreatePr": False,
        "webhookUrl": "https://example.com/hook",
        "executionMode": "parallel",
        "max_parallel": 2,
        "failure_policy": "continue",
        "base": "previous",
        "deliverable": "pr",
        "maxCost": 2.5,
        "startAt": "2190-01-31T10:00:00+01:00",
    }
    response = await case.ask("PATCH", "", json=body)
    assert response.status_code == 200, response.text
    changed = response.json()
    assert changed == (await case.seen())["orchestration"]
    expected = {
        "repository": "https://github.com/acme/blog",
        "model": "o3",
        "strict_model": True,
        "auto_create_pr": False,
        "webhook_url": "https://example.com/hook",
        "execution_mode": "parallel",
        "max_parallel": 2,
        "failure_policy": "continue",
        "max_cost": 2.5,
        "start_at": "2190-01-31T09:00:00Z",
    }
    same = ("ref", "name", "description", "tags", "metadata", "priority", "base", "deliverable")
    assert changed == {
        **before,
        **{name: body[name] for name in same},
        **expected,
        "updated_at": changed["updated_at"],
        "version": before["version"] + 1,
    }


async def test_null_clears_what_may_be_empty(shared_api: Running) -> None:
    full: dict[str, Any] = {
        "name": "A",
        "description": "B",
        "tags": ["c"],
        "metadata": {"d": 1},
        "model": "o3",
        "webhookUrl": "https://example.com/hook",
        "executionMode": "parallel",
        "maxParallel": 2,
        "maxCost": 3,
        "startAt": "2190-01-31T09:00:00Z",
    }
    case = await new(shared_api, **full)
    cleared = (await case.ask("PATCH", "", json=dict.fromkeys(full.keys() - {"executionMode"}))).json()
    for name in ("name", "description", "model", "webhook_url", "max_parallel", "max_cost", "start_at"):
        assert cleared[name] is None, name
    assert (cleared["tags"], cleared["metadata"]) == ([], {})
    assert cleared["execution_mode"] == "parallel"


async def test_null_clears_nothing_that_must_have_a_value(shared_api: Running) -> None:
    case = await new(shared_api)
    needed = ("ref", "priority", "autoCreatePr", "executionMode", "strictModel", "failurePolicy", "base", "deliverable")
    assert set(await case.names("PATCH", "", dict.fromkeys(needed))) == set(needed)
    assert set(await case.names("PATCH", "", {"repository": None}, "INVALID_REPOSITORY")) == {"repository"}


async def test_a_change_that_changes_nothing_is_no_error(shared_api: Running) -> None:
    case = await new(shared_api, name="A")
    before = (await case.seen())["orchestration"]
    for body in ({}, {"name": "A"}, {"ref": "main", "tags": []}, {"name": " A "}):
        response = await case.ask("PATCH", "", json=body)
        assert (response.status_code, response.json()) == (200, before)


async def test_every_field_of_a_change_that_is_wrong_is_named(shared_api: Running) -> None:
    case = await new(shared_api)
    body = {
        "ref": "a..b",
        "tags": "x",
        "webhookUrl": "http://localhost/",
        "maxParallel": 2,
        "max_cost": 0,
        "start_at": "tomorrow",
        "name": "a\0b",
    }
    assert await case.names("PATCH", "", body) == {"name": "must not contain NUL characters"}
    del body["name"]
    named = await case.names("PATCH", "", body | {"status": "ACTIVE", "createdBy": "me", "tasks": [ONE], "colour": 1})
    assert set(named) == {*body, "status", "createdBy", "tasks", "colour"}
    assert named["status"] == named["createdBy"] == "is set by the server and cannot be given"
    assert named["colour"] == "is not a known field"
    assert "/api/tasks/" in named["tasks"]
    assert "maxParallel" in await case.names("PATCH", "", {"maxParallel": 2})
    assert set(await case.names("PATCH", "", {"model": "nonsense", "strictModel": True}, "INVALID_MODEL")) == {"model"}
    assert set(await case.names("PATCH", "", {"repository": "acme"}, "INVALID_REPOSITORY")) == {"repository"}
    assert set(await case.names("PATCH", "", {"name": "a", "max_cost": 1, "maxCost": 2})) == {"max_cost"}
    await case.is_refused(
        "PATCH", "", 400, "INVALID_REQUEST", content=b"{", headers={"Content-Type": "application/json"}
    )
    await case.is_refused("PATCH", "", 415, "UNSUPPORTED_MEDIA_TYPE", content=b"a=1")
    await case.is_refused("PATCH", "?dry=1", 400, "INVALID_REQUEST", json={})


async def test_rules_that_bind_several_fields_look_at_those_that_stand(shared_api: Running) -> None:
    case = await new(shared_api, executionMode="parallel", maxParallel=3)
    assert set(await case.names("PATCH", "", {"executionMode": "sequential"})) == {"max_parallel"}
    changed = await case.ask("PATCH", "", json={"executionMode": "sequential", "maxParallel": None})
    assert (changed.json()["execution_mode"], changed.json()["max_parallel"]) == ("sequential", None)
    assert set(await case.names("PATCH", "", {"maxParallel": 3})) == {"maxParallel"}


async def test_models_are_chosen_as_on_a_create(shared_api: Running) -> None:
    case = await new(shared_api)
    assert (await case.ask("PATCH", "", json={"model": "claude-sonnet-4"})).json()[
        "model"
    ] == "claude-4-sonnet-thinking"
    assert (await case.ask("PATCH", "", json={"model": "gpt-99"})).json()["model"] == "claude-4-sonnet-thinking"
    assert set(await case.names("PATCH", "", {"model": "by-complexity"}, "INVALID_MODEL")) == {"model"}
    by_complexity = await new(shared_api, model="by-complexity")
    same = await by_complexity.ask("PATCH", "", json={"model": "by-complexity", "name": "x"})
    assert (same.json()["model"], same.json()["name"]) == ("by-complexity", "x")


async def test_what_agents_were_launched_with_is_fixed_once_it_is_active(shared_api: Running) -> None:
    case = await running(shared_api)
    for body in (
        {"repository": "acme/blog"},
        {"ref": "develop"},
        {"executionMode": "parallel"},
        {"startAt": "2190-01-31T09:00:00Z"},
        {"name": "fine", "ref": "develop"},
    ):
        error = await case.is_refused("PATCH", "", 409, ILLEGAL, json=body)
        assert "PENDING" in error["message"]


@pytest.mark.parametrize("status", [status for status in OrchestrationStatus if status != OrchestrationStatus.PENDING])
async def test_what_is_only_for_people_can_be_changed_in_every_state(
    shared_api: Running, status: OrchestrationStatus
) -> None:
    case = await in_state(shared_api, status)
    body = {"name": "N", "description": "D", "tags": ["t"], "metadata": {"m": 1}, "webhookUrl": "https://example.com/"}
    response = await case.ask("PATCH", "", json=body)
    assert response.status_code == 200, response.text
    assert response.json() == (await case.seen())["orchestration"]
    assert (response.json()["name"], response.json()["status"]) == ("N", status)
    if status is OrchestrationStatus.CANCELLING:
        await case.is_refused("PATCH", "", 409, ILLEGAL, json={"maxCost": 5})


async def assert_gone(case: Case) -> None:
    """Nothing of it is found by any id."""
    for method, path in (("GET", ""), ("GET", "/tasks"), ("GET", "/stats"), ("GET", "/events"), ("DELETE", "")):
        error_of(await case.ask(method, path), 404, "ORCHESTRATION_NOT_FOUND")
    for action in MOVES:
        error_of(await case.ask("POST", f"/{action}"), 404, "ORCHESTRATION_NOT_FOUND")
    error_of(await case.ask("PATCH", "", json={"name": "x"}), 404, "ORCHESTRATION_NOT_FOUND")
    error_of(await case.ask("POST", "/tasks", json=TWO), 404, "ORCHESTRATION_NOT_FOUND")
    error_of(await case.ask("GET", f"/api/tasks/{case.one}"), 404, "TASK_NOT_FOUND")
    error_of(await case.ask("PATCH", f"/api/tasks/{case.one}", json={}), 404, "TASK_NOT_FOUND")
    for action in ("retry", "restart", "skip"):
        error_of(await case.ask("POST", f"/api/tasks/{case.one}/{action}"), 404, "TASK_NOT_FOUND")


async def test_what_is_over_or_was_never_active_is_deleted_at_once(shared_api: Running) -> None:
    for name in ("PENDING", "CANCELLED", "COMPLETED", "PARTIAL_COMPLETED", "FAILED"):
        case = await in_state(shared_api, OrchestrationStatus(name))
        response = await case.ask("DELETE", "")
        assert response.status_code == 200
        assert response.json() == {"id": case.id, "status": "DELETED", "message": "Deleted"}
        assert await _is_gone(case)


async def test_an_active_one_without_an_agent_is_deleted_at_once(shared_api: Running) -> None:
    case = await new(shared_api, activate=True)
    assert (await case.ask("DELETE", "")).json()["status"] == "DELETED"
    await assert_gone(case)


@pytest.mark.parametrize("status", [OrchestrationStatus(name) for name in ("ACTIVE", "PAUSED", "CANCELLING")])
async def test_what_has_an_agent_is_deleted_once_that_has_stopped(
    shared_api: Running, status: OrchestrationStatus
) -> None:
    case = await in_state(shared_api, status)
    for _ in range(2):
        response = await case.ask("DELETE", "")
        assert response.status_code == 202
        assert response.json() == {"id": case.id, "status": "CANCELLING", "message": "Cancelling"}
        assert response.headers["Location"] == case.path
        assert await case.status() == "CANCELLING"
    await case.decide(stopped(case.one))
    await eventually(lambda: _is_gone(case))


async def _is_gone(case: Case) -> bool:
    whole, task = await case.ask("GET", ""), await case.ask("GET", f"/api/tasks/{case.one}")
    return (whole.status_code, task.status_code) == (404, 404)


async def test_a_deleted_one_leaves_the_list(shared_api: Running) -> None:
    case = await new(shared_api, tags=["to-be-deleted"])
    listed = await case.ask("GET", "/api/orchestrations?tag=to-be-deleted")
    assert [item["id"] for item in listed.json()["items"]] == [case.id]
    await case.ask("DELETE", "")
    listed = await case.ask("GET", "/api/orchestrations?tag=to-be-deleted")
    assert listed.json()["items"] == []


ROUTES = [
    *(("POST", f"/{action}", None) for action in MOVES),
    ("PATCH", "/activate", None),
    ("PATCH", "", {"name": "x"}),
    ("DELETE", "", None),
    ("POST", "/tasks", TWO),
]


async def test_neither_who_only_reads_nor_another_team_can_do_anything(
    shared_api: Running, keys: dict[str, str]
) -> None:
    case = await new(shared_api)
    before = await case.seen()
    for holder, status, code in (("reader", 403, "FORBIDDEN"), ("stranger", 404, "ORCHESTRATION_NOT_FOUND")):
        for method, path, body in ROUTES:
            response = await case.ask(method, path, json=body, headers={"X-API-Key": keys[holder]})
            error_of(response, status, code)
    assert await case.seen() == before


async def test_what_does_not_exist_is_not_found(shared_api: Running) -> None:
    for name in (NOWHERE, "nonsense"):
        for method, path, body in ROUTES:
            response = await shared_api.http.request(method, f"/api/orchestrations/{name}{path}", json=body)
            error_of(response, 404, "ORCHESTRATION_NOT_FOUND")

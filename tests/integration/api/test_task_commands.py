"""Commands on tasks over HTTP: every move, its repeat, and every refusal."""

import asyncio
from typing import Any

import pytest

from shared.domain import commands as cmd
from shared.domain.events import OrchestrationStatus, TaskStatus
from tests.integration.api.steering import (
    NOWHERE,
    ONE,
    TWO,
    Case,
    error_of,
    in_state,
    new,
    running,
    with_task,
)
from tests.integration.api.system import Running
from tests.support.orchestrations import finish, record, start

pytestmark = pytest.mark.asyncio(loop_scope="module")

ILLEGAL, BUSY, OVER = "INVALID_STATE_TRANSITION", "ALREADY_ACTIVE", "ALREADY_COMPLETED"
THREE = {"title": "Three", "description": "Do something that nobody thought of."}

MOVES: dict[str, dict[str, tuple[str, str]]] = {
    "retry": {
        "PENDING": ("", ILLEGAL),
        "PROCESSING": ("", BUSY),
        "COMPLETED": ("", OVER),
        "FAILED": ("PENDING", "Retried"),
        "CANCELLED": ("", ILLEGAL),
        "SKIPPED": ("", ILLEGAL),
    },
    "restart": {
        "PENDING": ("", ILLEGAL),
        "PROCESSING": ("", BUSY),
        "COMPLETED": ("PENDING", "Restarted"),
        "FAILED": ("PENDING", "Restarted"),
        "CANCELLED": ("PENDING", "Restarted"),
        "SKIPPED": ("PENDING", "Restarted"),
    },
    "skip": {
        "PENDING": ("SKIPPED", "Skipped"),
        "PROCESSING": ("", ILLEGAL),
        "COMPLETED": ("", OVER),
        "FAILED": ("SKIPPED", "Skipped"),
        "CANCELLED": ("", OVER),  # with the whole orchestration
        "SKIPPED": ("SKIPPED", "Already skipped"),
    },
}
"""What an action leads to: the new status and what is said, or nothing and the code of the refusal."""


def task_path(task_id: str, action: str = "") -> str:
    return f"/api/tasks/{task_id}{action and '/'}{action}"


@pytest.mark.parametrize("status", TaskStatus)
async def test_every_action_in_every_state(shared_api: Running, status: TaskStatus) -> None:
    case = await with_task(shared_api, status)
    for action, answers in MOVES.items():
        leads_to, said = answers[status]
        path = task_path(case.one, action)
        if not leads_to:
            await case.is_refused("POST", path, 409, said)
            continue
        response = await case.ask("POST", path)
        assert response.status_code == 200, response.text
        assert response.json() == {"id": case.one, "status": leads_to, "message": said}
        assert (await case.task(case.one))["status"] == leads_to
        if leads_to != status:
            case = await with_task(shared_api, status)


async def test_skipping_twice_is_no_error_and_a_second_retry_finds_nothing_to_retry(shared_api: Running) -> None:
    case = await with_task(shared_api, TaskStatus.FAILED)
    assert (await case.ask("POST", task_path(case.one, "retry"))).json()["message"] == "Retried"
    await case.is_refused("POST", task_path(case.one, "retry"), 409, ILLEGAL)
    for message in ("Skipped", "Already skipped"):
        answer = (await case.ask("POST", task_path(case.two, "skip"))).json()
        assert answer == {"id": case.two, "status": "SKIPPED", "message": message}


async def test_with_a_key_a_repeated_restart_restarts_once(shared_api: Running) -> None:
    case = await with_task(shared_api, TaskStatus.COMPLETED)
    headers = {"Idempotency-Key": f"again-{case.id}"}
    first = await case.ask("POST", task_path(case.one, "restart"), headers=headers)
    assert first.json()["message"] == "Restarted"
    # The task is done once more meanwhile; without the key this would begin a third agent.
    await case.decide(cmd.SkipTask(task_id=case.two), start(case.one, 2), record(case.one, 2), finish(case.one, 2))
    before = await case.seen()
    assert before["tasks"][0]["status"] == "COMPLETED"
    repeated = await case.ask("POST", task_path(case.one, "restart"), headers=headers)
    assert (repeated.status_code, repeated.content) == (200, first.content)
    assert await case.seen() == before
    other = await case.ask("POST", task_path(case.two, "restart"), headers=headers)
    error_of(other, 422, "IDEMPOTENCY_CONFLICT")


@pytest.mark.parametrize("action", MOVES)
async def test_an_action_takes_no_body_and_no_parameters(shared_api: Running, action: str) -> None:
    case = await new(shared_api)
    path = task_path(case.one, action)
    assert set(await case.names("POST", path, {"force": True})) == {"force"}
    assert set(await case.names("POST", path, 1)) == {"body"}
    error = await case.is_refused("POST", f"{path}?force=1", 400, "INVALID_REQUEST")
    assert error["metadata"]["fields"][0]["field"] == "force"


async def test_a_finished_orchestration_goes_on_by_a_retry_a_restart_or_another_task(shared_api: Running) -> None:
    for status, path, body in (
        (OrchestrationStatus.FAILED, "/api/tasks/{one}/retry", None),
        (OrchestrationStatus.COMPLETED, "/api/tasks/{two}/restart", None),
        (OrchestrationStatus.CANCELLED, "/tasks", THREE),
        (OrchestrationStatus.COMPLETED, "/tasks", THREE),
    ):
        case = await in_state(shared_api, status)
        response = await case.ask("POST", path.format(one=case.one, two=case.two), json=body)
        assert response.status_code in (200, 201), response.text
        assert await case.status() == "ACTIVE"
    case = await in_state(shared_api, OrchestrationStatus.FAILED)
    await case.is_refused("POST", task_path(case.one, "skip"), 409, OVER)


async def test_a_task_that_is_added_is_answered_as_it_is_and_comes_last(shared_api: Running) -> None:
    case = await running(shared_api, model="by-complexity")
    body = {
        **THREE,
        "priority": "high",
        "complexity": "complex",
        "maxRetries": 1,
        "depends_on": ["Two", 0],
        "timeoutMinutes": 30,
        "metadata": {"k": [None]},
    }
    response = await case.ask("POST", "/tasks", json=body)
    assert response.status_code == 201, response.text
    added = response.json()
    assert response.headers["Location"] == task_path(added["id"])
    assert added == await case.task(added["id"])
    assert [task["id"] for task in (await case.seen())["tasks"]] == [case.one, case.two, added["id"]]
    assert added["depends_on"] == [case.two, case.one]
    assert (added["priority"], added["complexity"], added["max_retries"]) == ("high", "complex", 1)
    assert (added["timeout_minutes"], added["metadata"], added["order_index"]) == (30, {"k": [None]}, 2)
    assert (added["status"], added["model"]) == ("PENDING", "claude-4-opus-thinking")


async def test_a_task_can_be_added_at_a_place(shared_api: Running) -> None:
    case = await new(shared_api)
    await case.ask("PATCH", task_path(case.two), json={"orderIndex": 5})
    added = (await case.ask("POST", "/tasks", json={**THREE, "orderIndex": 3})).json()
    assert [task["id"] for task in (await case.seen())["tasks"]] == [case.one, added["id"], case.two]


async def test_the_same_request_under_a_key_adds_one_task(shared_api: Running) -> None:
    case = await running(shared_api)
    headers = {"Idempotency-Key": f"add-{case.id}"}
    asked = [case.ask("POST", "/tasks", json=THREE, headers=headers) for _ in range(8)]
    answers = [*await asyncio.gather(*asked), await case.ask("POST", "/tasks", json=THREE, headers=headers)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len((await case.seen())["tasks"]) == 3
    error_of(await case.ask("POST", "/tasks", json=TWO, headers=headers), 422, "IDEMPOTENCY_CONFLICT")
    assert (await case.ask("POST", "/tasks", json=THREE)).json()["id"] != answers[0].json()["id"]
    assert len((await case.seen())["tasks"]) == 4


async def test_a_request_that_was_refused_can_be_put_right_under_its_key(shared_api: Running) -> None:
    case = await new(shared_api)
    headers = {"Idempotency-Key": f"right-{case.id}"}
    wrong = await case.ask("POST", "/tasks", json={**THREE, "dependsOn": ["Nobody"]}, headers=headers)
    error_of(wrong, 400, "INVALID_TASK")
    assert (await case.ask("POST", "/tasks", json=THREE, headers=headers)).status_code == 201


async def test_every_field_of_a_new_task_that_is_wrong_is_named(shared_api: Running) -> None:
    case = await new(shared_api)
    body = {
        "title": "",
        "description": "short",
        "priority": "urgent",
        "maxRetries": 11,
        "dependsOn": ["Nobody", 2, True],
    }
    named = await case.names("POST", "/tasks", {**body, "status": "PENDING", "colour": 1}, "INVALID_TASK")
    wrong = {"dependsOn[0]", "dependsOn[1]", "dependsOn[2]"}
    assert set(named) == {"title", "description", "priority", "maxRetries", "status", "colour", *wrong}
    assert named["status"] == "is set by the server and cannot be given"
    missing = await case.names("POST", "/tasks", {}, "MISSING_REQUIRED_FIELD")
    assert set(missing) == {"title", "description"}
    assert set(await case.names("POST", "/tasks", {"title": 1}, "INVALID_TASK")) == {"title", "description"}
    assert set(await case.names("POST", "/tasks", 3, "INVALID_TASK")) == {"body"}
    await case.is_refused("POST", "/tasks", 415, "UNSUPPORTED_MEDIA_TYPE", content=b"")
    await case.is_refused("POST", "/tasks?first=1", 400, "INVALID_REQUEST", json=THREE)
    strict = await new(shared_api, strictModel=True)
    assert set(await strict.names("POST", "/tasks", {**THREE, "model": "gpt-99"}, "INVALID_MODEL")) == {"model"}


async def test_a_title_that_several_tasks_have_names_none_of_them(shared_api: Running) -> None:
    case = await new(shared_api)
    await case.ask("PATCH", task_path(case.two), json={"title": "One"})
    named = await case.names("POST", "/tasks", {**THREE, "dependsOn": ["One"]}, "INVALID_TASK")
    assert "2 tasks have this title" in named["dependsOn[0]"]
    added = (await case.ask("POST", "/tasks", json={**THREE, "dependsOn": [case.two, 1, 0]})).json()
    assert added["depends_on"] == [case.two, case.one]


async def test_the_domain_refuses_what_only_the_state_can_tell(shared_api: Running) -> None:
    case = await with_task(shared_api, TaskStatus.FAILED)
    lost = await case.is_refused("POST", "/tasks", 400, "INVALID_TASK", json={**THREE, "dependsOn": ["One"]})
    assert "dependsOn" in lost["message"]
    cancelling = await in_state(shared_api, OrchestrationStatus.CANCELLING)
    await cancelling.is_refused("POST", "/tasks", 409, ILLEGAL, json=THREE)
    await cancelling.is_refused("PATCH", task_path(cancelling.two), 409, ILLEGAL, json={"title": "x"})
    full = await shared_api.create(tasks=[{**ONE, "title": f"Task {number}"} for number in range(50)])
    crowded = Case(shared_api, full["id"], full["tasks"][0]["id"], full["tasks"][1]["id"])
    error = await crowded.is_refused("POST", "/tasks", 400, "INVALID_TASK", json=THREE)
    assert "50 tasks" in error["message"]


async def test_a_change_of_a_task_is_answered_with_the_whole_task_and_seen_by_whoever_asks_next(
    shared_api: Running,
) -> None:
    case = await new(shared_api)
    before = await case.task(case.two)
    body = {
        "title": "Two, reworded",
        "description": "Do the second thing, but better.",
        "priority": "high",
        "complexity": "simple",
        "maxRetries": 7,
        "model": "gpt-4",
        "dependsOn": ["One"],
        "timeout_minutes": 5,
        "metadata": {"m": 1},
        "orderIndex": 9,
    }
    response = await case.ask("PATCH", task_path(case.two), json=body)
    assert response.status_code == 200, response.text
    changed = response.json()
    assert changed == await case.task(case.two)
    same = ("title", "description", "priority", "complexity", "timeout_minutes", "metadata")
    expected = {"max_retries": 7, "model": "o3", "depends_on": [case.one], "order_index": 9}
    updated = {"updated_at": changed["updated_at"], **{name: body[name] for name in same}, **expected}
    assert changed == {**before, **updated}
    cleared = await case.ask("PATCH", task_path(case.two), json={"model": None, "dependsOn": None, "metadata": None})
    assert (cleared.json()["model"], cleared.json()["depends_on"], cleared.json()["metadata"]) == (None, [], {})
    seen = await case.seen()
    unchanging: tuple[dict[str, Any], ...] = ({}, {"title": "Two, reworded"}, {"dependsOn": []})
    for nothing in unchanging:
        assert (await case.ask("PATCH", task_path(case.two), json=nothing)).status_code == 200
    assert await case.seen() == seen


async def test_tasks_can_change_places(shared_api: Running) -> None:
    case = await new(shared_api)
    await case.ask("PATCH", task_path(case.one), json={"orderIndex": 7})
    seen = await case.seen()
    assert [task["id"] for task in seen["tasks"]] == [case.two, case.one]


async def test_every_field_of_a_change_of_a_task_that_is_wrong_is_named(shared_api: Running) -> None:
    case = await new(shared_api)
    path = task_path(case.two)
    body = {"title": None, "priority": 1, "maxRetries": "3", "orderIndex": None, "dependsOn": ["Two", "Nobody", {}]}
    named = await case.names("PATCH", path, {**body, "retry_count": 0, "task_id": "x", "nonsense": 0}, "INVALID_TASK")
    wrong = {"dependsOn[0]", "dependsOn[1]", "dependsOn[2]"}
    assert set(named) == {"title", "priority", "maxRetries", "orderIndex", "retry_count", "task_id", "nonsense", *wrong}
    assert named["dependsOn[0]"] == "a task cannot depend on itself"
    assert named["task_id"] == "is set by the server and cannot be given"
    await case.ask("PATCH", path, json={"dependsOn": ["One"]})
    cycle = await case.names("PATCH", task_path(case.one), {"dependsOn": ["Two"]}, "INVALID_TASK")
    assert "One → Two → One" in cycle["dependsOn"]
    await case.is_refused("PATCH", path, 415, "UNSUPPORTED_MEDIA_TYPE", content=b"{}")
    await case.is_refused("PATCH", f"{path}?x=1", 400, "INVALID_REQUEST", json={})


async def test_a_model_that_was_chosen_by_complexity_follows_it(shared_api: Running) -> None:
    case = await new(shared_api, model="by-complexity")
    path = task_path(case.one)
    assert (await case.task(case.one))["model"] == "claude-4-sonnet-thinking"
    assert (await case.ask("PATCH", path, json={"complexity": "complex"})).json()["model"] == "claude-4-opus-thinking"
    assert (await case.ask("PATCH", path, json={"model": "o3"})).json()["model"] == "o3"
    assert (await case.ask("PATCH", path, json={"complexity": "simple"})).json()["model"] == "o3"
    assert (await case.ask("PATCH", path, json={"model": None})).json()["model"] == "claude-4-sonnet-thinking"


async def test_what_an_agent_works_on_is_not_changed_under_its_hands(shared_api: Running) -> None:
    for status, code, allowed in (
        (TaskStatus.PROCESSING, BUSY, {"maxRetries": 9, "metadata": {"a": 1}}),
        (TaskStatus.COMPLETED, OVER, {"metadata": {"a": 1}}),
    ):
        case = await with_task(shared_api, status)
        path = task_path(case.one)
        await case.is_refused("PATCH", path, 409, code, json={"title": "Another"})
        await case.is_refused("PATCH", path, 409, code, json={**allowed, "priority": "high"})
        assert (await case.ask("PATCH", path, json=allowed)).json()["metadata"] == {"a": 1}


ROUTES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"title": "x"}),
    *(("POST", action, None) for action in MOVES),
]


async def test_neither_who_only_reads_nor_another_team_can_do_anything(
    shared_api: Running, keys: dict[str, str]
) -> None:
    case = await new(shared_api)
    before = await case.seen()
    for holder, status, code in (("reader", 403, "FORBIDDEN"), ("stranger", 404, "TASK_NOT_FOUND")):
        for method, action, body in ROUTES:
            response = await case.ask(
                method, task_path(case.one, action), json=body, headers={"X-API-Key": keys[holder]}
            )
            error_of(response, status, code)
    assert await case.seen() == before


async def test_what_does_not_exist_is_not_found(shared_api: Running) -> None:
    for name in (NOWHERE, "nonsense"):
        for method, action, body in ROUTES:
            response = await shared_api.http.request(method, task_path(name, action), json=body)
            error_of(response, 404, "TASK_NOT_FOUND")


async def test_a_model_that_is_not_known_leaves_a_warning_with_the_orchestration(shared_api: Running) -> None:
    case = await new(shared_api)
    for number, (method, path, body) in enumerate(
        (
            ("PATCH", "", {"model": "gpt-70"}),
            ("PATCH", task_path(case.one), {"model": "gpt-71"}),
            ("POST", "/tasks", {**THREE, "model": "gpt-72"}),
        )
    ):
        assert (await case.ask(method, path, json=body)).json()["model"] == "claude-4-sonnet-thinking"
        warnings = (await case.seen())["orchestration"]["warnings"]
        assert [f"gpt-7{number}" in warning for warning in warnings] == [False] * number + [True]
        lines = (await case.ask("GET", "/logs?level=warning")).json()["items"]
        assert all(line["message"].endswith(said) for line, said in zip(lines, warnings, strict=True))

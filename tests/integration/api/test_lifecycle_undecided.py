"""Commands whose decision is late, whose rows are late, or that meet each other."""

import asyncio
from functools import partial
from typing import Any

import httpx

from shared.domain.events import TaskStatus
from tests.integration.api.steering import TWO, Case, error_of, new, running, stopped, with_task
from tests.integration.api.system import Running, running_api
from tests.support.eventually import eventually


def every_command(case: Case) -> list[tuple[str, str, Any, str]]:
    """Method, path, body, and where to look for what came of it."""
    task = f"/api/tasks/{case.one}"
    return [
        ("POST", "/activate", None, case.path),
        ("POST", "/pause", {"mode": "drain"}, case.path),
        ("POST", "/resume", None, case.path),
        ("PATCH", "", {"name": "Another"}, case.path),
        ("PATCH", task, {"title": "Another"}, task),
        ("POST", f"{task}/skip", None, task),
        ("POST", f"{task}/retry", None, task),
        ("POST", f"{task}/restart", None, task),
        ("POST", "/tasks", TWO, "/api/tasks/"),
        ("POST", "/cancel", None, case.path),
        ("DELETE", "", None, case.path),
    ]


async def test_without_a_decision_in_time_the_answer_says_where_to_look(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, dispatching=False, reply_seconds=0.1) as api:
        async with api.dispatcher.deciding():
            case = await _created(api)
        asked = every_command(case)
        for method, path, body, address in asked:
            response = await case.ask(method, path, json=body)
            assert response.status_code == 202, response.text
            assert response.headers["Location"].startswith(address)
            assert response.headers["Location"].endswith(response.json()["id"])
            assert response.json()["message"] == "Accepted; not decided yet"
            assert response.json()["status"] in (None, "PENDING")
        async with api.dispatcher.deciding():
            await eventually(lambda: _is_gone(case), timeout=30)


async def test_what_is_still_to_come_is_learned_by_asking_again_under_the_key_and_done_once(
    nats_url: str, database_url: str
) -> None:
    async with (
        running_api(nats_url, database_url, dispatching=False) as patient,
        running_api(
            nats_url, database_url, prepared=True, run_projector=False, dispatching=False, reply_seconds=0.1
        ) as impatient,
    ):
        dispatcher = patient.dispatcher
        async with dispatcher.deciding():
            case = await with_task(patient, TaskStatus.FAILED)
        hasty = Case(impatient, case.id, case.one, case.two)
        for number, (path, body) in enumerate((("/tasks", TWO), (f"/api/tasks/{case.one}/retry", None))):
            headers = {"Idempotency-Key": f"key-{number}"}
            first = await hasty.ask("POST", path, json=body, headers=headers)
            again = await hasty.ask("POST", path, json=body, headers=headers)
            assert (first.status_code, again.status_code) == (202, 202)
            async with dispatcher.deciding():
                answer = await case.ask("POST", path, json=body, headers=headers)
            assert answer.status_code in (200, 201), answer.text
            assert first.json()["id"] == again.json()["id"] == answer.json()["id"]
            # The key holds the answer from now on, whoever is asked.
            assert (await hasty.ask("POST", path, json=body, headers=headers)).content == answer.content
        types = [event["type"] for event in (await case.ask("GET", "/events")).json()["items"]]
        assert (types.count("task.added"), types.count("task.reset")) == (1, 1)


async def _created(api: Running) -> Case:
    """However long its decision took."""
    body = {"repository": "acme/shop", "tasks": [TWO]}
    location = (await api.http.post("/api/orchestrations", json=body)).headers["Location"]

    async def found() -> httpx.Response | None:
        response = await api.http.get(location)
        return response if response.status_code == 200 else None

    response = await eventually(found, timeout=30)
    assert response is not None
    shown = response.json()
    (task,) = (task["id"] for task in shown["tasks"])
    return Case(api, shown["orchestration"]["id"], task, task)


async def _is_gone(case: Case) -> bool:
    return (await case.ask("GET", "")).status_code == 404


async def test_a_replica_whose_rows_are_late_shows_what_was_answered_all_the_same(
    nats_url: str, database_url: str
) -> None:
    async with (
        running_api(nats_url, database_url, run_projector=False, visible_seconds=0.01) as one,
        running_api(
            nats_url, database_url, prepared=True, run_projector=False, dispatching=False, visible_seconds=0.01
        ) as other,
    ):
        case = await running(one)
        there = Case(other, case.id, case.one, case.two)
        changed = (await case.ask("PATCH", "", json={"name": "Another"})).json()
        await eventually(lambda: _is_named(there, "Another"))
        added = (await case.ask("POST", "/tasks", json={**TWO, "orderIndex": 0})).json()
        assert (changed["name"], added["title"]) == ("Another", "Two")
        # Until this process has heard of it from the log, it says that it cannot tell.
        assert (await eventually(partial(case.task, added["id"])))["id"] == added["id"]
        assert (await case.ask("DELETE", "")).status_code == 202
        await case.decide(stopped(case.one))
        for replica in (case, there):
            await eventually(partial(_is_gone, replica))
            for task_id in (case.one, added["id"]):
                await eventually(partial(_is_missing, replica, task_id))
            error_of(await replica.ask("POST", "/cancel"), 404, "ORCHESTRATION_NOT_FOUND")


async def _is_missing(case: Case, task_id: str) -> bool:
    response = await case.ask("GET", f"/api/tasks/{task_id}")
    return bool(response.json()["error"]["code"] == "TASK_NOT_FOUND")


async def _is_named(case: Case, name: str) -> bool:
    seen = await case.seen()
    return bool(seen["orchestration"]["name"] == name)


async def test_of_commands_that_meet_one_decides_and_the_others_are_told(api: Running) -> None:
    case = await running(api)
    said = await _at_once(case, "POST", "/pause")
    assert sorted(said) == ["Already paused"] * 4 + ["Paused"]
    said = await _at_once(case, "POST", "/cancel")
    assert sorted(said) == ["Already cancelling"] * 4 + ["Cancelling"]
    case = await with_task(api, TaskStatus.FAILED)
    retried = await _at_once(case, "POST", f"/api/tasks/{case.one}/retry")
    assert sorted(retried) == ["INVALID_STATE_TRANSITION"] * 4 + ["Retried"]
    case = await new(api)
    deleted = await _at_once(case, "DELETE", "")
    assert sorted(deleted) == ["Deleted"] + ["ORCHESTRATION_NOT_FOUND"] * 4


async def _at_once(case: Case, method: str, path: str) -> list[str]:
    """What five requests at the same time are told: the message, or the code of the error."""
    answers = [response.json() for response in await asyncio.gather(*(case.ask(method, path) for _ in range(5)))]
    return [answer["message"] if "message" in answer else answer["error"]["code"] for answer in answers]

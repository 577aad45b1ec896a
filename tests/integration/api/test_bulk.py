"""One request, many repositories: what becomes of each is told, and none stops another."""

from collections.abc import Mapping
from typing import Any, cast

import httpx
import pytest
from nats.aio.client import Client

from services.api import bulk
from shared.jetstream.errors import PublishUnavailableError
from shared.jetstream.publish import Ack, Publisher
from shared.jetstream.topology import COMMANDS
from tests.integration.api.system import TASK, Running, running_api

PATH = "/api/orchestrations/bulk"
SECOND = {"title": "Write the tests", "description": "Cover the validation.", "dependsOn": [TASK["title"]]}


def many(*repositories: Any, **fields: Any) -> dict[str, Any]:
    return {"repositories": list(repositories), "tasks": [TASK, SECOND], **fields}


def statuses(response: httpx.Response) -> list[int]:
    return [item["status"] for item in response.json()["items"]]


async def test_each_repository_is_told_in_the_order_given(api: Running) -> None:
    body = many(
        "acme/shop",
        "no repository",
        {"repository": "acme/blog", "ref": "develop", "name": "The blog"},
        {"repository": "acme/wiki", "colour": "red"},
        "https://github.com/Acme/Shop.git",
        {"repository": "acme/shop", "ref": "next"},
        7,
        {"repository": "acme/docs", "ref": "a b"},
        name="Licence",
        maxParallel=2,
        execution_mode="parallel",
        activate=True,
    )
    response = await api.http.post(PATH, json=body)
    assert response.status_code == 200, response.text
    assert statuses(response) == [201, 400, 201, 400, 400, 201, 400, 400]
    answer = response.json()
    assert (answer["created"], answer["failed"], answer["undecided"]) == (3, 5, 0)
    assert [item["repository"] for item in answer["items"]] == [
        *("acme/shop", "no repository", "acme/blog", "acme/wiki", "https://github.com/Acme/Shop.git", "acme/shop"),
        *(None, "acme/docs"),
    ]
    places = [item["error"]["metadata"]["fields"][0]["field"] for item in answer["items"] if "error" in item]
    assert places == ["repositories[1]", "repositories[3].colour", "repositories[4]", "repositories[6]",
                      "repositories[7].ref"]  # fmt: skip
    made = [item["orchestration"] for item in answer["items"] if item["status"] == 201]
    assert [(one["repository"], one["ref"], one["name"], one["max_parallel"], one["status"]) for one in made] == [
        ("https://github.com/acme/shop", "main", "Licence", 2, "ACTIVE"),
        ("https://github.com/acme/blog", "develop", "The blog", 2, "ACTIVE"),
        ("https://github.com/acme/shop", "next", "Licence", 2, "ACTIVE"),
    ]


async def test_each_has_tasks_of_its_own_and_is_seen_at_once(api: Running) -> None:
    response = await api.http.post(PATH, json=many("acme/shop", "acme/blog"))
    seen: set[str] = set()
    for item in response.json()["items"]:
        found = (await api.http.get(f"/api/orchestrations/{item['id']}")).json()
        assert found["orchestration"] == item["orchestration"]
        first, second = found["tasks"]
        assert second["depends_on"] == [first["id"]]
        assert seen.isdisjoint({first["id"], second["id"]})
        seen |= {first["id"], second["id"]}


async def test_a_hundred_repositories_are_created(api: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_BEGIN_SECONDS", 200.0)  # whatever they take here
    response = await api.http.post(PATH, json=many(*(f"acme/r{number}" for number in range(100))))
    assert response.status_code == 200
    assert response.json()["created"] == 100
    assert len({item["id"] for item in response.json()["items"]}) == 100


async def test_what_is_wrong_for_all_refuses_the_whole(api: Running) -> None:
    before = (await api.runtime.nc.jsm().stream_info(COMMANDS)).state.last_seq
    response = await api.http.post(PATH, json=many("acme/shop", "acme/blog", webhookUrl="nonsense", tags=[""]))
    assert response.status_code == 400
    fields = [problem["field"] for problem in response.json()["error"]["metadata"]["fields"]]
    assert fields == ["tags[0]", "webhookUrl"]
    assert (await api.runtime.nc.jsm().stream_info(COMMANDS)).state.last_seq == before


async def test_work_that_is_larger_than_what_is_stored_refuses_the_whole(api: Running) -> None:
    tasks = [{"title": str(n), "description": "x" * 5000, "metadata": {"m": "x" * 16000}} for n in range(40)]
    response = await api.http.post(PATH, json=many("acme/shop", tasks=tasks))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


class SilentPublisher:
    """Answers nothing about some of the messages, which may be stored all the same."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._calls = 0

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        stream: str,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Ack:
        self._calls += 1
        number = self._calls
        if number == 2:
            raise PublishUnavailableError("no answer")
        ack = await self._publisher.publish(subject, data, stream=stream, msg_id=msg_id, headers=headers)
        if number == 3:
            raise PublishUnavailableError("no answer, but it is stored")
        return ack


async def test_what_is_not_known_is_told_as_such_and_known_after_a_repeat(api: Running) -> None:
    publisher = api.parts.commands._publisher
    api.parts.commands._publisher = SilentPublisher(publisher)
    body, headers = many("acme/r1", "acme/r2", "acme/r3", "nonsense"), {"Idempotency-Key": "key"}
    first = await api.http.post(PATH, json=body, headers=headers)
    assert first.status_code == 202
    assert first.headers["Retry-After"]
    assert sorted(statuses(first)) == [201, 400, 503, 503]
    counts = {name: first.json()[name] for name in ("created", "failed", "undecided")}
    assert counts == {"created": 1, "failed": 1, "undecided": 2}
    unknown = [item for item in first.json()["items"] if item["status"] == 503]
    assert [item["outcome"] for item in unknown] == ["unknown", "unknown"]
    assert all(item["error"]["code"] == "SERVICE_UNAVAILABLE" for item in unknown)

    again = await api.http.post(PATH, json=body, headers=headers)
    assert again.status_code == 200
    assert statuses(again) == [201, 201, 201, 400]
    ids = [item.get("id") for item in again.json()["items"]]
    assert ids == [item.get("id") for item in first.json()["items"]]
    assert len((await api.http.get("/api/orchestrations")).json()["items"]) == 3


async def test_what_is_not_decided_in_time_is_no_failure(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, dispatching=False, reply_seconds=0.3) as api:
        response = await api.http.post(PATH, json=many("acme/r1", "acme/r2"))
        assert response.status_code == 202
        assert [(item["status"], item["outcome"]) for item in response.json()["items"]] == [(202, "unknown")] * 2
        assert (response.json()["failed"], response.json()["undecided"]) == (0, 2)


class Away:
    """A connection that is lost."""

    is_connected = False


async def test_when_nothing_could_be_sent_the_whole_is_refused(api: Running) -> None:
    api.parts.commands._nc = cast(Client, Away())
    response = await api.http.post(PATH, json=many("acme/r1", "acme/r2"))
    assert response.status_code == 503
    assert response.json()["error"]["metadata"]["outcome"] == "not sent"

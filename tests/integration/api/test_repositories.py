"""Repositories: looked at before anything is created, where that is asked for; and those that the provider lists."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.local.postgres import PostgresServer
from services.api.repository_check import NOT_CHECKED
from shared.observability.health import http_server
from tests.integration.api.system import TASK, Running, order, running_api
from tests.support.github import TOKEN, FakeGitHub, fake_github
from tests.support.servers import fresh_database, nats_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREATE = "/api/orchestrations"
BULK = "/api/orchestrations/bulk"
SHOP = "https://github.com/acme/shop"


@dataclass
class Looking:
    """An api that can ask GitHub, and a provider that lists its repositories."""

    api: Running
    github: FakeGitHub

    async def create(self, **fields: Any) -> httpx.Response:
        return await self.api.http.post(CREATE, json=order(checkRepository=True, **fields))

    async def bulk(self, *repositories: object, **fields: Any) -> httpx.Response:
        body = {"repositories": repositories, "tasks": [TASK], "checkRepository": True, **fields}
        return await self.api.http.post(BULK, json=body)

    async def count(self) -> int:
        """Orchestrations that there are."""
        return len((await self.api.http.get(CREATE, params={"limit": 100})).json()["items"])


async def _repositories(_: Request) -> Response:
    return JSONResponse({"items": [{"url": SHOP}, {"url": "https://github.com/acme/tools"}]})


@pytest_asyncio.fixture(name="running", scope="module", loop_scope="module")
async def _running(postgres: PostgresServer) -> AsyncIterator[Looking]:
    provider = Starlette(routes=[Route("/v1/repositories", _repositories)])
    with nats_server() as nats, fresh_database(postgres) as database_url:
        async with (
            fake_github() as github,
            http_server(provider, "127.0.0.1", 0, stop_seconds=1) as port,
            running_api(
                nats.url,
                database_url,
                github_token=TOKEN,
                github_api_url=github.url,
                cursor_api_url=f"http://127.0.0.1:{port}",
            ) as api,
        ):
            yield Looking(api, github)


@pytest.fixture
def looking(running: Looking) -> Looking:
    running.github.forget()
    running.github.repositories |= {"acme/shop": {"main"}, "acme/blog": {"main", "next"}}
    return running


def fields_of(error: dict[str, Any]) -> list[str]:
    assert error["code"] == "INVALID_REPOSITORY"
    return [named["field"] for named in error["metadata"]["fields"]]


async def test_a_repository_that_is_there_is_created_in_and_one_is_looked_at_only_where_asked(looking: Looking) -> None:
    assert (await looking.create()).status_code == 201
    assert looking.github.paths == ["/repos/acme/shop", "/repos/acme/shop/commits/main"]
    assert (await looking.api.http.post(CREATE, json=order(repository="acme/nowhere"))).status_code == 201
    assert (await looking.api.http.post(CREATE, json=order(checkRepository=False))).status_code == 201
    assert len(looking.github.paths) == 2


@pytest.mark.parametrize(
    ("wrong", "field"), [({"repository": "acme/nowhere"}, "repository"), ({"ref": "nowhere"}, "ref")]
)
@pytest.mark.parametrize("spelling", ["checkRepository", "check_repository"])
async def test_what_is_not_there_is_named_with_the_way_out_and_nothing_is_created(
    looking: Looking, wrong: dict[str, str], field: str, spelling: str
) -> None:
    before = await looking.count()
    response = await looking.api.http.post(CREATE, json={**order(**wrong), spelling: True})
    error = response.json()["error"]
    assert (response.status_code, fields_of(error)) == (400, [field])
    assert "check how it is spelled" in error["message"]
    assert await looking.count() == before


async def test_where_github_does_not_say_nothing_is_created_and_the_same_request_is_carried_out_later(
    looking: Looking,
) -> None:
    before = await looking.count()
    looking.github.says("/repos/acme/shop", 503, Retry_After="17")
    key = {"Idempotency-Key": "once-github-is-back"}
    response = await looking.api.http.post(CREATE, json=order(checkRepository=True), headers=key)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "GITHUB_API_ERROR")
    assert response.headers["Retry-After"] == "17"
    assert await looking.count() == before
    looking.github.answers.clear()
    again = await looking.api.http.post(CREATE, json=order(checkRepository=True), headers=key)
    assert again.status_code == 201
    assert await looking.count() == before + 1


async def test_of_many_repositories_each_is_refused_by_itself(looking: Looking) -> None:
    before = await looking.count()
    response = await looking.bulk(
        "acme/shop",
        "acme/nowhere",
        {"repository": "acme/blog", "ref": "nowhere"},
        {"repository": "acme/blog", "ref": "next"},
        {"repository": "acme/lost"},
        "not a repository",
    )
    answer = response.json()
    assert response.status_code == 200, answer
    assert [item["status"] for item in answer["items"]] == [201, 400, 400, 201, 400, 400]
    fields = [fields_of(item["error"])[0] for item in answer["items"] if item["status"] == 400]
    assert fields == ["repositories[1]", "repositories[2].ref", "repositories[4].repository", "repositories[5]"]
    assert await looking.count() == before + 2


async def test_a_ref_for_all_is_named_as_such(looking: Looking) -> None:
    answer = (await looking.bulk("acme/shop", "acme/blog", ref="next")).json()
    assert [item["status"] for item in answer["items"]] == [400, 201]
    assert fields_of(answer["items"][0]["error"]) == ["ref"]


async def test_of_many_repositories_none_is_created_in_where_github_does_not_say_of_all(looking: Looking) -> None:
    before = await looking.count()
    looking.github.says("/repos/acme/blog", 429, Retry_After="30")
    response = await looking.bulk("acme/shop", "acme/blog")
    assert (response.status_code, response.json()["error"]["code"]) == (502, "GITHUB_API_ERROR")
    assert response.headers["Retry-After"] == "30"
    assert await looking.count() == before


async def test_the_repositories_of_the_provider_are_listed_with_their_age(looking: Looking) -> None:
    for _ in range(2):
        response = await looking.api.http.get("/api/repositories")
        assert response.status_code == 200, response.text
        listed = response.json()
        assert [item["repository"] for item in listed["items"]] == [SHOP, "https://github.com/acme/tools"]
        assert 0 <= listed["age"] < 60
        assert listed["as_of"].endswith("Z")
    refused = await looking.api.http.get("/api/repositories", params={"limit": 1})
    assert refused.status_code == 400


async def test_without_the_provider_there_is_no_list_and_it_is_said_when_to_ask_again(shared_api: Running) -> None:
    response = await shared_api.http.get("/api/repositories")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert 1 <= int(response.headers["Retry-After"]) <= 60


async def test_without_a_token_the_repository_is_taken_unseen_and_the_log_warns_of_it(shared_api: Running) -> None:
    created = await shared_api.create(repository="acme/nowhere", checkRepository=True)
    assert created["warnings"] == [NOT_CHECKED]
    logs = (await shared_api.http.get(f"{CREATE}/{created['id']}/logs")).json()
    assert [line["message"] for line in logs["items"] if line["level"] == "warning"] == [NOT_CHECKED]
    many = {"repositories": ["acme/nowhere"], "tasks": [TASK], "checkRepository": True}
    [item] = (await shared_api.http.post(BULK, json=many)).json()["items"]
    assert item["orchestration"]["warnings"] == [NOT_CHECKED]

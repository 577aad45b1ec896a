"""Lists over HTTP: what they take, and what they say of what they do not take."""

import random
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from services.api.errors import ApiError
from services.api.reading import ShownAgent
from tests.integration.api.system import Running, running_api
from tests.support.eventually import eventually
from tests.support.orchestrations import start

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIST = "/api/orchestrations"


async def listed(api: Running, **params: Any) -> list[str]:
    """The names on the first page."""
    response = await api.http.get(LIST, params=params)
    assert response.status_code == 200, response.text
    return [item["name"] for item in response.json()["items"]]


async def refused(api: Running, **params: Any) -> dict[str, str]:
    """What is said of each parameter."""
    return fields_of(await api.http.get(LIST, params=params))


def fields_of(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["code"] in ("INVALID_REQUEST", "INVALID_REPOSITORY")
    return {field["field"]: field["message"] for field in error["metadata"]["fields"]}


async def test_a_list_can_be_had_by_every_property_at_once_or_alone(shared_api: Running) -> None:
    api = shared_api
    one = await api.create(name="Checkout fix", repository="acme/filters", tags=["filters", "hot"])
    await api.create(name="Checkout docs", repository="acme/filters.git", tags=["filters"], description="Spelling only")
    two = await api.create(name="Search", repository="Acme/filters", tags=["filters", "hot"], activate=True)
    mine = {"tag": "filters"}
    assert await listed(api, **mine) == ["Search", "Checkout docs", "Checkout fix"]
    assert await listed(api, **mine, sort="created_at") == ["Checkout fix", "Checkout docs", "Search"]
    assert await listed(api, **mine, status="ACTIVE") == ["Search"]
    assert len(await listed(api, **mine, status=["ACTIVE", "PENDING"])) == 3
    assert await listed(api, tag=["hot", "filters"]) == ["Search", "Checkout fix"]
    for repository in ("acme/filters", "https://github.com/acme/filters", "https://github.com/acme/filters.git"):
        assert await listed(api, repository=repository) == ["Checkout docs", "Checkout fix"]
    assert await listed(api, **mine, q="checkout") == ["Checkout docs", "Checkout fix"]
    assert await listed(api, **mine, q="CHECKOUT spell") == ["Checkout docs"]
    assert await listed(api, **mine, q='"add validation" checkout -docs') == ["Checkout fix"], "task titles count"
    between = {"since": one["created_at"], "until": two["created_at"], "created_by": one["created_by"]}
    assert await listed(api, **mine, **between) == ["Checkout docs", "Checkout fix"]
    assert await listed(api, **mine, created_by="nobody") == []
    await api.http.post(f"{LIST}/{one['id']}/activate")
    assert (await listed(api, **mine, sort="-updated_at"))[0] == "Checkout fix"
    assert await listed(api, repository="acme/filters", status="ACTIVE", tag="hot", q="fix", sort="updated_at") == [
        "Checkout fix"
    ]


async def test_a_cursor_goes_on_with_the_same_filters_and_is_refused_with_others(shared_api: Running) -> None:
    api = shared_api
    for number in range(5):
        await api.create(name=f"n{number}", tags=["pages"])
    params: dict[str, Any] = {"tag": "pages", "limit": 2, "status": ["PENDING", "ACTIVE"]}
    first = (await api.http.get(LIST, params=params)).json()
    second = (await api.http.get(LIST, params=params | {"cursor": first["nextCursor"], "limit": 100})).json()
    assert [item["name"] for item in first["items"] + second["items"]] == ["n4", "n3", "n2", "n1", "n0"]
    assert "nextCursor" not in second
    turned = params | {"status": ["ACTIVE", "PENDING"], "cursor": first["nextCursor"]}
    assert (await api.http.get(LIST, params=turned)).status_code == 200
    for other in ({"tag": "page"}, {"sort": "created_at"}, {"q": "n"}, {"status": "PENDING"}):
        assert list(await refused(api, **(params | other | {"cursor": first["nextCursor"]}))) == ["cursor"]
    chance = random.Random(1)
    for _ in range(30):
        text = list(first["nextCursor"])
        text[chance.randrange(len(text))] = chance.choice("aZ_-=é!\0 ")
        response = await api.http.get(LIST, params=params | {"cursor": "".join(text)})
        assert response.status_code in (200, 400), response.text


async def test_whatever_is_wrong_is_named(shared_api: Running) -> None:
    api = shared_api
    assert list(await refused(api, statuses="ACTIVE", **{"page[size]": 3})) == ["page[size]", "statuses"]
    wrong = await refused(api, repository="acme", since="2026-01-01", until="soon", q="!!")
    assert list(wrong) == ["repository", "since", "until", "q"]
    assert "time zone" in wrong["since"]
    assert "status[0]" in await refused(api, status="RUNNING")
    assert list(await refused(api, sort="name")) == ["sort"]
    assert list(await refused(api, limit=0)) == list(await refused(api, limit=101)) == ["limit"]
    assert list(await refused(api, created_by="a\0b", tag=["\0"])) == ["tag", "created_by"]
    assert list(await refused(api, q="")) == ["q"]


async def test_a_plus_that_was_not_encoded_is_still_a_time_zone(shared_api: Running) -> None:
    created = await shared_api.create(name="plus", tags=["plus"])
    at = datetime.fromisoformat(created["created_at"]) - timedelta(hours=1)
    since = at.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    assert (await shared_api.http.get(f"{LIST}?tag=plus&since={since}")).json()["items"]
    assert await listed(shared_api, tag="plus", since=since) == ["plus"]


@pytest.mark.parametrize(
    "q",
    [
        "%", "'", '"', "\\", "a:*", "a & b | !(c)", "a <-> b", "-", "--drop", "😀", "\u202e", "\ufeff", "a" * 200,
        "x\0y", "%00", "{}", "$1 %s %(team)s", '" "', "-a -b -c", "or", "a or", "(" * 100, "İ", "ß", "\ud7ff",
    ],
)  # fmt: skip
async def test_no_search_breaks_anything(shared_api: Running, q: str) -> None:
    for sort in ("-created_at", "updated_at"):
        response = await shared_api.http.get(LIST, params={"q": q, "sort": sort})
        assert response.status_code in (200, 400), response.text
        if response.status_code == 400:
            assert list(fields_of(response)) == ["q"]


async def test_a_task_is_found_by_its_own_id_and_only_by_its_team(shared_api: Running) -> None:
    api = shared_api
    created = await api.create(activate=True)
    path = f"/api/tasks/{created['tasks'][0]['id']}"
    (whole,) = (await api.http.get(f"{LIST}/{created['id']}/tasks")).json()["items"]
    assert (await api.http.get(path)).json() == whole
    for nowhere in ("/api/tasks/00000000-0000-4000-8000-000000000000", "/api/tasks/x", "/api/tasks/%00", path.upper()):
        response = await api.http.get(nowhere)
        assert (response.status_code, response.json()["error"]["code"]) in ((404, "TASK_NOT_FOUND"), (404, "NOT_FOUND"))
    assert await api.parts.reader.find_task("blue", created["tasks"][0]["id"]) is None


async def test_a_list_waits_for_what_was_written(shared_api: Running) -> None:
    for number in range(10):
        await shared_api.create(name=f"w{number}", tags=["written"])
        assert (await listed(shared_api, tag="written"))[0] == f"w{number}"


@pytest.mark.asyncio(loop_scope="function")
async def test_new_tasks_and_agents_are_found_although_nobody_projects(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, run_projector=False, visible_seconds=0.05) as api:
        created = await api.create(activate=True)
        (task,) = created["tasks"]
        path = f"/api/tasks/{task['id']}"
        found: list[ShownAgent] = []

        async def folded() -> bool:
            """As soon as this process has heard of it; before that it says that it cannot tell."""
            response = await api.http.get(path)
            assert response.status_code in (200, 503), response.text
            return response.status_code == 200 and bool(response.json()["attempts"])

        async def agent_found() -> bool:
            try:
                shown = await api.parts.reader.find_agent("default", agent_id)
            except ApiError:
                return False
            found.extend([shown] if shown else [])
            return shown is not None

        await eventually(folded)
        await api.dispatcher.decide(created["id"], start(task["id"]))
        agent_id = start(task["id"]).agent_id
        await eventually(agent_found)
        assert (found[0].task_id, found[0].agent["attempt_number"]) == (task["id"], 1)
        assert await api.parts.reader.find_agent("blue", agent_id) is None
        assert await api.parts.reader.find_task("blue", task["id"]) is None
        # Of what nobody heard of it cannot be told whether it is there.
        unknown = await api.http.get("/api/tasks/00000000-0000-4000-8000-000000000000")
        assert unknown.status_code == 503

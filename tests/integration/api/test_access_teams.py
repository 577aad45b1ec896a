"""What belongs to another team is not found, on every route. Finds the routes by itself."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, cast

import httpx
import psycopg
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from services.api.app import make_app
from services.api.parts import Parts
from services.api.permissions import Access, accesses
from shared.domain import commands as cmd
from shared.domain.events import AgentStatus
from tests.integration.api.holders import holding, make_key
from tests.integration.api.system import Running, order
from tests.support.eventually import eventually

CLOSED = [access for access in accesses(make_app(cast(Parts, None))) if not access.is_public]
WITH_IDS = [access for access in CLOSED if "{" in access.path]
LISTS = [access for access in CLOSED if "{" not in access.path and access.method == "GET"]


@dataclass(frozen=True)
class Work:
    """All that a team has: one of each kind of thing, under the names that routes have for their ids."""

    ids: dict[str, str]

    def address(self, access: Access) -> str:
        """The route with these ids. A KeyError means a new kind of id: make one of it in `work_of`."""
        path = re.sub(r"\{(\w+)\}", lambda match: self.ids[match[1]], access.path)
        return f"{path}?path=report.md" if path.endswith("/artifacts/link") else path


NOTHING = Work(
    {
        "orchestration_id": "0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11",
        "task_id": "1b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11",
        "agent_id": "bc-2b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11",
        "key_id": "zzzzzzzz",
        "delivery_id": "delivery-2",
    }
)
"""What nobody has."""


def without_request_id(text: str) -> str:
    return re.sub(r'"requestId":"[^"]*"', "", text)


async def work_of(api: Running, client: httpx.AsyncClient, team: str, key_id: str) -> Work:
    """An orchestration with a task that an agent works on."""
    response = await client.post("/api/orchestrations", json=order(activate=True))
    assert response.status_code == 201, response.text
    created = response.json()
    orchestration, task = created["id"], created["tasks"][0]["id"]
    attempt = created["tasks"][0]["attempts"][0]["id"]
    agent = f"bc-{attempt}"
    start = cmd.StartAttempt(attempt_id=attempt, agent_id=agent, api_version="v1", branch_name="b")
    runs = cmd.RecordAgent(
        attempt_id=attempt, agent_id=agent, status=AgentStatus.RUNNING, provider_status="RUNNING", run_id="run-1"
    )
    for command in (start, runs):
        await api.dispatcher.decide(orchestration, command, team)

    async def shown() -> bool:
        tasks = (await client.get(f"/api/orchestrations/{orchestration}/tasks")).json()["items"]
        listed = (await client.get("/api/orchestrations")).json()["items"]
        return tasks[0]["cloud_agent_status"] == "RUNNING" and len(listed) == 1

    await eventually(shown, timeout=30)
    delivery = await asyncio.to_thread(add_delivery, api, team, orchestration)
    ids = {"orchestration_id": orchestration, "task_id": task, "agent_id": agent}
    return Work({**ids, "key_id": key_id, "delivery_id": delivery})


def add_delivery(api: Running, team: str, orchestration: str) -> str:
    """What the notifier writes of a notification that nobody took."""
    with psycopg.connect(api.parts.settings.database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO webhook_deliveries (team_id, id, orchestration_id, channel, event, host, status, occurred_at,"
            " updated_at, message) VALUES (%s, 'delivery-1', %s, 'webhook', 'e', 'h', 'FAILED', now(), now(), '{}')",
            (team, orchestration),
        )
    return "delivery-1"


async def bodies(api: Running) -> dict[tuple[str, str], Any]:
    """For each method and path a body that is right, as the document shows it."""
    document = (await api.http.get("/openapi.json")).json()
    found = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [example["value"] for example in content.get("examples", {}).values()]
            found[method.upper(), path] = content.get("example", examples[0] if examples else {})
    return found


async def status_of(api: Running, client: httpx.AsyncClient, access: Access, path: str, body: Any) -> tuple[int, str]:
    """The status and the body; of an answer that was not refused only the status, for it may never end."""
    if access.method == "WS":
        try:
            address = api.url.replace("http", "ws") + path
            headers = {"X-API-Key": client.headers["X-API-Key"]}
            async with connect(address, additional_headers=headers, proxy=None, open_timeout=60):
                return 101, ""
        except InvalidStatus as refused:
            return refused.response.status_code, bytes(refused.response.body or b"").decode()
    sent = {"json": body} if access.method in ("POST", "PATCH") else {}
    async with client.stream(access.method, path, **cast(Any, sent)) as response:
        if response.status_code >= 400:
            await response.aread()
        return response.status_code, response.text if response.status_code >= 400 else ""


async def test_what_another_team_has_is_not_found_on_any_route_and_stays_as_it_is(api: Running) -> None:
    mine, theirs = await make_key(api, "a"), await make_key(api, "b")
    right_bodies = await bodies(api)
    async with holding(api, mine["key"]) as me, holding(api, theirs["key"]) as them:
        work = await work_of(api, them, "b", theirs["id"])
        kept = await snapshot(them, work)
        for access in WITH_IDS:
            path, body = work.address(access), right_bodies.get((access.method, access.path), {})
            # The operator, too, sees its own team only, unless it names another where that is offered.
            for client in (me, api.http):
                status, text = await status_of(api, client, access, path, body)
                assert status == 404, f"{access.method} {access.path}: {status} {text}"
                nowhere = await status_of(api, client, access, NOTHING.address(access), body)
                assert without_request_id(text) == without_request_id(nowhere[1]), "an answer tells it apart"
        assert await snapshot(them, work) == kept
        for access in WITH_IDS:
            if access.method in ("GET", "WS"):
                status, text = await status_of(api, them, access, work.address(access), None)
                assert status != 404, f"{access.method} {access.path} does not show what is there: {text}"


async def test_no_list_shows_what_another_team_has(api: Running) -> None:
    mine, theirs = await make_key(api, "a"), await make_key(api, "b")
    async with holding(api, mine["key"]) as me, holding(api, theirs["key"]) as them:
        work = await work_of(api, them, "b", theirs["id"])
        shown = ""
        for access in LISTS:
            for client in (me, api.http):
                answer = (await client.get(access.path)).text
                assert not [name for name, value in work.ids.items() if value in answer], access.path
            shown += (await them.get(access.path)).text
        assert work.ids["orchestration_id"] in shown
        assert work.ids["key_id"] in shown


async def snapshot(client: httpx.AsyncClient, work: Work) -> list[Any]:
    """What would be different if anything had been done to it."""
    detail = (await client.get(f"/api/orchestrations/{work.ids['orchestration_id']}")).json()
    keys = (await client.get("/api/keys")).json()["items"]
    delivery = (await client.get(f"/api/webhook-deliveries/{work.ids['delivery_id']}")).json()
    return [detail["orchestration"], detail["tasks"], [key["revoked_at"] for key in keys], delivery]

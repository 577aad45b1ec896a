"""How much may be asked for, and how many agents there may be."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.simulator.limits import LimitValues
from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import FOREVER, create_v0, create_v1, in_process, json_of, refusal, v0_body, v1_body

LIMITED: list[tuple[str, list[tuple[str, str]]]] = [
    ("create_per_minute", [("POST", "/v0/agents"), ("POST", "/v1/agents")]),
    ("list_per_minute", [("GET", "/v0/agents"), ("GET", "/v1/agents")]),
    ("get_per_minute", [("GET", "/v0/me"), ("GET", "/v1/models")]),
    ("repositories_per_minute", [("GET", "/v0/repositories"), ("GET", "/v1/repositories")]),
]


@pytest.mark.parametrize(("name", "calls"), LIMITED)
async def test_calls_beyond_the_limit_are_refused_until_the_first_is_a_minute_old(
    name: str, calls: list[tuple[str, str]]
) -> None:
    clock = HandClock()
    async with in_process(clock, **{"repositories_per_minute": 0, name: 2}) as client:
        for seconds, call in zip((0, 20), calls, strict=True):
            await clock.move(seconds)
            assert (await _call(client, *call)).is_success
        for call in calls:
            limited = await _call(client, *call)
            refusal(limited, 429, "rate_limit_exceeded")
            assert limited.headers["retry-after"] == limited.headers["x-ratelimit-reset"] == "40"
            assert limited.headers["x-ratelimit-limit"] == "2"
            assert limited.headers["x-ratelimit-remaining"] == "0"
        await clock.move(40)
        assert (await _call(client, *calls[0])).is_success
        assert (await _call(client, *calls[0])).status_code == 429


async def test_the_list_of_repositories_is_limited_to_one_a_minute_and_thirty_an_hour_from_the_start() -> None:
    clock = HandClock()
    async with in_process(clock) as client:
        for _ in range(30):
            assert (await client.get("/v1/repositories")).is_success
            assert (await client.get("/v1/repositories")).status_code == 429
            await clock.move(60)
        limited = await client.get("/v1/repositories")
        refusal(limited, 429, "rate_limit_exceeded")
        assert limited.headers["x-ratelimit-limit"] == "30"
        assert limited.headers["retry-after"] == "1800"


async def test_further_prompts_share_the_limit_of_creates_and_other_calls_have_none() -> None:
    async with in_process(create_per_minute=2) as client:
        created = await create_v0(client, FOREVER)
        more = {"prompt": {"text": "More"}}
        path = f"/v0/agents/{created['id']}"
        json_of(await client.post(f"{path}/followup", json=more))
        refusal(await client.post(f"{path}/followup", json=more), 429, "rate_limit_exceeded")
        refusal(await client.post(f"{path.replace('v0', 'v1')}/runs", json=more), 429, "rate_limit_exceeded")
        json_of(await client.post(f"{path}/stop"))
        json_of(await client.delete(path))


async def test_no_more_agents_than_allowed_until_one_is_archived_or_deleted_however_long_it_is_done() -> None:
    clock = HandClock()
    async with in_process(clock, concurrent_agents=2) as client:
        first, second = await create_v1(client, "One"), await create_v0(client, "Two")
        await clock.move(1000)
        refused = await client.post("/v1/agents", json=v1_body())
        assert "2 concurrent agents" in refusal(refused, 429, "rate_limit_exceeded")
        await client.post(f"/v1/agents/{first['agent']['id']}/archive")
        await create_v1(client, "Three")
        refusal(await client.post("/v0/agents", json=v0_body()), 429, "rate_limit_exceeded")
        await client.delete(f"/v0/agents/{second['id']}")
        await create_v0(client, "Four")


async def test_limits_are_told_and_changed_while_it_runs() -> None:
    async with in_process(get_per_minute=100) as client:
        start = json_of(await client.get("/_sim/limits"))
        assert start == {
            "create_per_minute": 0,
            "get_per_minute": 100,
            "list_per_minute": 0,
            "repositories_per_minute": 1,
            "repositories_per_hour": 30,
            "concurrent_agents": 0,
        }
        changed = json_of(await client.patch("/_sim/limits", json={"create_per_minute": 1}))
        assert changed == {**start, "create_per_minute": 1}
        await create_v1(client)
        assert (await client.post("/v1/agents", json=v1_body())).status_code == 429
        await client.post("/_sim/reset")
        await create_v1(client)
        assert json_of(await client.put("/_sim/limits", json={"list_per_minute": 5})) == {**start, "list_per_minute": 5}
        wrong: list[tuple[Any, str]] = [({"get_per_second": 1}, "get_per_second:"), ({"get_per_minute": -1}, "get_per")]
        for body, named in wrong:
            message = refusal(await client.patch("/_sim/limits", json=body), 400, "validation_error")
            assert named in message


def test_every_limit_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    section = page[page.index("## Limits") : page.index("## What it saw")]
    assert set(LimitValues.model_fields) == set(re.findall(r"`([a-z_]+_(?:minute|hour|agents))`", section))


async def _call(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    body = (v0_body() if "v0" in path else v1_body()) if method == "POST" else None
    return await client.request(method, path, json=body)

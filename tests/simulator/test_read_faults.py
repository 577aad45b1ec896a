"""What can go wrong with a question, by switch and by a marker of the agent that it is about."""

import asyncio
import json

import httpx
import pytest

from tests.simulator.serving import BY, FOREVER, create_v0, create_v1, faults, json_of, refusal, run_path, struck


async def _paths(client: httpx.AsyncClient, fault: str, by_marker: bool, value: str = "") -> list[str]:
    """What to ask for, with the fault on that is to strike."""
    created = await create_v1(client, f"Task {FOREVER} {f'[[sim:{fault}{value}]]' if by_marker else ''}")
    if not by_marker:
        await faults(client, **{fault: float(value[1:]) if value else True})
    agent = f"/v1/agents/{created['agent']['id']}"
    paths = [agent, run_path(created), f"{agent}/usage", agent.replace("v1", "v0")]
    return paths if by_marker else [*paths, "/v0/agents", "/v1/agents", "/v1/models", "/v0/me"]


@BY
async def test_a_read_can_be_answered_503(client: httpx.AsyncClient, by_marker: bool) -> None:
    for path in await _paths(client, "read_error", by_marker):
        refusal(await client.get(path), 503, "upstream_error")


async def test_a_stream_is_struck_like_any_read_before_it_begins_but_never_truncated(client: httpx.AsyncClient) -> None:
    path = f"{run_path(await create_v1(client))}/stream"
    await faults(client, read_error={"count": 1}, read_truncated=True)
    refusal(await client.get(path), 503, "upstream_error")
    assert (await client.get(path)).text.endswith("event: done\ndata: {}\n\n")


@BY
async def test_a_read_can_end_in_a_reset_connection(client: httpx.AsyncClient, by_marker: bool) -> None:
    paths = await _paths(client, "read_reset", by_marker)
    for path in paths:
        with pytest.raises(httpx.ReadError):
            await client.get(path)
    assert (await struck(client))["read_reset"] == len(paths)


@BY
async def test_a_read_can_be_answered_with_half_its_json(client: httpx.AsyncClient, by_marker: bool) -> None:
    for path in await _paths(client, "read_truncated", by_marker):
        with pytest.raises(json.JSONDecodeError):
            (await client.get(path)).raise_for_status().json()


@BY
@pytest.mark.parametrize(("fault", "value"), [("read_hang", ""), ("read_slow", "=600")])
async def test_a_read_can_hang_or_take_long(client: httpx.AsyncClient, by_marker: bool, fault: str, value: str) -> None:
    for path in (await _paths(client, fault, by_marker, value))[:2]:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(path, timeout=httpx.Timeout(30, read=0.05))


@BY
async def test_answers_can_have_unknown_fields_in_every_object(client: httpx.AsyncClient, by_marker: bool) -> None:
    for path in await _paths(client, "extra_fields", by_marker):
        answer = json_of(await client.get(path))
        assert answer.pop("x_simulated")
        assert all("x_simulated" in value for value in answer.values() if isinstance(value, dict))
    created = await create_v1(client, f"More {'[[sim:extra_fields]]' if by_marker else ''}")
    assert created["agent"]["x_simulated"] == created["run"]["x_simulated"]


@BY
async def test_refusals_come_in_every_shape_that_has_been_seen(client: httpx.AsyncClient, by_marker: bool) -> None:
    for fault in ("errors_as_text", "errors_flat", "errors_not_json"):
        await client.delete("/_sim/faults")
        created = await create_v0(client, f"{fault} {FOREVER} {f'[[sim:{fault}]]' if by_marker else ''}")
        if not by_marker:
            await faults(client, **{fault: True})
        await client.post(f"/v0/agents/{created['id']}/stop")
        refused = await client.post(f"/v0/agents/{created['id']}/stop")
        assert refused.status_code == 409
        if fault == "errors_as_text":
            assert refused.json() == {"error": "Agent is not running"}
        elif fault == "errors_flat":
            assert refused.json() == {"error": "Conflict", "message": "Agent is not running"}
        else:
            assert refused.headers["content-type"].startswith("text/html")
            assert "409 Conflict" in refused.text


@BY
async def test_any_call_can_be_throttled_with_and_without_the_headers(
    client: httpx.AsyncClient, by_marker: bool
) -> None:
    for path in await _paths(client, "rate_limited", False, "=7") if not by_marker else []:
        limited = await client.get(path)
        refusal(limited, 429, "rate_limit_exceeded")
        assert limited.headers["retry-after"] == limited.headers["x-ratelimit-reset"] == "7"
        assert limited.headers["x-ratelimit-remaining"] == "0"
        assert int(limited.headers["x-ratelimit-limit"]) > 0
    await client.delete("/_sim/faults")
    text = "Throttled [[sim:rate_limited_bare]]" if by_marker else "Throttled"
    if not by_marker:
        await faults(client, rate_limited_bare=True)
    bare = await client.post("/v1/agents", json={"prompt": {"text": text}})
    refusal(bare, 429, "rate_limit_exceeded")
    assert not [name for name in bare.headers if name.startswith(("retry", "x-rate"))]


async def test_a_call_that_hangs_ends_with_its_client(client: httpx.AsyncClient) -> None:
    """Else a simulator would gather them, and not stop."""
    await faults(client, read_hang=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.get("/v1/me")
    await client.delete("/_sim/faults")
    json_of(await client.get("/v1/me"))

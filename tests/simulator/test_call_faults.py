"""What can go wrong with a call on its way in and out: the change that it asks for has happened, or has not."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest

from tests.simulator.serving import (
    BY,
    FOREVER,
    create_v0,
    create_v1,
    faults,
    hang_up_once,
    in_process,
    refusal,
    run_path,
    stats,
    struck,
    v0_body,
    v1_body,
)
from tests.support.eventually import eventually

Client = httpx.AsyncClient


@dataclass(frozen=True)
class Change:
    """A call that changes something: what is there before, the call itself, and whether it took effect."""

    kind: str
    prepare: Callable[[Client, str], Awaitable[Any]]
    call: Callable[[Client, Any], Coroutine[Any, Any, httpx.Response]]
    happened: Callable[[Client, Any], Awaitable[bool]]

    def with_markers(self, markers: str) -> str:
        """The prompt of the call, or of the agent that it is about."""
        return f"Task\n{markers}{FOREVER}"


async def _nothing(client: Client, text: str) -> str:
    return text


async def _made(client: Client, _: Any) -> bool:
    return bool((await stats(client))["creates"] == 1)


async def _at_work_v0(client: Client, text: str) -> str:
    agent_id: str = (await create_v0(client, text))["id"]
    return agent_id


async def _at_work_v1(client: Client, text: str) -> dict[str, Any]:
    return await create_v1(client, text)


async def _followed(client: Client, _: Any) -> bool:
    return bool((await stats(client))["follow_ups"] == 1)


async def _stopped(client: Client, _: Any) -> bool:
    return bool((await stats(client))["running"] == 0)


async def _deleted(client: Client, _: Any) -> bool:
    return bool((await stats(client))["deletes"] == 1)


async def _archived(client: Client, created: dict[str, Any]) -> bool:
    return bool((await client.get(f"/v1/agents/{created['agent']['id']}")).json()["status"] == "ARCHIVED")


async def _stopped_agent(client: Client, text: str) -> tuple[str, str]:
    created = await create_v0(client, FOREVER)
    await client.post(f"/v0/agents/{created['id']}/stop")
    return created["id"], text


def _v1(created: dict[str, Any], rest: str = "") -> str:
    return f"/v1/agents/{created['agent']['id']}{rest}"


def _prompt(text: str) -> dict[str, Any]:
    return {"prompt": {"text": text}}


CHANGES = {
    "v0 create": Change("create", _nothing, lambda c, text: c.post("/v0/agents", json=v0_body(text)), _made),
    "v1 create": Change("create", _nothing, lambda c, text: c.post("/v1/agents", json=v1_body(text)), _made),
    "v0 follow-up": Change(
        "follow_up",
        _stopped_agent,
        lambda c, it: c.post(f"/v0/agents/{it[0]}/followup", json=_prompt(it[1])),
        _followed,
    ),
    "v1 run": Change(
        "follow_up", _stopped_agent, lambda c, it: c.post(f"/v1/agents/{it[0]}/runs", json=_prompt(it[1])), _followed
    ),
    "v0 stop": Change("stop", _at_work_v0, lambda c, it: c.post(f"/v0/agents/{it}/stop"), _stopped),
    "v1 cancel": Change("stop", _at_work_v1, lambda c, it: c.post(f"{run_path(it)}/cancel"), _stopped),
    "v0 delete": Change("delete", _at_work_v0, lambda c, it: c.delete(f"/v0/agents/{it}"), _deleted),
    "v1 delete": Change("delete", _at_work_v1, lambda c, it: c.delete(_v1(it)), _deleted),
    "v1 archive": Change("archive", _at_work_v1, lambda c, it: c.post(_v1(it, "/archive")), _archived),
}
ALL = pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))


@ALL
@BY
async def test_a_connection_is_reset_before_or_after_the_call_took_effect(
    client: Client, change: Change, by_marker: bool
) -> None:
    for when in ("before", "after"):
        async with _struck_by(client, change, f"{change.kind}_reset_{when}", by_marker) as it:
            with pytest.raises(httpx.ReadError):
                await change.call(client, it)
            await _holds(client, change, it, when == "after")


@ALL
@BY
async def test_a_call_is_answered_500_before_or_after_it_took_effect(
    client: Client, change: Change, by_marker: bool
) -> None:
    for when in ("before", "after"):
        async with _struck_by(client, change, f"{change.kind}_error_{when}", by_marker) as it:
            refusal(await change.call(client, it), 500, "internal_error")
            await _holds(client, change, it, when == "after")


@ALL
@BY
async def test_a_call_that_is_cut_short_hangs_or_is_slow_has_taken_effect(
    client: Client, change: Change, by_marker: bool
) -> None:
    async with _struck_by(client, change, f"{change.kind}_truncated", by_marker) as it:
        answer = await change.call(client, it)
        assert answer.is_success
        with pytest.raises(json.JSONDecodeError):
            answer.json()
        await _holds(client, change, it, True)
    for fault, value in ((f"{change.kind}_hang", ""), (f"{change.kind}_slow", "=600")):
        async with _struck_by(client, change, fault, by_marker, value) as it:
            await hang_up_once(partial(change.happened, client, it), change.call(client, it))
            await _holds(client, change, it, True)


@asynccontextmanager
async def _struck_by(
    client: Client, change: Change, fault: str, by_marker: bool, value: str = ""
) -> AsyncIterator[Any]:
    """What the call is about, with the fault on that is to strike it, once."""
    await client.post("/_sim/reset")
    await client.delete("/_sim/faults")
    it = await change.prepare(client, change.with_markers(f"[[sim:{fault}{value}]]" if by_marker else ""))
    if not by_marker:
        await faults(client, **{fault: float(value[1:]) if value else True})
    yield it
    assert (await struck(client))[fault] == 1


async def test_a_client_in_the_same_process_sees_a_reset_as_the_error_that_a_network_would_bring() -> None:
    async with in_process(faults={"create_reset_after": True}) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/agents", json=v1_body())
        assert (await stats(client))["creates"] == 1


async def test_a_slow_call_is_answered_when_its_time_has_passed() -> None:
    async with in_process(speed=1000, faults={"create_slow": 60}) as client:
        assert (await create_v1(client))["run"]["status"] == "CREATING"
        assert await struck(client) == {"create_slow": 1}


async def _holds(client: Client, change: Change, it: Any, happened: bool) -> None:
    """A v1 cancel takes a moment, and may be about to happen; everything else is settled at once."""
    if happened:
        assert await eventually(lambda: change.happened(client, it))
    else:
        assert not await change.happened(client, it)

"""One agent, put into a state by hand."""

from typing import Any

import pytest

from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import FOREVER, create_v1, in_process, json_of, refusal, run_path, stats

AGENT = "bc-00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize("status", ["FINISHED", "ERROR", "EXPIRED", "CANCELLED"])
async def test_an_agent_at_work_is_ended_now(status: str) -> None:
    clock = HandClock()
    async with in_process(clock) as client:
        created = await create_v1(client, FOREVER, agentId=AGENT)
        await clock.move(100)
        assert json_of(await client.post(f"/_sim/agents/{AGENT}", json={"status": status})) == {"id": AGENT}
        run = json_of(await client.get(run_path(created)))
        assert run["status"] == status
        assert ("git" in run) == (status == "FINISHED")
        again = await client.post(f"/_sim/agents/{AGENT}", json={"status": "FINISHED"})
        refusal(again, 400, "validation_error")
        await clock.move(1000)
        assert json_of(await client.get(run_path(created))) == run
        assert (await stats(client))["running"] == 0


async def test_an_agent_that_is_creating_for_ever_is_set_to_work() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=10) as client:
        created = await create_v1(client, "[[sim:creating_forever]]", agentId=AGENT)
        json_of(await client.post(f"/_sim/agents/{AGENT}", json={"status": "RUNNING"}))
        assert json_of(await client.get(run_path(created)))["status"] == "RUNNING"
        await clock.move(10)
        assert json_of(await client.get(run_path(created)))["status"] == "FINISHED"


async def test_an_agent_shows_a_word_that_nobody_knows() -> None:
    async with in_process(HandClock()) as client:
        created = await create_v1(client, FOREVER, agentId=AGENT)
        json_of(await client.post(f"/_sim/agents/{AGENT}", json={"status": "PONDERING"}))
        assert json_of(await client.get(run_path(created)))["status"] == "PONDERING"


async def test_an_agent_vanishes_now() -> None:
    async with in_process() as client:
        await create_v1(client, FOREVER, agentId=AGENT)
        json_of(await client.post(f"/_sim/agents/{AGENT}", json={"vanish": True}))
        refusal(await client.get(f"/v1/agents/{AGENT}"), 404, "agent_not_found")
        refusal(await client.post(f"/_sim/agents/{AGENT}", json={"vanish": True}), 404, "agent_not_found")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"state": "FINISHED"}, "state:"),
        ({"status": None}, "status:"),
        ({"status": "FINISHED", "vanish": True}, "either status, or vanish"),
        ({}, "either status, or vanish"),
        ({"status": "CREATING"}, "status:"),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused_by_name(body: Any, named: str) -> None:
    async with in_process() as client:
        await create_v1(client, FOREVER, agentId=AGENT)
        answer = await client.post(f"/_sim/agents/{AGENT}", json=body)
        assert named in refusal(answer, 400, "validation_error")

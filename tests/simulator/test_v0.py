"""The older version: one state per agent."""

import httpx

from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import (
    FOREVER,
    REPOSITORY,
    agent_when,
    create_v0,
    hang_up_once,
    in_process,
    json_of,
    refusal,
    simulator,
)


async def test_an_agent_runs_from_creating_to_finished_with_branch_pull_request_and_summary() -> None:
    async with simulator() as client:
        created = await create_v0(client, "# Add a README\nand more", target={"autoCreatePr": True})
        assert created["status"] == "CREATING"
        assert created["name"] == "Add a README"
        assert created["source"] == {"repository": REPOSITORY, "ref": "main"}
        assert "summary" not in created
        assert "prUrl" not in created["target"]

        finished = await agent_when(client, created["id"], "FINISHED")
        assert finished["target"]["branchName"].startswith("cursor/add-a-readme-")
        assert finished["target"]["prUrl"].startswith(f"{REPOSITORY}/pull/")
        assert "Add a README" in finished["summary"]


async def test_an_agent_is_seen_running_between_creating_and_the_end() -> None:
    clock = HandClock()
    async with in_process(clock) as client:
        agent_id = (await create_v0(client, "Long [[sim:slow=3]]"))["id"]
        await clock.move(1)
        assert "summary" not in await agent_when(client, agent_id, "RUNNING")
        await clock.move(2)
        await agent_when(client, agent_id, "FINISHED")


async def test_the_callers_branch_name_is_there_from_the_start_and_stays() -> None:
    async with simulator() as client:
        created = await create_v0(client, target={"branchName": "orchestrator/task-1"})
        assert created["target"]["branchName"] == "orchestrator/task-1"
        finished = await agent_when(client, created["id"], "FINISHED")
        assert finished["target"]["branchName"] == "orchestrator/task-1"


async def test_no_pull_request_is_opened_unless_asked_for() -> None:
    async with simulator() as client:
        created = await create_v0(client)
        assert "prUrl" not in (await agent_when(client, created["id"], "FINISHED"))["target"]


async def test_a_stop_ends_an_agent_at_once_and_a_second_one_is_refused() -> None:
    async with simulator() as client:
        agent_id = (await create_v0(client, FOREVER))["id"]
        assert json_of(await client.post(f"/v0/agents/{agent_id}/stop")) == {"id": agent_id}
        stopped = json_of(await client.get(f"/v0/agents/{agent_id}"))
        assert stopped["status"] == "STOPPED"
        refusal(await client.post(f"/v0/agents/{agent_id}/stop"), 409, "run_not_cancellable")


async def test_a_follow_up_starts_a_finished_and_a_stopped_agent_again() -> None:
    async with simulator() as client:
        agent_id = (await create_v0(client))["id"]
        await agent_when(client, agent_id, "FINISHED")
        await _follow_up(client, agent_id, f"And more {FOREVER}")
        await agent_when(client, agent_id, "RUNNING")
        await client.post(f"/v0/agents/{agent_id}/stop")
        await _follow_up(client, agent_id, "Go on [[sim:slow=0]]")
        assert "Go on" in (await agent_when(client, agent_id, "FINISHED"))["summary"]


async def test_after_a_follow_up_the_end_before_is_shown_for_a_moment_and_no_webhook_repeats_it() -> None:
    clock = HandClock()
    async with in_process(clock, follow_up_lag_seconds=1) as client:
        agent_id = (await create_v0(client))["id"]
        await clock.move(10)
        finished = await agent_when(client, agent_id, "FINISHED")
        await _follow_up(client, agent_id, FOREVER)
        await clock.move(0.9)
        assert json_of(await client.get(f"/v0/agents/{agent_id}")) == finished
        [listed] = json_of(await client.get("/v0/agents"))["agents"]
        assert listed["status"] == "FINISHED"
        await clock.move(0.1)
        assert "summary" not in await agent_when(client, agent_id, "RUNNING")


async def test_a_follow_up_takes_effect_although_the_caller_hangs_up() -> None:
    async with simulator(follow_up_seconds=30) as client:
        agent_id = (await create_v0(client))["id"]
        await agent_when(client, agent_id, "FINISHED")

        async def began() -> bool:
            return bool(json_of(await client.get(f"/v0/agents/{agent_id}"))["status"] != "FINISHED")

        call = client.post(f"/v0/agents/{agent_id}/followup", json={"prompt": {"text": FOREVER}})
        await hang_up_once(began, call)
        await agent_when(client, agent_id, "RUNNING")


async def test_a_follow_up_to_an_agent_at_work_joins_its_conversation() -> None:
    async with simulator() as client:
        agent_id = (await create_v0(client, FOREVER))["id"]
        await _follow_up(client, agent_id, "And tests")
        conversation = json_of(await client.get(f"/v0/agents/{agent_id}/conversation"))
        assert [message["text"] for message in conversation["messages"]] == [FOREVER, "And tests"]


async def test_the_conversation_holds_what_both_sides_said_in_order() -> None:
    async with simulator() as client:
        agent_id = (await create_v0(client, "Add a README"))["id"]
        finished = await agent_when(client, agent_id, "FINISHED")
        messages = json_of(await client.get(f"/v0/agents/{agent_id}/conversation"))["messages"]
        assert [(message["type"], message["text"]) for message in messages] == [
            ("user_message", "Add a README"),
            ("assistant_message", finished["summary"]),
        ]
        assert len({message["id"] for message in messages}) == 2


async def test_a_deleted_agent_is_not_found_any_more() -> None:
    async with simulator() as client:
        agent_id = (await create_v0(client, FOREVER))["id"]
        assert json_of(await client.delete(f"/v0/agents/{agent_id}")) == {"id": agent_id}
        for path in (f"/v0/agents/{agent_id}", f"/v0/agents/{agent_id}/conversation"):
            refusal(await client.get(path), 404, "agent_not_found")
        refusal(await client.delete(f"/v0/agents/{agent_id}"), 404, "agent_not_found")


async def test_pages_list_agents_newest_first_without_gap_or_repeat() -> None:
    async with simulator() as client:
        ids = [(await create_v0(client, f"Task {number}"))["id"] for number in range(5)]
        await client.delete(f"/v0/agents/{ids[1]}")
        first = json_of(await client.get("/v0/agents?limit=2"))
        # What is made or goes away between two pages must not move the second one.
        await create_v0(client, "Later")
        await client.delete(f"/v0/agents/{ids[3]}")
        second = json_of(await client.get("/v0/agents", params={"limit": 2, "cursor": first["nextCursor"]}))
        assert [agent["id"] for agent in first["agents"]] == [ids[4], ids[3]]
        assert [agent["id"] for agent in second["agents"]] == [ids[2], ids[0]]
        assert "nextCursor" not in second


async def test_the_pages_of_a_list_add_up_to_all_of_it() -> None:
    async with simulator(duration_seconds=0) as client:
        ids = [(await create_v0(client, f"Task {number}"))["id"] for number in range(5)]
        found: list[str] = []
        query: dict[str, str] = {"limit": "2"}
        while True:
            page = json_of(await client.get("/v0/agents", params=query))
            found += [agent["id"] for agent in page["agents"]]
            if "nextCursor" not in page:
                break
            query["cursor"] = page["nextCursor"]
        assert found == ids[::-1]


async def _follow_up(client: httpx.AsyncClient, agent_id: str, text: str) -> None:
    response = await client.post(f"/v0/agents/{agent_id}/followup", json={"prompt": {"text": text}})
    assert json_of(response) == {"id": agent_id}

"""The current version: a durable agent and its runs."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx

from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import (
    FOREVER,
    REPOSITORY,
    agent_when,
    create_v1,
    hang_up_once,
    in_process,
    json_of,
    refusal,
    run_path,
    run_when,
    simulator,
    stats,
    v1_body,
)

AGENT_ID = "bc-00000000-0000-4000-8000-000000000001"


async def test_a_create_answers_the_agent_and_its_first_run() -> None:
    async with simulator() as client:
        created = await create_v1(client, FOREVER, agentId=AGENT_ID, autoCreatePR=True)
        agent, run = created["agent"], created["run"]
        assert agent["id"] == run["agentId"] == AGENT_ID
        assert agent["latestRunId"] == run["id"]
        assert agent["status"] == "ACTIVE"
        assert agent["repos"] == [{"url": REPOSITORY, "startingRef": "main"}]
        assert agent["autoCreatePR"] is True
        assert run["status"] == "CREATING"
        assert {"git", "result", "durationMs"}.isdisjoint(run)
        assert json_of(await client.get(f"/v1/agents/{AGENT_ID}"))["id"] == AGENT_ID


async def test_the_same_agent_id_again_is_a_conflict_even_while_the_first_create_waits() -> None:
    async with simulator(create_seconds=0.3) as client:
        body = v1_body(agentId=AGENT_ID)
        answers = await asyncio.gather(*(client.post("/v1/agents", json=body) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
        refusal(await client.post("/v1/agents", json=body), 409, "agent_id_conflict")
        counted = await stats(client)
        assert (counted["creates"], counted["create_conflicts"]) == (1, 3)


async def test_a_create_takes_effect_although_the_caller_hangs_up() -> None:
    async with simulator(create_seconds=30) as client:

        async def made() -> bool:
            return (await client.get(f"/v1/agents/{AGENT_ID}")).is_success

        await hang_up_once(made, client.post("/v1/agents", json=v1_body(agentId=AGENT_ID)))
        assert json_of(await client.get(f"/v1/agents/{AGENT_ID}"))["status"] == "ACTIVE"


async def test_a_finished_run_has_result_duration_branch_and_pull_request() -> None:
    async with simulator() as client:
        created = await create_v1(client, autoCreatePR=True)
        run = await run_when(client, created, "FINISHED")
        assert "Add a README" in run["result"]
        assert run["durationMs"] >= 50
        [branch] = run["git"]["branches"]
        assert branch["repoUrl"] == "github.com/acme/widgets"
        assert branch["branch"].startswith("cursor/add-a-readme-")
        assert branch["prUrl"].startswith(f"{REPOSITORY}/pull/")
        assert json_of(await client.get(f"/v1/agents/{run['agentId']}"))["status"] == "IDLE"


async def test_without_auto_create_pr_there_is_a_branch_but_no_pull_request() -> None:
    async with simulator() as client:
        run = await run_when(client, await create_v1(client), "FINISHED")
        assert "prUrl" not in run["git"]["branches"][0]


async def test_an_agent_without_a_repository_pushes_nothing() -> None:
    async with simulator() as client:
        created = json_of(await client.post("/v1/agents", json={"prompt": {"text": "Think"}}), 201)
        assert "git" not in await run_when(client, created, "FINISHED")
        assert (await agent_when(client, created["agent"]["id"], "FINISHED"))["source"] == {}


async def test_a_run_on_the_current_branch_pushes_to_it() -> None:
    async with simulator() as client:
        repos = [{"url": REPOSITORY, "startingRef": "develop"}]
        run = await run_when(client, await create_v1(client, workOnCurrentBranch=True, repos=repos), "FINISHED")
        assert run["git"]["branches"][0]["branch"] == "develop"


async def test_a_repository_is_told_without_scheme_and_git_suffix() -> None:
    async with simulator() as client:
        created = await create_v1(client, autoCreatePR=True, repos=[{"url": f"{REPOSITORY}.git"}])
        [branch] = (await run_when(client, created, "FINISHED"))["git"]["branches"]
        assert branch["repoUrl"] == "github.com/acme/widgets"
        assert branch["prUrl"].startswith(f"{REPOSITORY}/pull/")


async def test_a_run_boots_for_a_tenth_of_its_time_but_a_second_at_most_and_is_updated_by_changes_alone() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=5) as client:
        short, long = await create_v1(client), await create_v1(client, "Long [[sim:slow=100]]")
        for seconds, at in ((0.5, [500, 0]), (0.5, [500, 1000]), (3.9, [500, 1000]), (0.1, [5000, 1000])):
            await clock.move(seconds)
            runs = [json_of(await client.get(run_path(created))) for created in (short, long)]
            updated = [datetime.fromisoformat(run["updatedAt"]) for run in runs]
            created_at = datetime.fromisoformat(runs[0]["createdAt"])
            assert [(one - created_at) / timedelta(milliseconds=1) for one in updated] == at
        assert json_of(await client.get(run_path(long)))["status"] == "RUNNING"


async def test_an_agent_has_one_run_at_a_time_and_any_number_in_turn() -> None:
    async with simulator() as client:
        created = await create_v1(client, f"First {FOREVER}")
        agent_id = created["agent"]["id"]
        refusal(await _run(client, agent_id, "Second"), 409, "agent_busy")
        await client.post(f"{run_path(created)}/cancel")
        await run_when(client, created, "CANCELLED")

        second = json_of(await _run(client, agent_id, "Second [[sim:slow=0]]"), 201)
        await run_when(client, second, "FINISHED")
        listed = json_of(await client.get(f"/v1/agents/{agent_id}/runs"))["items"]
        assert [run["id"] for run in listed] == [second["run"]["id"], created["run"]["id"]]
        assert all("result" not in run for run in listed)


async def test_runs_are_listed_in_pages() -> None:
    async with simulator(duration_seconds=0) as client:
        created = await create_v1(client)
        await run_when(client, created, "FINISHED")
        again = json_of(await _run(client, created["agent"]["id"], "Again"), 201)
        path = f"/v1/agents/{created['agent']['id']}/runs"
        first = json_of(await client.get(path, params={"limit": 1}))
        last = json_of(await client.get(path, params={"limit": 1, "cursor": first["nextCursor"]}))
        assert [run["id"] for run in first["items"]] == [again["run"]["id"]]
        assert [run["id"] for run in last["items"]] == [created["run"]["id"]]
        assert "nextCursor" not in last
        refusal(await client.get(path, params={"cursor": "run-x"}), 400, "validation_error")


async def test_a_cancel_takes_effect_later_and_only_on_a_live_run() -> None:
    clock = HandClock()
    async with in_process(clock, cancel_seconds=2) as client:
        created = await create_v1(client, FOREVER)
        answer = json_of(await client.post(f"{run_path(created)}/cancel"))
        assert answer == {"id": created["run"]["id"]}
        await clock.move(1.9)
        assert json_of(await client.get(run_path(created)))["status"] == "RUNNING"
        await clock.move(0.1)
        cancelled = await run_when(client, created, "CANCELLED")
        assert {"git", "result"}.isdisjoint(cancelled)
        refusal(await client.post(f"{run_path(created)}/cancel"), 409, "run_not_cancellable")
        assert (await agent_when(client, created["agent"]["id"], "STOPPED"))["id"]


async def test_a_run_that_ends_before_its_cancel_takes_effect_stays_finished() -> None:
    clock = HandClock()
    async with in_process(clock, cancel_seconds=2) as client:
        created = await create_v1(client, "[[sim:slow=1]]")
        json_of(await client.post(f"{run_path(created)}/cancel"))
        await clock.move(1)
        await run_when(client, created, "FINISHED")
        second = json_of(await _run(client, created["agent"]["id"], FOREVER), 201)
        # The cancel of the first one, which must not hit it, comes before the end of its boot.
        await clock.move(2)
        await run_when(client, second, "RUNNING")
        assert json_of(await client.get(run_path(created)))["status"] == "FINISHED"


async def test_an_archived_agent_can_be_read_but_takes_no_run_until_unarchived() -> None:
    async with simulator() as client:
        created = await create_v1(client)
        await run_when(client, created, "FINISHED")
        path = f"/v1/agents/{created['agent']['id']}"
        assert json_of(await client.post(f"{path}/archive")) == {"id": created["agent"]["id"]}
        assert json_of(await client.get(path))["status"] == "ARCHIVED"
        refusal(await _run(client, created["agent"]["id"], "More"), 409, "agent_archived")
        shown = json_of(await client.get("/v1/agents", params={"includeArchived": "false"}))
        assert shown["items"] == []
        await client.post(f"{path}/unarchive")
        json_of(await _run(client, created["agent"]["id"], "More"), 201)


async def test_an_archived_agent_takes_no_prompt_on_either_version_though_it_is_at_work() -> None:
    async with simulator() as client:
        agent_id = (await create_v1(client, FOREVER))["agent"]["id"]
        await client.post(f"/v1/agents/{agent_id}/archive")
        refusal(await _run(client, agent_id, "More"), 409, "agent_archived")
        more = {"prompt": {"text": "More"}}
        refusal(await client.post(f"/v0/agents/{agent_id}/followup", json=more), 409, "agent_archived")


async def test_unknown_agents_and_runs_are_not_found() -> None:
    async with simulator() as client:
        created = await create_v1(client)
        refusal(await client.get(f"/v1/agents/{AGENT_ID}"), 404, "agent_not_found")
        refusal(await client.get(f"/v1/agents/{created['agent']['id']}/runs/run-1"), 404, "run_not_found")
        usage = f"/v1/agents/{created['agent']['id']}/usage?runId=run-1"
        refusal(await client.get(usage), 404, "run_not_found")
        await client.delete(f"/v1/agents/{created['agent']['id']}")
        refusal(await client.get(run_path(created)), 404, "agent_not_found")


async def test_usage_is_zero_while_running_and_counted_with_its_cost_afterwards() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=10) as client:
        created = await create_v1(client)
        path = f"/v1/agents/{created['agent']['id']}/usage"
        await clock.move(9)
        before = json_of(await client.get(path))
        assert set(before["totalUsage"].values()) == {0}
        assert before["cost"] == {"rawCostCents": 0, "chargedCents": 0}
        assert "usageUuid" not in before["runs"][0]

        await clock.move(1)
        await run_when(client, created, "FINISHED")
        after = json_of(await client.get(path))
        tokens = dict(after["totalUsage"])
        assert tokens.pop("totalTokens") == sum(tokens.values()) > 0
        assert after["cost"]["chargedCents"] > after["cost"]["rawCostCents"] > 0
        [run] = after["runs"]
        assert run["usage"] == after["totalUsage"]
        assert run["id"] == created["run"]["id"]
        assert json_of(await client.get(path, params={"runId": run["id"]}))["runs"] == [run]


async def test_agents_are_listed_newest_first_and_found_by_their_pull_request() -> None:
    async with simulator() as client:
        made = [await create_v1(client, f"Task {number}", autoCreatePR=True) for number in range(3)]
        run = await run_when(client, made[1], "FINISHED")
        items = json_of(await client.get("/v1/agents"))["items"]
        assert [item["id"] for item in items] == [one["agent"]["id"] for one in reversed(made)]
        assert "repos" not in items[0]
        pr_url = run["git"]["branches"][0]["prUrl"]
        found = json_of(await client.get("/v1/agents", params={"prUrl": pr_url}))["items"]
        assert [item["id"] for item in found] == [made[1]["agent"]["id"]]


async def test_an_agent_of_v1_also_answers_on_v0() -> None:
    async with simulator() as client:
        created = await create_v1(client, "Add a README")
        agent = await agent_when(client, created["agent"]["id"], "FINISHED")
        run = json_of(await client.get(run_path(created)))
        assert agent["summary"] == run["result"]
        assert agent["target"]["branchName"] == run["git"]["branches"][0]["branch"]
        conversation = json_of(await client.get(f"/v0/agents/{agent['id']}/conversation"))
        assert [message["text"] for message in conversation["messages"]] == ["Add a README", run["result"]]


async def test_the_same_seed_and_request_give_the_same_content_and_another_seed_another() -> None:
    async def content(seed: int) -> list[Any]:
        async with simulator(seed=seed) as client:
            created = await create_v1(client, autoCreatePR=True)
            run = await run_when(client, created, "FINISHED")
            usage = json_of(await client.get(f"/v1/agents/{run['agentId']}/usage"))["totalUsage"]
            return [run["result"], run["git"], usage]

    first, again, other = await content(1), await content(1), await content(2)
    assert first == again
    assert first[1] != other[1]
    assert first[2] != other[2]


async def _run(client: httpx.AsyncClient, agent_id: str, text: str) -> httpx.Response:
    return await client.post(f"/v1/agents/{agent_id}/runs", json={"prompt": {"text": text}})

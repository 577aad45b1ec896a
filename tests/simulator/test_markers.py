"""Behaviour asked for in the prompt."""

from typing import Any

import httpx
import pytest

from deploy.local.simulator.errors import CODES
from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import (
    agent_when,
    create_v0,
    create_v1,
    in_process,
    json_of,
    refusal,
    run_ended,
    run_when,
    simulator,
    stats,
    v1_body,
)

OTHER_REPOSITORY = [{"url": "https://github.com/acme/gadgets"}]


async def test_fail_ends_in_error_without_result_branch_or_cause() -> None:
    async with simulator() as client:
        run = await run_when(client, await create_v1(client, "Break [[sim:fail]]"), "ERROR")
        assert {"result", "git", "error"}.isdisjoint(run)
        assert "summary" not in await agent_when(client, run["agentId"], "ERROR")


async def test_fail_with_a_number_fails_that_many_agents_of_one_task_and_then_succeeds() -> None:
    async with simulator(duration_seconds=0) as client:
        ends = []
        for attempt in range(4):
            text = f"Task: parser\nAttempt {attempt}, which the prompt tells.\n[[sim:fail=2]]"
            created = await create_v1(client, text)
            ends.append((await run_ended(client, created))["status"])
        assert ends == ["ERROR", "ERROR", "FINISHED", "FINISHED"]


async def test_failures_are_counted_by_first_line_and_repository() -> None:
    async with simulator(duration_seconds=0) as client:
        one = await create_v1(client, "Task: parser\n[[sim:fail=1]]")
        await run_when(client, one, "ERROR")
        await run_when(client, await create_v1(client, "Task: lexer\n[[sim:fail=1]]"), "ERROR")
        elsewhere = await create_v1(client, "Task: parser\n[[sim:fail=1]]", repos=OTHER_REPOSITORY)
        await run_when(client, elsewhere, "ERROR")
        await run_when(client, await create_v1(client, "Task: parser\n[[sim:fail=1]]"), "FINISHED")


async def test_the_first_marker_of_each_kind_counts() -> None:
    text = "Mine: [[sim:slow=0]] [[sim:nochange]]\nAnother task's: [[sim:slow=600]] [[sim:fail=9]] [[sim:fail]]"
    async with simulator(duration_seconds=600) as client:
        await run_when(client, await create_v1(client, text), "ERROR")
        await run_when(client, await create_v1(client, "[[sim:expire]] [[sim:fail]] [[sim:slow=0]]"), "EXPIRED")


async def test_slow_sets_the_run_time() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=600) as client:
        created = await create_v1(client, "Wait [[sim:slow=0.2]]")
        await clock.move(600)
        assert (await run_when(client, created, "FINISHED"))["durationMs"] == 200


async def test_expire_ends_in_expired() -> None:
    async with simulator() as client:
        created = await create_v0(client, "Too long [[sim:expire]]")
        assert "summary" not in await agent_when(client, created["id"], "EXPIRED")


async def test_nochange_finishes_with_a_summary_but_without_branch_and_pull_request() -> None:
    async with simulator() as client:
        created = await create_v0(client, "Look [[sim:nochange]]", target={"autoCreatePr": True, "branchName": "x"})
        finished = await agent_when(client, created["id"], "FINISHED")
        assert {"branchName", "prUrl"}.isdisjoint(finished["target"])
        assert "nothing had to be changed" in finished["summary"]
        run = await run_when(client, await create_v1(client, "Look [[sim:nochange]]"), "FINISHED")
        assert "git" not in run


@pytest.mark.parametrize("code", sorted(set(CODES) - {"unauthorized"}))
async def test_refuse_answers_the_create_with_the_code_and_its_status(
    shared_client: httpx.AsyncClient, code: str
) -> None:
    response = await shared_client.post("/v1/agents", json=v1_body(f"No [[sim:refuse={code}]]"))
    refusal(response, CODES[code][0], code)
    assert (await stats(shared_client))["creates"] == 0


async def test_refusals_carry_what_clients_need_to_act_on_them() -> None:
    async with simulator() as client:
        limited = await client.post("/v1/agents", json=v1_body("[[sim:refuse=rate_limit_exceeded]]"))
        assert limited.headers["retry-after"] == "1"
        unlinked = await client.post("/v1/agents", json=v1_body("[[sim:refuse=integration_not_connected]]"))
        assert unlinked.json()["error"]["provider"] == "github"
        usage = await client.post("/v1/agents", json=v1_body("[[sim:refuse=usage_limit_exceeded]]"))
        assert "Usage-based pricing required" in usage.json()["error"]["message"]
        wrong_key = await client.post("/v1/agents", json=v1_body("[[sim:refuse=unauthorized]]"))
        assert json_of(wrong_key, 401)["message"] == "Invalid User API Key"


@pytest.mark.parametrize(
    "marker",
    [
        "explode",
        "fail=two",
        "fail=",
        "fail=" + "9" * 5000,
        "slow",
        "slow=-1",
        "slow=nan",
        "expire=1",
        "refuse=nothing",
        "refuse",
    ],
)
async def test_a_marker_that_makes_no_sense_is_refused_by_name(shared_client: httpx.AsyncClient, marker: str) -> None:
    response = await shared_client.post("/v1/agents", json=v1_body(f"x [[sim:{marker}]]"))
    message = refusal(response, 400, "validation_error")
    assert f"[[sim:{marker.rstrip('=')}]]" in message


async def test_what_an_agent_says_and_names_is_free_of_markers() -> None:
    """Summaries end up in the prompts of later tasks, where a marker would act again."""
    async with simulator() as client:
        created = await create_v1(client, "Parser [[sim:slow=0]]\n[[sim:fail=0]]")
        run = await run_when(client, created, "FINISHED")
        assert created["agent"]["name"] == "Parser"
        assert 'Completed "Parser"' in run["result"]
        assert "sim" not in run["git"]["branches"][0]["branch"]


async def test_a_follow_up_without_markers_goes_on_where_a_stopped_run_was() -> None:
    """It ends as that run would have, after the time that was left."""
    clock = HandClock()
    async with in_process(clock) as client:
        created = await create_v1(client, "Break [[sim:slow=0.6]] [[sim:fail]]")
        await clock.move(0.2)
        await client.post(f"/v0/agents/{created['agent']['id']}/stop")
        stopped = await run_when(client, created, "CANCELLED")
        second = await _follow_up(client, created, "Go on")
        await clock.move(600)
        ended = await run_when(client, second, "ERROR")
        assert (stopped["durationMs"], ended["durationMs"]) == (200, 400)


async def test_a_follow_up_without_markers_after_an_end_is_an_ordinary_run() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=0.1) as client:
        created = await create_v1(client, "Break [[sim:fail]] [[sim:slow=0.2]]")
        await clock.move(600)
        await run_when(client, created, "ERROR")
        second = await _follow_up(client, created, "Try again")
        await clock.move(600)
        assert (await run_when(client, second, "FINISHED"))["durationMs"] == 100


async def test_the_markers_of_a_follow_up_govern_its_run() -> None:
    async with simulator() as client:
        created = await create_v1(client, "Wait [[sim:slow=600]]")
        await client.post(f"/v0/agents/{created['agent']['id']}/stop")
        failing = await _follow_up(client, created, "Now break [[sim:fail]]")
        await run_when(client, failing, "ERROR")
        path = f"/v1/agents/{created['agent']['id']}/runs"
        for marker, status in (("agent_archived", 409), ("internal_error", 500)):
            body = {"prompt": {"text": f"[[sim:refuse={marker}]]"}}
            refusal(await client.post(path, json=body), status, marker)


async def _follow_up(client: httpx.AsyncClient, created: dict[str, Any], text: str) -> dict[str, Any]:
    path = f"/v1/agents/{created['agent']['id']}/runs"
    return json_of(await client.post(path, json={"prompt": {"text": text}}), 201)

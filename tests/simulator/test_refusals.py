"""Refusals of new agents and further prompts: billing, models, access."""

from typing import Any

import httpx
import pytest

from deploy.local.simulator.errors import CODES
from tests.simulator.serving import (
    create_v0,
    create_v1,
    faults,
    in_process,
    json_of,
    refusal,
    run_when,
    struck,
    v0_body,
    v1_body,
)

STATUSES = {
    400: "validation_error missing_body invalid_model invalid_branch_name repository_required pr_resolution_failed "
    "usage_limit_exceeded invalid_last_event_id",
    401: "unauthorized",
    403: "plan_required role_forbidden feature_unavailable repository_access service_account_required "
    "integration_not_connected",
    404: "agent_not_found run_not_found artifact_not_found api_key_not_found",
    409: "agent_busy agent_archived agent_id_conflict run_not_cancellable",
    410: "stream_expired",
    429: "rate_limit_exceeded",
    500: "internal_error",
    501: "not_implemented",
    502: "upstream_error",
    503: "stream_unavailable",
}
REFUSED = {
    "usage_limit_exceeded": (400, "usage_limit_exceeded", "Usage-based pricing required"),
    "plan_required": (403, "plan_required", "plan"),
    "included_usage_spent": (429, "rate_limit_exceeded", "You've used all included Cloud Agent usage"),
    "branch_unverified": (400, "validation_error", "Failed to verify existence of branch"),
}


def test_every_code_has_its_status() -> None:
    assert {code: status for code, (status, _) in CODES.items()} == {
        code: status for status, codes in STATUSES.items() for code in codes.split()
    }


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("by_marker", [False, True])
async def test_creates_and_further_prompts_are_refused_on_both_versions(name: str, by_marker: bool) -> None:
    status, code, text = REFUSED[name]
    prompt = f"Task [[sim:{name}]]" if by_marker else "Task"
    async with in_process(duration_seconds=0) as client:
        created = await create_v1(client, "Before")
        await run_when(client, created, "FINISHED")
        await faults(client, **({} if by_marker else {name: True}))
        agent_id, more = created["agent"]["id"], {"prompt": {"text": prompt}}
        calls: list[tuple[str, Any]] = [
            ("/v0/agents", v0_body(prompt)),
            ("/v1/agents", v1_body(prompt)),
            (f"/v0/agents/{agent_id}/followup", more),
            (f"/v1/agents/{agent_id}/runs", more),
        ]
        for path, body in calls:
            answer = await client.post(path, json=body)
            assert text in refusal(answer, status, code)
            assert "retry-after" not in answer.headers
        assert await struck(client) == {name: 4}


@pytest.mark.parametrize(
    ("name", "code"), [("model_gone", "invalid_model"), ("model_gone_as_validation", "validation_error")]
)
@pytest.mark.parametrize("by_marker", [False, True])
async def test_a_model_can_be_gone_for_those_who_name_one(name: str, code: str, by_marker: bool) -> None:
    prompt = f"Task [[sim:{name}]]" if by_marker else "Task"
    async with in_process(faults={} if by_marker else {name: True}) as client:
        for path, body in (
            ("/v0/agents", v0_body(prompt, model="composer-2")),
            ("/v1/agents", v1_body(prompt, model={"id": "composer-2"})),
        ):
            assert "'composer-2'" in refusal(await client.post(path, json=body), 400, code)
        await create_v0(client, prompt, model="default")
        await create_v1(client, prompt)


async def test_any_refusal_of_the_api_can_be_switched_on() -> None:
    async with in_process(faults={"refuse": {"code": "integration_not_connected", "count": 1}}) as client:
        refused: httpx.Response = await client.post("/v1/agents", json=v1_body())
        refusal(refused, 403, "integration_not_connected")
        assert json_of(refused, 403)["error"]["helpUrl"]
        await create_v1(client)

"""Version 1: a create that is idempotent by our id, and the run whose status counts."""

from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import Account, AgentRequest, AgentSnapshot, AgentUsage, Model
from shared.domain.events import AgentStatus
from tests.unit.cursor.scripted import (
    AGENT_ID,
    REPOSITORY,
    REQUEST,
    RUN_ID,
    WITH_WEBHOOK,
    Script,
    answer,
    created,
    error,
    provider,
    raw,
    v1_agent,
    v1_run,
)

SINCE = datetime(2026, 11, 5, tzinfo=UTC)
POST = "POST /v1/agents"
GET_AGENT = f"GET /v1/agents/{AGENT_ID}"
GET_RUN = f"GET /v1/agents/{AGENT_ID}/runs/{RUN_ID}"
CONFLICT = (409, "agent_id_conflict")
PLAIN = {
    "prompt": {"text": REQUEST.prompt},
    "agentId": AGENT_ID,
    "name": "Add a README",
    "repos": [{"url": REPOSITORY, "startingRef": "main"}],
    "autoCreatePR": True,
}


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (REQUEST, PLAIN),
        (WITH_WEBHOOK, PLAIN),
        (replace(REQUEST, model="composer-2"), {**PLAIN, "model": {"id": "composer-2"}}),
        (replace(REQUEST, name="n" * 120), {**PLAIN, "name": "n" * 100}),
        (replace(REQUEST, name=" "), {key: value for key, value in PLAIN.items() if key != "name"}),
    ],
)
async def test_a_create_sends_what_is_known_and_nothing_else(request_: AgentRequest, body: dict[str, object]) -> None:
    script = Script(created("v1"))

    await provider("v1", script).create(request_)

    assert script.calls == [POST]
    assert script.body() == body


async def test_a_created_agent_is_shown_with_its_run() -> None:
    snapshot = await provider("v1", Script(created("v1"))).create(REQUEST)

    assert snapshot == AgentSnapshot(
        agent_id=AGENT_ID,
        status=AgentStatus.CREATING,
        provider_status="CREATING",
        run_id=RUN_ID,
        url=f"https://cursor.com/agents/{AGENT_ID}",
        created_at=datetime(2026, 11, 5, 10, 30, tzinfo=UTC),
    )


IN_OTHER_SHAPES = pytest.mark.parametrize(
    "refusal",
    [
        answer({"error": "An agent with this id exists already"}, 409),
        answer({"error": "Conflict", "message": "An agent with this id exists already"}, 409),
        raw(b"<html>409 Conflict</html>", 409),
    ],
    ids=["text", "flat", "page"],
)


@IN_OTHER_SHAPES
async def test_an_agent_that_exists_already_is_adopted_though_the_refusal_names_no_code(
    refusal: httpx.Response,
) -> None:
    script = Script(refusal, answer(v1_agent()), answer(v1_run()))

    assert (await provider("v1", script).create(REQUEST)).agent_id == AGENT_ID


@IN_OTHER_SHAPES
async def test_a_refusal_without_a_code_where_there_is_no_agent_is_one_for_good(refusal: httpx.Response) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider("v1", Script(refusal, error(404, "agent_not_found"))).create(REQUEST)

    assert (caught.value.status, caught.value.outcome_known, caught.value.retryable) == (409, True, False)


async def test_an_agent_that_exists_already_is_read_and_adopted() -> None:
    script = Script(error(*CONFLICT), answer(v1_agent(status="IDLE")), answer(v1_run(status="FINISHED")))

    snapshot = await provider("v1", script).create(REQUEST)

    assert script.calls == [POST, GET_AGENT, GET_RUN]
    assert (snapshot.agent_id, snapshot.run_id) == (AGENT_ID, RUN_ID)
    assert snapshot.status is AgentStatus.FINISHED


@pytest.mark.parametrize("repos", [[{"url": "https://github.com/acme/gadgets"}], []])
async def test_an_agent_for_another_repository_is_not_adopted(repos: object) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider("v1", Script(error(*CONFLICT), answer(v1_agent(repos=repos)))).create(REQUEST)

    assert (caught.value.code, caught.value.status) == CONFLICT[::-1]
    assert not caught.value.retryable
    assert caught.value.outcome_known


@pytest.mark.parametrize(
    "url",
    ["https://github.com/Acme/Widgets/", "github.com/acme/widgets", "https://github.com/acme/widgets.git"],
)
async def test_a_repository_is_the_same_however_it_is_written(url: str) -> None:
    script = Script(error(*CONFLICT), answer(v1_agent(repos=[{"url": url}])), answer(v1_run()))

    assert (await provider("v1", script).create(REQUEST)).run_id == RUN_ID


@pytest.mark.parametrize(
    "steps",
    [
        [error(401, "unauthorized")],
        [error(404, "agent_not_found")],
        [error(429, "rate_limit_exceeded")],
        [answer([])],
        [httpx.ReadTimeout("")] * 3,
        [answer(v1_agent()), error(404, "run_not_found")],
        [answer(v1_agent()), answer({"id": RUN_ID})],
    ],
)
async def test_an_agent_that_exists_but_cannot_be_read_is_not_said_to_be_absent(
    steps: list[httpx.Response | Exception],
) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider("v1", Script(error(*CONFLICT), *steps)).create(REQUEST)

    assert not caught.value.outcome_known


async def test_an_agent_whose_run_is_yet_to_come_is_being_created() -> None:
    agent = {key: value for key, value in v1_agent().items() if key != "latestRunId"}
    script = Script(error(*CONFLICT), answer(agent))

    snapshot = await provider("v1", script).create(REQUEST)

    assert (snapshot.status, snapshot.run_id) == (AgentStatus.CREATING, None)
    assert snapshot.provider_status == "ACTIVE"


async def test_an_agent_is_found_again_by_its_id() -> None:
    script = Script(answer(v1_agent()), answer(v1_run(status="RUNNING")))

    snapshot = await provider("v1", script).find(REQUEST, since=SINCE)

    assert snapshot is not None
    assert snapshot.status is AgentStatus.RUNNING
    assert script.calls == [GET_AGENT, GET_RUN]


async def test_there_is_no_trace_of_an_agent_that_is_not_found() -> None:
    assert await provider("v1", Script(error(404, "agent_not_found"))).find(REQUEST, since=SINCE) is None


@pytest.mark.parametrize(
    "steps",
    [
        [error(401, "unauthorized")],
        [error(404, "api_key_not_found")],
        [answer(v1_agent(repos=[{"url": "https://github.com/acme/gadgets"}]))],
        [answer(v1_agent()), error(404, "run_not_found")],
    ],
)
async def test_whatever_else_a_search_meets_is_an_error(steps: list[httpx.Response]) -> None:
    with pytest.raises(ProviderError):
        await provider("v1", Script(*steps)).find(REQUEST, since=SINCE)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("CREATING", AgentStatus.CREATING),
        ("RUNNING", AgentStatus.RUNNING),
        ("FINISHED", AgentStatus.FINISHED),
        ("ERROR", AgentStatus.FAILED),
        ("CANCELLED", AgentStatus.STOPPED),
        ("EXPIRED", AgentStatus.EXPIRED),
        ("ARCHIVED", AgentStatus.UNKNOWN),
    ],
)
async def test_the_status_of_the_run_is_the_one_that_counts(word: str, status: AgentStatus) -> None:
    by_run = Script(answer(v1_run(status=word)))
    latest = Script(answer(v1_agent(status="IDLE")), answer(v1_run(status=word)))

    for script, run_id in ((by_run, RUN_ID), (latest, None)):
        snapshot = await provider("v1", script).get(AGENT_ID, run_id)
        assert (snapshot.status, snapshot.provider_status) == (status, word)
    assert by_run.calls == [GET_RUN]
    assert latest.calls == [GET_AGENT, GET_RUN]


def pushed(*branches: dict[str, str]) -> httpx.Response:
    run = v1_run(status="FINISHED", result="Added README.md", durationMs=12357, git={"branches": list(branches)})
    return answer(run)


OURS = {"repoUrl": "github.com/acme/widgets", "branch": "cursor/readme"}
PR = "https://github.com/acme/widgets/pull/1"
THEIRS = {
    "repoUrl": "github.com/acme/gadgets",
    "branch": "cursor/x",
    "prUrl": "https://github.com/acme/gadgets/pull/9",
}


async def test_a_finished_run_shows_its_branch_pull_request_result_and_duration() -> None:
    snapshot = await provider("v1", Script(pushed({**OURS, "prUrl": PR}))).get(AGENT_ID, RUN_ID)

    assert (snapshot.branch, snapshot.pr_url) == ("cursor/readme", PR)
    assert (snapshot.summary, snapshot.duration_ms) == ("Added README.md", 12357)


async def test_of_several_branches_the_one_with_a_pull_request_is_shown() -> None:
    stacked = pushed(OURS, {**OURS, "branch": "cursor/top", "prUrl": PR})

    snapshot = await provider("v1", Script(stacked)).get(AGENT_ID, RUN_ID)

    assert (snapshot.branch, snapshot.pr_url) == ("cursor/top", PR)


async def test_of_several_repositories_the_agents_own_is_shown() -> None:
    by_run = Script(pushed(THEIRS, OURS), answer(v1_agent()))
    latest = Script(answer(v1_agent()), pushed(THEIRS, OURS))

    for script, run_id in ((by_run, RUN_ID), (latest, None)):
        snapshot = await provider("v1", script).get(AGENT_ID, run_id)
        assert (snapshot.branch, snapshot.pr_url) == ("cursor/readme", None)


async def test_a_run_that_pushed_nothing_has_neither_branch_nor_pull_request() -> None:
    nothing: list[dict[str, object]] = [{}, {"git": {}}, {"git": {"branches": []}}]
    for git in nothing:
        snapshot = await provider("v1", Script(answer(v1_run(status="FINISHED", **git)))).get(AGENT_ID, RUN_ID)
        assert (snapshot.branch, snapshot.pr_url) == (None, None)


async def test_a_stop_cancels_the_run() -> None:
    script = Script(answer({"id": RUN_ID}))

    assert await provider("v1", script).stop(AGENT_ID, RUN_ID)

    assert script.calls == [f"POST /v1/agents/{AGENT_ID}/runs/{RUN_ID}/cancel"]


async def test_a_stop_without_a_run_cancels_the_latest() -> None:
    script = Script(answer(v1_agent()), answer({"id": RUN_ID}))

    await provider("v1", script).stop(AGENT_ID, None)

    assert script.calls == [GET_AGENT, f"POST /v1/agents/{AGENT_ID}/runs/{RUN_ID}/cancel"]


async def test_a_stop_before_there_is_a_run_is_to_be_asked_for_again() -> None:
    with pytest.raises(ProviderError) as caught:
        await provider("v1", Script(answer(v1_agent(latestRunId=None)))).stop(AGENT_ID, None)

    assert (caught.value.code, caught.value.retryable) == ("run_not_found", True)


@pytest.mark.parametrize(
    "refusal",
    [
        error(409, "run_not_cancellable"),
        answer({"error": "Run is not active"}, 409),
        answer({"error": "Conflict", "message": "Run is not active"}, 409),
        raw(b"<html>409 Conflict</html>", 409),
    ],
    ids=["code", "text", "flat", "page"],
)
async def test_stopping_what_has_ended_is_fine_and_says_that_nothing_was_at_work(refusal: httpx.Response) -> None:
    assert not await provider("v1", Script(refusal)).stop(AGENT_ID, RUN_ID)


@pytest.mark.parametrize(
    "refusal", [error(409, "agent_archived"), error(409, "agent_busy"), error(404, "run_not_found"), error(401, "x_y")]
)
async def test_a_stop_that_was_not_taken_is_an_error(refusal: httpx.Response) -> None:
    with pytest.raises(ProviderError):
        await provider("v1", Script(refusal)).stop(AGENT_ID, RUN_ID)


TOKENS = {
    "inputTokens": 6320,
    "outputTokens": 1450,
    "cacheWriteTokens": 7100,
    "cacheReadTokens": 21300,
    "totalTokens": 36170,
}


@pytest.mark.parametrize(
    ("answered", "cost"),
    [
        ({}, None),
        ({"cost": {"rawCostCents": 250, "chargedCents": 125.5}}, 1.255),
        ({"cost": {"rawCostCents": 250}}, 2.5),
        ({"cost": {"rawCostCents": 0, "chargedCents": 0}}, 0.0),
        ({"cost": {"chargedCents": "much"}}, None),
        ({"cost": 3}, None),
    ],
)
async def test_usage_is_tokens_and_what_was_charged_in_dollars(answered: dict[str, object], cost: float | None) -> None:
    beside = Script(answer({"totalUsage": TOKENS, "runs": [], **answered}))
    within = Script(answer({"totalUsage": {**TOKENS, **answered}, "runs": []}))

    for script in (beside, within):
        usage = await provider("v1", script).usage(AGENT_ID, RUN_ID)
        assert usage == AgentUsage(6320, 1450, 36170, cost)
        assert script.requests[0].url.query.decode() == f"runId={RUN_ID}"


async def test_usage_that_is_not_offered_is_none() -> None:
    assert await provider("v1", Script(error(403, "feature_unavailable"))).usage(AGENT_ID, None) is None


async def test_models_account_and_conversation_are_read() -> None:
    item = {"id": "composer-2", "displayName": "Composer 2", "aliases": ["composer", 7], "variants": []}
    script = Script(
        answer({"items": [item, {"id": "o3"}]}),
        answer({"apiKeyName": "CI", "createdAt": "2026-01-01T00:00:00Z", "userEmail": "a@b.example"}),
        answer({"id": AGENT_ID, "messages": []}),
    )
    client = provider("v1", script)

    assert await client.models() == [Model("composer-2", "Composer 2", ("composer",)), Model("o3", "o3")]
    assert await client.me() == Account("CI", "a@b.example")
    assert await client.conversation(AGENT_ID) == []
    assert script.calls[2] == f"GET /v0/agents/{AGENT_ID}/conversation"

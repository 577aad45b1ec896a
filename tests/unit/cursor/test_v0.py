"""Version 0: no idempotent create, agents found again by their branch, no runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentSnapshot, Message, Model
from shared.domain.events import AgentStatus
from tests.unit.cursor.scripted import (
    BRANCH,
    REPOSITORY,
    REQUEST,
    SECRET,
    WITH_WEBHOOK,
    Script,
    answer,
    created,
    error,
    provider,
    raw,
    v0_agent,
)

CREATED = datetime(2026, 11, 5, 10, 30, tzinfo=UTC)
AGENT = "bc_abc123"


async def test_a_create_sends_what_is_known_and_nothing_else() -> None:
    script = Script(created("v0"), created("v0"))
    client = provider("v0", script)

    await client.create(REQUEST)
    await client.create(replace(WITH_WEBHOOK, model="claude-4-sonnet"))

    plain = {
        "prompt": {"text": REQUEST.prompt},
        "source": {"repository": REPOSITORY, "ref": "main"},
        "target": {"autoCreatePr": True, "branchName": BRANCH},
    }
    hook = {"url": "https://orchestrator.example/hooks/1", "secret": SECRET}
    assert script.calls == ["POST /v0/agents"] * 2
    assert script.body(0) == plain
    assert script.body(1) == {**plain, "model": "claude-4-sonnet", "webhook": hook}


async def test_a_created_agent_is_shown_with_what_is_known_of_it() -> None:
    snapshot = await provider("v0", Script(created("v0"))).create(REQUEST)

    assert snapshot == AgentSnapshot(
        agent_id=AGENT,
        status=AgentStatus.CREATING,
        provider_status="CREATING",
        url="https://cursor.com/agents?id=bc_abc123",
        branch=BRANCH,
        created_at=CREATED,
    )


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("CREATING", AgentStatus.CREATING),
        ("RUNNING", AgentStatus.RUNNING),
        ("FINISHED", AgentStatus.FINISHED),
        ("ERROR", AgentStatus.FAILED),
        ("EXPIRED", AgentStatus.EXPIRED),
        ("STOPPED", AgentStatus.STOPPED),
        ("CANCELLED", AgentStatus.STOPPED),
        ("finished", AgentStatus.UNKNOWN),
        ("SLEEPING", AgentStatus.UNKNOWN),
    ],
)
async def test_the_words_of_the_api_become_ours(word: str, status: AgentStatus) -> None:
    snapshot = await provider("v0", Script(answer(v0_agent(status=word)))).get(AGENT, None)

    assert (snapshot.status, snapshot.provider_status) == (status, word)


async def test_a_finished_agent_shows_its_branch_pull_request_and_summary() -> None:
    agent = v0_agent(
        status="FINISHED",
        summary="Added README.md",
        target={
            "url": "https://cursor.com/a",
            "branchName": "b",
            "prUrl": "https://github.com/acme/widgets/pull/1",
        },
    )
    script = Script(answer(agent))

    snapshot = await provider("v0", script).get(AGENT, None)

    assert script.calls == [f"GET /v0/agents/{AGENT}"]
    assert (snapshot.branch, snapshot.summary) == ("b", "Added README.md")
    assert snapshot.pr_url == "https://github.com/acme/widgets/pull/1"


def page(*agents: dict[str, object], cursor: str | None = None) -> httpx.Response:
    return answer({"agents": list(agents)} | ({"nextCursor": cursor} if cursor else {}))


def other(**fields: object) -> dict[str, object]:
    return v0_agent(id="bc_other", target={"url": "https://cursor.com/x", "branchName": "else"}, **fields)


async def test_an_agent_is_found_again_by_its_branch_on_whatever_page_it_is() -> None:
    script = Script(page(other(), other(), cursor="c1"), page(other(), v0_agent()))

    snapshot = await provider("v0", script).find(REQUEST, since=CREATED)

    assert snapshot is not None
    assert snapshot.agent_id == AGENT
    assert [str(request.url.query.decode()) for request in script.requests] == [
        "limit=100",
        "limit=100&cursor=c1",
    ]


async def test_the_same_branch_in_another_repository_is_another_agent() -> None:
    theirs = v0_agent(source={"repository": "https://github.com/acme/gadgets"})
    ours = v0_agent(id="bc_ours", source={"repository": "git@GitHub.com:Acme/widgets.git"})

    snapshot = await provider("v0", Script(page(theirs, ours))).find(REQUEST, since=CREATED)

    assert snapshot is not None
    assert snapshot.agent_id == "bc_ours"


async def test_there_is_no_trace_of_an_agent_when_the_list_ends_without_it() -> None:
    assert await provider("v0", Script(page())).find(REQUEST, since=CREATED) is None
    assert await provider("v0", Script(page(other()))).find(REQUEST, since=CREATED) is None


async def test_the_list_is_read_no_further_than_to_the_first_possible_moment() -> None:
    old = (CREATED - timedelta(minutes=6)).isoformat()
    script = Script(page(other(), other(createdAt=old), cursor="1"), page(other(createdAt=old), cursor="2"))

    assert await provider("v0", script).find(REQUEST, since=CREATED) is None
    assert len(script.requests) == 2


async def test_clocks_that_differ_a_little_hide_no_agent() -> None:
    early = (CREATED - timedelta(minutes=4)).isoformat()
    script = Script(page(other(createdAt=early), cursor="1"), page(v0_agent(createdAt=early)))

    assert await provider("v0", script).find(REQUEST, since=CREATED) is not None


@pytest.mark.parametrize("first", [[other(createdAt="?")], []], ids=["without a time", "nobody"])
async def test_a_page_that_tells_no_time_does_not_end_the_search(first: list[dict[str, object]]) -> None:
    script = Script(page(*first, cursor="1"), page(v0_agent()))

    assert await provider("v0", script).find(REQUEST, since=CREATED) is not None


async def test_a_search_that_cannot_be_finished_is_an_error_and_not_the_absence_of_an_agent() -> None:
    endless = provider("v0", lambda _: page(other(), cursor="again"))
    for client in (
        endless,
        provider("v0", Script(answer({"agents": [v0_agent(), None]}))),
        provider("v0", Script(answer({"agents": [v0_agent(status=None)]}))),
        provider("v0", Script(answer({"agents": [other()], "nextCursor": 7}))),
        provider("v0", Script(page(other(), cursor="1"), error(429, "rate_limit_exceeded"))),
    ):
        with pytest.raises(ProviderError):
            await client.find(REQUEST, since=CREATED)


async def test_a_stop_is_taken_and_its_answer_is_of_no_interest() -> None:
    script = Script(answer({"id": AGENT}), raw(b""))
    client = provider("v0", script)

    assert await client.stop(AGENT, None)
    assert await client.stop(AGENT, None)

    assert script.calls == [f"POST /v0/agents/{AGENT}/stop"] * 2


@pytest.mark.parametrize("refusal", [error(409, "run_not_cancellable"), error(400, "validation_error", "not running")])
@pytest.mark.parametrize("word", ["FINISHED", "ERROR", "EXPIRED", "STOPPED"])
async def test_stopping_what_has_ended_is_fine(refusal: httpx.Response, word: str) -> None:
    script = Script(refusal, answer(v0_agent(status=word)))

    assert not await provider("v0", script).stop(AGENT, None)

    assert len(script.requests) == 2


async def test_an_agent_in_a_state_without_a_known_name_is_believed_to_rest_when_the_refusal_says_so() -> None:
    unknown = answer(v0_agent(status="HIBERNATING"))
    for refusal in (error(409, "run_not_cancellable"), answer({"error": "Run is not active"}, 409)):
        assert not await provider("v0", Script(refusal, unknown)).stop(AGENT, None)

    with pytest.raises(ProviderError):
        await provider("v0", Script(error(400, "validation_error"), unknown)).stop(AGENT, None)


@pytest.mark.parametrize(
    "steps",
    [
        [error(409, "agent_busy"), answer(v0_agent(status="RUNNING"))],
        [error(400, "validation_error"), answer(v0_agent(status="CREATING"))],
        [raw(b"<html>Conflict</html>", 409), answer(v0_agent(status="RUNNING"))],
        [error(404, "agent_not_found")],
        [error(403, "plan_required")],
        [error(400, "usage_limit_exceeded")],
        [error(500, "internal_error")],
    ],
)
async def test_a_stop_that_was_not_taken_is_an_error(steps: list[httpx.Response]) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider("v0", Script(*steps)).stop(AGENT, None)

    assert caught.value.status == steps[0].status_code


async def test_models_account_and_conversation_are_read() -> None:
    messages = [
        {"id": "m1", "type": "user_message", "text": "Add a README"},
        {"id": "m2", "type": "tool_message", "text": "ls"},
        {"id": "m3", "type": "assistant_message", "text": "Done"},
    ]
    script = Script(
        answer({"models": ["default", "o3"]}),
        answer({"apiKeyName": "CI", "createdAt": "2026-01-01T00:00:00Z"}),
        answer({"id": AGENT, "messages": messages}),
    )
    client = provider("v0", script)

    assert await client.models() == [Model("default", "default"), Model("o3", "o3")]
    assert (await client.me()).api_key_name == "CI"
    assert await client.conversation(AGENT) == [
        Message("m1", "user", "Add a README"),
        Message("m3", "assistant", "Done"),
    ]
    assert script.calls == ["GET /v0/models", "GET /v0/me", f"GET /v0/agents/{AGENT}/conversation"]


async def test_there_is_neither_usage_nor_a_stream() -> None:
    client = provider("v0", Script())

    assert await client.usage(AGENT, None) is None
    assert [event async for event in client.stream(AGENT, "run-1")] == []

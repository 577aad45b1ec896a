"""Lists of all agents of the account: whoever made them, page by page, and nothing expected of what others made."""

from datetime import UTC, datetime

import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentPage, ListedAgent
from tests.unit.cursor.scripted import (
    AGENT_ID,
    BRANCH,
    REPOSITORY,
    RUN_ID,
    Script,
    Version,
    answer,
    error,
    provider,
    v0_agent,
    v1_agent,
)

CREATED = datetime(2026, 11, 5, 10, 30, tzinfo=UTC)
V1_URL = f"https://cursor.com/agents/{AGENT_ID}"
OURS: dict[Version, ListedAgent] = {
    "v0": ListedAgent(
        "bc_abc123",
        is_at_rest=False,
        url="https://cursor.com/agents?id=bc_abc123",
        branch=BRANCH,
        repository=REPOSITORY,
        created_at=CREATED,
    ),
    "v1": ListedAgent(AGENT_ID, is_at_rest=False, run_id=RUN_ID, url=V1_URL, created_at=CREATED),
}
BOTH = pytest.mark.parametrize("version", ["v0", "v1"])


def agent(version: Version, **fields: object) -> dict[str, object]:
    return v0_agent(**fields) if version == "v0" else v1_agent(**fields)


def page(version: Version, *agents: object, **fields: object) -> object:
    return {"agents" if version == "v0" else "items": list(agents), **fields}


@BOTH
async def test_a_page_says_of_each_agent_whose_it_may_be_and_where_the_next_page_begins(version: Version) -> None:
    script = Script(answer(page(version, agent(version), nextCursor="c/2")), answer(page(version)))
    client = provider(version, script)

    first = await client.list_agents()
    second = await client.list_agents(first.next_cursor)

    assert first == AgentPage((OURS[version],), "c/2")
    assert second == AgentPage((), None)
    assert [dict(request.url.params) for request in script.requests] == [
        {"limit": "100"},
        {"limit": "100", "cursor": "c/2"},
    ]


@pytest.mark.parametrize(
    ("version", "word", "at_rest"),
    [
        *(("v0", word, False) for word in ("CREATING", "RUNNING", "DREAMING", None, 7, "")),
        *(("v0", word, True) for word in ("FINISHED", "ERROR", "EXPIRED", "STOPPED")),
        *(("v1", word, False) for word in ("ACTIVE", "ARCHIVED", "DREAMING", None, 7)),
        ("v1", "IDLE", True),
    ],
)
async def test_only_what_certainly_does_nothing_is_at_rest(version: Version, word: object, at_rest: bool) -> None:
    client = provider(version, Script(answer(page(version, agent(version, status=word)))))

    [listed] = (await client.list_agents()).agents

    assert listed.is_at_rest is at_rest


@BOTH
@pytest.mark.parametrize("theirs", [{}, {"id": None}, {"id": "../etc"}, {"id": 7}, {"id": ""}])
async def test_what_cannot_be_ours_hides_nothing_that_is(version: Version, theirs: dict[str, object]) -> None:
    client = provider(version, Script(answer(page(version, theirs, agent(version)))))

    assert (await client.list_agents()).agents == (OURS[version],)


@BOTH
async def test_what_is_missing_or_wrong_in_an_agent_is_not_known_of_it(version: Version) -> None:
    bare = {
        "id": AGENT_ID,
        "target": 7,
        "source": None,
        "url": "http://example.com",
        "latestRunId": "/",
        "createdAt": 1,
    }
    client = provider(version, Script(answer(page(version, bare))))

    assert (await client.list_agents()).agents == (ListedAgent(AGENT_ID, is_at_rest=False),)


@BOTH
@pytest.mark.parametrize("body", [{}, {"agents": 7, "items": None}, {"agents": [None], "items": [None]}])
async def test_a_page_that_makes_no_sense_is_an_error_and_not_the_end_of_the_list(
    version: Version, body: dict[str, object]
) -> None:
    with pytest.raises(ProviderError):
        await provider(version, Script(answer(body))).list_agents()


@BOTH
@pytest.mark.parametrize(("cursor", "is_end"), [(None, True), ("", True), (7, False), ({}, False), ("x" * 5000, False)])
async def test_only_a_page_that_names_no_next_one_is_the_last(version: Version, cursor: object, is_end: bool) -> None:
    client = provider(version, Script(answer(page(version, agent(version), nextCursor=cursor))))
    if is_end:
        assert (await client.list_agents()).next_cursor is None
    else:
        with pytest.raises(ProviderError):
            await client.list_agents()


@BOTH
async def test_a_page_that_is_not_given_is_an_error(version: Version) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider(version, Script(error(429, "rate_limit_exceeded"))).list_agents()

    assert caught.value.retryable

"""Answers that are not what they should be: `bad_response`, never another error, never a lost agent."""

import contextlib
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cursor.errors import ProviderError
from shared.cursor.provider import Provider
from shared.domain.events import AgentStatus
from tests.unit.cursor.scripted import (
    AGENT_ID,
    REQUEST,
    RUN_ID,
    UNHURRIED,
    Broken,
    Script,
    Version,
    answer,
    created,
    found,
    provider,
    raw,
    v0_agent,
    v1_agent,
    v1_run,
)

SINCE = datetime(2026, 11, 5, tzinfo=UTC)
BOTH = pytest.mark.parametrize("version", ["v0", "v1"])
READS: dict[str, Callable[[Provider], Awaitable[object]]] = {
    "get": lambda p: p.get(AGENT_ID, RUN_ID),
    "latest": lambda p: p.get(AGENT_ID, None),
    "find": lambda p: p.find(REQUEST, since=SINCE),
    "list": lambda p: p.list_agents(),
    "find_follow_up": lambda p: p.find_follow_up(AGENT_ID, "Go on", after_run=RUN_ID, since=SINCE),
    "usage": lambda p: p.usage(AGENT_ID, RUN_ID),
    "conversation": lambda p: p.conversation(AGENT_ID),
    "artifacts": lambda p: p.artifacts(AGENT_ID),
    "artifact_link": lambda p: p.artifact_link(AGENT_ID, "artifacts/shot.png"),
    "models": lambda p: p.models(),
    "repositories": lambda p: p.repositories(),
    "me": lambda p: p.me(),
}
# v0 reports no usage, so it is never asked for it.
ASKED = [(read, version) for read in READS for version in ("v0", "v1") if (read, version) != ("usage", "v0")]
NOT_AN_OBJECT = {
    "nothing": b"",
    "no JSON": b"<html>hello</html>",
    "cut off": b'{"id":"bc_abc123","status":"RUN',
    "a list": b"[]",
    "a text": b'"FINISHED"',
    "null": b"null",
    "not UTF-8": b'{"id":"\xff"}',
    "NaN": b'{"id":NaN}',
    "too deep": b'{"a":' * 100_000,
    "an endless number": b'{"id":' + b"9" * 10_000 + b"}",
    "huge": b'{"id":"' + b"x" * (5 * 1024 * 1024) + b'"}',
}


@pytest.mark.parametrize(("read", "version"), ASKED)
@pytest.mark.parametrize("body", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT.keys())
async def test_an_answer_that_is_no_object_is_a_bad_response(read: str, body: bytes, version: Version) -> None:
    script = Script(raw(body))

    with pytest.raises(ProviderError) as caught:
        await READS[read](provider(version, script))

    assert caught.value.code == "bad_response"
    assert caught.value.retryable
    assert caught.value.outcome_known
    assert len(script.requests) == 1


@BOTH
@pytest.mark.parametrize("body", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT.keys())
async def test_a_create_whose_answer_makes_no_sense_may_have_made_an_agent(body: bytes, version: Version) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider(version, Script(raw(body, 201))).create(REQUEST)

    assert caught.value.code == "bad_response"
    assert not caught.value.outcome_known


@BOTH
@pytest.mark.parametrize("body", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT.keys())
async def test_a_follow_up_whose_answer_makes_no_sense_may_have_been_taken(body: bytes, version: Version) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider(version, Script(raw(body))).follow_up(AGENT_ID, "Go on", after_run=RUN_ID)

    assert caught.value.code == "bad_response"
    assert not caught.value.outcome_known


@pytest.mark.parametrize(
    "agent",
    [
        v0_agent(id=7),
        v0_agent(id=""),
        v0_agent(id="../me"),
        v0_agent(id="bc_1?x=y"),
        v0_agent(status=None),
        v0_agent(status=["RUNNING"]),
        v0_agent(target="https://cursor.com"),
        v0_agent(target=None),
    ],
)
async def test_an_agent_of_v0_that_cannot_be_told_is_a_bad_response(agent: object) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider("v0", Script(answer(agent))).get(AGENT_ID, None)

    assert caught.value.code == "bad_response"


@pytest.mark.parametrize(
    ("agent", "run"),
    [
        (v1_agent(id=7), v1_run()),
        (v1_agent(latestRunId=7), None),
        (v1_agent(latestRunId="a/b"), None),
        (v1_agent(latestRunId=None, status=None), None),
        (v1_agent(repos="x"), None),
        (v1_agent(repos=[{}]), None),
        (v1_agent(), v1_run(id=None)),
        (v1_agent(), v1_run(status=3)),
    ],
)
async def test_an_agent_of_v1_that_cannot_be_told_is_a_bad_response(agent: object, run: object) -> None:
    script = Script(answer(agent), *([answer(run)] if run else []))

    with pytest.raises(ProviderError) as caught:
        await provider("v1", script).get(AGENT_ID, None)

    assert caught.value.code == "bad_response"


@BOTH
async def test_what_only_adorns_is_dropped_when_it_is_not_what_it_should_be(version: Version) -> None:
    git = {"branches": ["x", {"repoUrl": 7, "branch": "a\nb", "prUrl": "javascript:alert(1)"}]}
    body = (
        v0_agent(
            status="FINISHED",
            summary={"text": "no"},
            createdAt="yesterday",
            target={
                "url": "http://cursor.com/agents",
                "prUrl": "https://user@evil.example/",
                "branchName": 1,
            },
        )
        if version == "v0"
        else v1_run(status="FINISHED", result=" ", durationMs=-1, createdAt=7, git=git)
    )

    snapshot = await provider(version, Script(answer(body))).get(AGENT_ID, RUN_ID)

    assert snapshot.status == "FINISHED"
    assert (snapshot.url, snapshot.pr_url, snapshot.branch) == (None, None, None)
    assert (snapshot.summary, snapshot.duration_ms, snapshot.created_at) == (None, None, None)


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/acme/widgets/pull/1",
        "javascript:alert(1)",
        "https://",
        "https://user:word@github.com/acme",
        "https://github.com/a b",
        "https://github.com/\n",
        "https://[::1",
        "https://github.com/" + "x" * 2048,
        "//github.com/acme",
        7,
    ],
)
async def test_a_link_that_is_not_plain_https_is_dropped(url: object) -> None:
    agent = v0_agent(target={"url": url, "prUrl": url})

    snapshot = await provider("v0", Script(answer(agent))).get(AGENT_ID, None)

    assert (snapshot.url, snapshot.pr_url) == (None, None)


@BOTH
async def test_texts_are_cut_and_free_of_what_a_database_refuses(version: Version) -> None:
    said = "a\0b\ud800" + "x" * 30_000
    body = v0_agent(summary=said) if version == "v0" else v1_run(result=said)

    snapshot = await provider(version, Script(answer_escaped(body))).get(AGENT_ID, RUN_ID)

    assert snapshot.summary is not None
    assert snapshot.summary.startswith("ab?xxx")
    assert len(snapshot.summary) == 20_000


def answer_escaped(body: object) -> httpx.Response:
    return raw(json.dumps(body, ensure_ascii=True).encode())


@BOTH
@pytest.mark.parametrize(
    "failure", [httpx.ReadError("reset"), httpx.RemoteProtocolError("short"), httpx.ReadTimeout("")], ids=repr
)
async def test_a_create_whose_answer_breaks_off_may_have_made_an_agent(failure: Exception, version: Version) -> None:
    script = Script(httpx.Response(201, stream=Broken(b'{"agent"', failure)))

    with pytest.raises(ProviderError) as caught:
        await provider(version, script).create(REQUEST)

    assert not caught.value.outcome_known
    assert caught.value.retryable
    assert type(failure).__name__ in caught.value.message


@BOTH
async def test_an_answer_is_read_no_further_than_five_mebibytes(version: Version) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 64 * 1024 * 1024:
            taken += 65_536
            yield b" " * 65_536
        yield found(version).content

    with pytest.raises(ProviderError) as caught:
        await provider(version, Script(httpx.Response(200, content=endless()))).get(AGENT_ID, RUN_ID)

    assert caught.value.code == "bad_response"
    assert taken < 6 * 1024 * 1024


@BOTH
@pytest.mark.parametrize("address", ["http://xn--zzzzzz-/", "//[", "http://a b/"])
async def test_a_create_that_is_redirected_to_nowhere_may_have_made_an_agent(address: str, version: Version) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider(version, Script(answer({}, 302, Location=address))).create(REQUEST)

    assert not caught.value.outcome_known


@BOTH
@pytest.mark.parametrize("cookie", [b"one=1", b"\xc3\xa9=1"])
async def test_a_cookie_is_not_sent_back_and_keeps_nobody_from_asking(cookie: bytes, version: Version) -> None:
    content = found(version).content
    script = Script(*[httpx.Response(200, headers=[(b"Set-Cookie", cookie)], content=content) for _ in range(2)])
    client = provider(version, script)

    for _ in range(2):
        await client.get(AGENT_ID, RUN_ID)

    assert "cookie" not in script.requests[1].headers


def packed(content: bytes, encoding: str, status: int = 200) -> httpx.Response:
    """An answer that comes as it would over the wire, not unpacked by whoever made it."""
    return httpx.Response(status, headers={"Content-Encoding": encoding}, stream=httpx.ByteStream(content))


@BOTH
async def test_an_answer_may_be_packed_as_it_was_asked_for(version: Version) -> None:
    script = Script(packed(gzip.compress(found(version).content), "GZip"))

    assert (await provider(version, script).get(AGENT_ID, RUN_ID)).status is AgentStatus.CREATING
    assert script.requests[0].headers["accept-encoding"] == "gzip"


@BOTH
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br", "deflate"])
async def test_a_body_that_cannot_be_unpacked_is_a_bad_response(encoding: str, version: Version) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider(version, Script(packed(b"not gzip at all", encoding))).get(AGENT_ID, RUN_ID)

    assert caught.value.code == "bad_response"


@BOTH
async def test_an_error_whose_body_cannot_be_unpacked_is_told_by_its_status(version: Version) -> None:
    for encoding in ("gzip", "br"):
        with pytest.raises(ProviderError) as caught:
            await provider(version, Script(packed(b"not gzip at all", encoding, 401))).create(REQUEST)
        assert (caught.value.code, caught.value.outcome_known) == ("unauthorized", True)


@BOTH
@pytest.mark.parametrize(
    "content",
    [gzip.compress(bytes(64 * 1024 * 1024)), gzip.compress(b"{}") + bytes(6 * 1024 * 1024)],
    ids=["unpacks to much", "goes on behind its end"],
)
async def test_a_small_answer_that_unpacks_to_a_large_one_is_not_unpacked(content: bytes, version: Version) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProviderError) as caught:
            await provider(version, Script(packed(content, "gzip"))).get(AGENT_ID, RUN_ID)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.code == "bad_response"
    assert most < 24 * 1024 * 1024


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SHAPED: list[dict[str, object]] = [
    v0_agent(status="FINISHED", summary="done"),
    v1_agent(),
    v1_run(result="x", durationMs=1, git={"branches": [{"repoUrl": "github.com/a/b", "branch": "c"}]}),
    {"agent": v1_agent(), "run": v1_run()},
    {"agents": [v0_agent()], "nextCursor": "x"},
    {"messages": [{"id": "m1", "type": "user_message", "text": "hello"}]},
    {"models": ["default"], "items": [{"id": "m", "displayName": "M", "aliases": ["n"]}]},
    {"totalUsage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}, "cost": {"chargedCents": 4}},
    {"apiKeyName": "k", "userEmail": "a@b.example"},
]


@st.composite
def spoiled(draw: st.DrawFn) -> object:
    """A proper answer with one thing in it, at any depth, replaced or taken away."""
    document: Any = json.loads(json.dumps(draw(st.sampled_from(SHAPED))))
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(document)
    holder, key = draw(st.sampled_from(places))
    if isinstance(holder, dict) and draw(st.booleans()):
        del holder[key]
    else:
        holder[key] = draw(JSON)
    return document


@settings(UNHURRIED, max_examples=150)
@given(body=spoiled() | JSON, status=st.sampled_from([200, 201]), version=st.sampled_from(["v0", "v1"]))
async def test_no_answer_leads_to_anything_but_a_result_or_a_provider_error(
    body: object, status: int, version: Version
) -> None:
    content = json.dumps(body).encode()
    spoiling = provider(version, lambda _: raw(content, status))
    calls = [read(spoiling) for read in READS.values()]
    for call in (*calls, spoiling.create(REQUEST), spoiling.stop(AGENT_ID, None)):
        with contextlib.suppress(ProviderError):
            await call
    await spoiling.aclose()


@BOTH
async def test_an_answer_with_a_byte_order_mark_is_understood(version: Version) -> None:
    marked = b"\xef\xbb\xbf" + found(version).content

    snapshot = await provider(version, Script(raw(marked))).get(AGENT_ID, RUN_ID)

    assert snapshot.provider_status == "CREATING"


@BOTH
async def test_unknown_fields_and_words_do_no_harm(version: Version) -> None:
    body = json.loads(found(version).content) | {"status": "PONDERING", "novelty": {"a": [None]}}

    snapshot = await provider(version, Script(answer(body))).get(AGENT_ID, RUN_ID)

    assert snapshot.status == "UNKNOWN"
    assert snapshot.provider_status == "PONDERING"
    assert not snapshot.status.is_terminal


@BOTH
async def test_an_agent_is_made_of_a_proper_answer(version: Version) -> None:
    assert (await provider(version, Script(created(version))).create(REQUEST)).status == "CREATING"

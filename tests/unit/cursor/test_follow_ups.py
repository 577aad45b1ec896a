"""Continuing an agent, finding out whether that took effect, and deleting it: what is sent and what is made of it."""

from datetime import UTC, datetime

import httpx
import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentSnapshot
from shared.cursor.refusals import cannot_continue
from shared.domain.events import AgentStatus
from tests.unit.cursor.scripted import (
    AGENT_ID,
    RUN_ID,
    Script,
    Version,
    answer,
    error,
    provider,
    raw,
    v0_agent,
    v1_agent,
    v1_run,
)

SINCE = datetime(2026, 11, 5, 10, tzinfo=UTC)
BOTH = pytest.mark.parametrize("version", ["v0", "v1"])
NEXT = "run-00000000-0000-0000-0000-000000000002"
AGENT = "bc_abc123"
GO_ON = "Go on\n\n(Attempt 2, reference 1a2b3c)"
MARK = "(Attempt 2, reference 1a2b3c)"
CONVERSATION = f"GET /v0/agents/{AGENT}/conversation"


def said(*texts: str) -> httpx.Response:
    """A conversation in which both speak in turn, the user first."""
    kinds = ("user_message", "assistant_message")
    messages = [{"id": f"m{i}", "type": kinds[i % 2], "text": text} for i, text in enumerate(texts)]
    return answer({"id": AGENT, "messages": messages})


# Sending


async def test_on_v1_a_follow_up_is_a_new_run() -> None:
    script = Script(answer({"run": v1_run(id=NEXT)}, 201))

    snapshot = await provider("v1", script).follow_up(AGENT_ID, GO_ON, after_run=RUN_ID)

    assert script.calls == [f"POST /v1/agents/{AGENT_ID}/runs"]
    assert script.body() == {"prompt": {"text": GO_ON}}
    assert (snapshot.run_id, snapshot.status) == (NEXT, AgentStatus.CREATING)


async def test_on_v0_a_follow_up_starts_the_agent_again() -> None:
    script = Script(answer({"id": AGENT}))

    snapshot = await provider("v0", script).follow_up(AGENT, GO_ON, after_run=None)

    assert script.calls == [f"POST /v0/agents/{AGENT}/followup"]
    assert script.body() == {"prompt": {"text": GO_ON}}
    assert snapshot == AgentSnapshot(AGENT, AgentStatus.CREATING, "CREATING")


@BOTH
@pytest.mark.parametrize("step", [error(500, "internal_error"), error(502, "x_y"), httpx.ReadTimeout("")])
async def test_a_follow_up_is_sent_once_whatever_happens(version: Version, step: httpx.Response | Exception) -> None:
    script = Script(step)

    with pytest.raises(ProviderError) as caught:
        await provider(version, script).follow_up(AGENT_ID, GO_ON, after_run=RUN_ID)

    assert len(script.requests) == 1
    assert not caught.value.outcome_known
    assert not cannot_continue(caught.value)


@BOTH
@pytest.mark.parametrize(
    ("refusal", "gone"),
    [
        (error(409, "agent_archived"), True),
        (error(404, "agent_not_found"), True),
        (answer({"error": "Not Found"}, 404), True),
        (raw(b"gone", 410), True),
        (error(400, "validation_error", "the agent has expired"), True),
        (error(409, "agent_busy"), False),
        (error(400, "usage_limit_exceeded"), False),
        (error(401, "unauthorized"), False),
        (error(404, "api_key_not_found"), False),
        (error(403, "role_forbidden"), False),
        (error(429, "rate_limit_exceeded"), False),
        (error(408, "timeout"), False),
    ],
)
async def test_a_refusal_tells_whether_this_agent_can_go_on(
    version: Version, refusal: httpx.Response, gone: bool
) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider(version, Script(refusal)).follow_up(AGENT_ID, GO_ON, after_run=RUN_ID)

    assert cannot_continue(caught.value) is gone


# Finding


@pytest.mark.parametrize(
    ("latest", "after", "created", "found"),
    [
        (RUN_ID, RUN_ID, "2026-11-05T10:30:00Z", False),
        (None, RUN_ID, "2026-11-05T10:30:00Z", False),
        (NEXT, RUN_ID, "2026-11-05T10:30:00Z", True),
        (NEXT, RUN_ID, "2026-11-05T09:30:00Z", False),
        (NEXT, None, "2026-11-05T10:30:00Z", True),
        (NEXT, None, "2026-11-05T09:30:00Z", False),
        (NEXT, None, "?", True),
    ],
)
async def test_on_v1_another_latest_run_is_the_trace(
    latest: str | None, after: str | None, created: str, found: bool
) -> None:
    """It is the run's age that counts: the agent itself was there before, however new its run is."""
    agent = v1_agent(latestRunId=latest, createdAt="2026-11-05T08:00:00Z")
    script = Script(answer(agent), answer(v1_run(id=NEXT, status="FINISHED", createdAt=created)))

    snapshot = await provider("v1", script).find_follow_up(AGENT_ID, GO_ON, after_run=after, since=SINCE)

    assert (snapshot is not None) is found
    if snapshot is not None:
        assert (snapshot.run_id, snapshot.status) == (NEXT, AgentStatus.FINISHED)


@pytest.mark.parametrize("word", ["CREATING", "RUNNING"])
async def test_on_v0_an_agent_at_work_is_the_trace(word: str) -> None:
    script = Script(answer(v0_agent(status=word)))

    snapshot = await provider("v0", script).find_follow_up(AGENT, MARK, after_run=None, since=SINCE)

    assert snapshot is not None
    assert snapshot.provider_status == word
    assert len(script.requests) == 1


@pytest.mark.parametrize("word", ["FINISHED", "STOPPED", "ERROR", "SLEEPING"])
@pytest.mark.parametrize(
    ("talk", "found"),
    [
        (["Add a README", "I began", GO_ON], True),
        (["Add a README", "I began", GO_ON, "Done"], True),
        (["Add a README", "I began", f"<user>\n{GO_ON.replace(' ', '  ')}\n</user>"], True),
        (["Add a README", "I began", GO_ON, "Done", "And more"], True),
        (["Add a README", GO_ON], False),
        (["Add a README", "I began"], False),
        ([], False),
    ],
)
async def test_on_v0_what_the_user_said_is_the_trace_where_the_agent_is_at_rest(
    word: str, talk: list[str], found: bool
) -> None:
    script = Script(answer(v0_agent(status=word)), said(*talk))

    snapshot = await provider("v0", script).find_follow_up(AGENT, MARK, after_run=None, since=SINCE)

    assert script.calls[1:] == [CONVERSATION]
    assert (snapshot is not None) is found
    if snapshot is not None:
        assert snapshot.status is AgentStatus.CREATING, "whose end it shows is not known"


@pytest.mark.parametrize(
    ("version", "steps"),
    [
        ("v0", [error(403, "role_forbidden")]),
        ("v0", [answer(v0_agent(status="FINISHED")), error(403, "role_forbidden")]),
        ("v1", [error(403, "role_forbidden")]),
        ("v1", [answer(v1_agent(latestRunId=NEXT)), error(403, "role_forbidden")]),
    ],
)
async def test_a_look_that_fails_is_not_the_absence_of_a_trace(version: Version, steps: list[httpx.Response]) -> None:
    with pytest.raises(ProviderError):
        await provider(version, Script(*steps)).find_follow_up(AGENT, GO_ON, after_run=RUN_ID, since=SINCE)


# Deleting


@BOTH
@pytest.mark.parametrize("step", [answer({"id": AGENT}), raw(b""), error(404, "agent_not_found"), raw(b"", 410)])
async def test_what_is_deleted_or_not_there_is_gone(version: Version, step: httpx.Response) -> None:
    script = Script(step)

    await provider(version, script).delete(AGENT)

    assert script.calls == [f"DELETE /{version}/agents/{AGENT}"]


@BOTH
@pytest.mark.parametrize(
    ("step", "known"),
    [
        (error(403, "role_forbidden"), True),
        (error(404, "api_key_not_found"), True),
        (error(500, "internal_error"), False),
        (httpx.ReadError("x"), False),
    ],
)
async def test_a_delete_that_was_not_taken_is_an_error(
    version: Version, step: httpx.Response | Exception, known: bool
) -> None:
    script = Script(step)

    with pytest.raises(ProviderError) as caught:
        await provider(version, script).delete(AGENT)

    assert caught.value.outcome_known is known
    assert len(script.requests) == 1


# The conversation of an agent of v1


async def test_on_v1_a_conversation_that_is_not_told_is_said_to_be_so() -> None:
    script = Script(error(404, "agent_not_found"), answer(v1_agent()))

    with pytest.raises(ProviderError) as caught:
        await provider("v1", script).conversation(AGENT_ID)

    assert caught.value.code == "feature_unavailable"
    assert script.calls == [f"GET /v0/agents/{AGENT_ID}/conversation", f"GET /v1/agents/{AGENT_ID}"]


async def test_on_v1_the_conversation_of_an_agent_that_is_gone_is_not_found() -> None:
    script = Script(error(404, "agent_not_found"), error(404, "agent_not_found"))

    with pytest.raises(ProviderError) as caught:
        await provider("v1", script).conversation(AGENT_ID)

    assert (caught.value.code, caught.value.status) == ("agent_not_found", 404)

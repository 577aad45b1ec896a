"""Agents that are put away: version 1 has a place for them, version 0 has none."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import Provider
from tests.unit.cursor.scripted import AGENT_ID, Script, answer, error, provider, raw

Call = Callable[[Provider], Awaitable[None]]
ARCHIVE: Call = lambda p: p.archive(AGENT_ID)  # noqa: E731  # a table of calls
UNARCHIVE: Call = lambda p: p.unarchive(AGENT_ID)  # noqa: E731
BOTH = pytest.mark.parametrize("call", [ARCHIVE, UNARCHIVE], ids=["archive", "unarchive"])


async def refused(call: Call, answered: httpx.Response | Exception) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await call(provider("v1", Script(answered)))
    return caught.value


@pytest.mark.parametrize(("call", "last"), [(ARCHIVE, "archive"), (UNARCHIVE, "unarchive")])
async def test_one_post_says_it_and_what_it_answers_is_of_no_interest(call: Call, last: str) -> None:
    script = Script(raw(b"not JSON"))

    await call(provider("v1", script))

    assert script.calls == [f"POST /v1/agents/{AGENT_ID}/{last}"]
    assert script.requests[0].content == b""


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_gone_need_not_be_archived_and_cannot_be_brought_back(status: int) -> None:
    await ARCHIVE(provider("v1", Script(error(status, "agent_not_found"))))

    error_ = await refused(UNARCHIVE, error(404, "x"))
    assert (error_.code, error_.retryable, error_.outcome_known) == ("agent_not_found", False, True)


async def test_what_is_archived_already_is_archived_and_what_is_busy_is_not() -> None:
    """An archive may be repeated: whoever asked for it may have died before it was written down."""
    await ARCHIVE(provider("v1", Script(error(409, "agent_archived"))))

    found = await refused(ARCHIVE, error(409, "agent_busy"))
    assert (found.code, found.retryable) == ("agent_busy", True)


@BOTH
async def test_a_failure_at_the_providers_end_leaves_it_open_and_is_for_the_caller_to_repeat(call: Call) -> None:
    for failure in (error(500, "internal_error"), httpx.ReadTimeout("")):
        found = await refused(call, failure)
        assert (found.retryable, found.outcome_known) == (True, False)


@BOTH
async def test_version_0_says_that_it_has_none_without_asking(call: Call) -> None:
    with pytest.raises(ProviderError) as caught:
        await call(provider("v0", Script()))

    assert (caught.value.code, caught.value.retryable) == ("feature_unavailable", False)


async def test_an_archive_is_told_apart_where_calls_are_counted() -> None:
    seen: list[str] = []
    client = provider(
        "v1", Script(answer({}), answer({})), observe=lambda endpoint, status, seconds: seen.append(endpoint)
    )

    await ARCHIVE(client)
    await UNARCHIVE(client)

    assert seen == ["archive_agent", "unarchive_agent"]

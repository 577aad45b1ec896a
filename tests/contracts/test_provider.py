"""One contract for both versions of the provider's API, held over real HTTP against the simulator."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from deploy.local.simulator import SimulatorSettings, create_app
from shared.cursor.breaker import Breaker
from shared.cursor.errors import ProviderError
from shared.cursor.factory import connect
from shared.cursor.provider import AgentRequest, AgentSnapshot, ApiVersion, Provider, WebhookTarget
from shared.cursor.refusals import cannot_continue
from shared.domain.events import AgentStatus
from tests.simulator.serving import FOREVER, QUICK, REPOSITORY, SECRET, bound_socket, serving
from tests.support.eventually import eventually

V1 = pytest.mark.parametrize("version", ["v1"])


@pytest.fixture(params=["v0", "v1"])
def version(request: pytest.FixtureRequest) -> ApiVersion:
    chosen: ApiVersion = request.param
    return chosen


@asynccontextmanager
async def simulated(version: ApiVersion, key: str = "key", **settings: Any) -> AsyncIterator[Provider]:
    """The provider on a simulator of its own, quick where the settings say nothing."""
    app = create_app(SimulatorSettings(**{**QUICK, **settings}))
    with serving(app) as url:
        provider = connect(version, url, key)
        try:
            yield provider
        finally:
            await provider.aclose()


@pytest.fixture(name="url", scope="module")
def _url() -> Iterator[str]:
    """One simulator for all tests that can share it: each has agents and branches of its own."""
    with serving(create_app(SimulatorSettings(**QUICK))) as url:
        yield url


@pytest.fixture
async def provider(version: ApiVersion, url: str) -> AsyncIterator[Provider]:
    connected = connect(version, url, "key")
    yield connected
    await connected.aclose()


def request_for(prompt: str = "Add a README") -> AgentRequest:
    """A request as one attempt makes it: its id and its branch are its own."""
    attempt = uuid.uuid4()
    return AgentRequest(
        agent_id=f"bc-{attempt}",
        name="Add a README",
        prompt=prompt,
        repository=REPOSITORY,
        ref="main",
        branch_name=f"orchestrator/add-a-readme-{attempt.hex[:8]}",
        auto_create_pr=True,
    )


async def until(provider: Provider, agent: AgentSnapshot, status: AgentStatus) -> AgentSnapshot:
    async def reached() -> AgentSnapshot:
        found = await provider.get(agent.agent_id, agent.run_id)
        assert found.status is status
        return found

    return await eventually(reached)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Timeout]:
    """The limits of all exchanges with a provider from now on, in order: each passes when it is moved to now."""
    begun: list[asyncio.Timeout] = []
    timeout = asyncio.timeout

    def noted(seconds: float) -> asyncio.Timeout:
        begun.append(timeout(seconds))
        return begun[-1]

    monkeypatch.setattr("shared.cursor.http.asyncio.timeout", noted)
    return begun


async def outlived(
    limits: list[asyncio.Timeout], call: Coroutine[Any, Any, Any], find: Callable[[], Awaitable[AgentSnapshot | None]]
) -> tuple[ProviderError, AgentSnapshot]:
    """The error of a call whose time is up once it is seen to have taken effect, and what was found then."""
    limits.clear()
    calling = asyncio.create_task(refused(call))
    await eventually(lambda: limits)
    limit = limits[0]
    assert limit.when() is not None
    await eventually(find)
    limit.reschedule(asyncio.get_running_loop().time())
    error = await calling
    found = await find()
    assert found is not None
    return error, found


async def refused(call: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await call
    return caught.value


async def test_an_agent_is_created_works_and_finishes_with_a_branch_and_a_pull_request(
    provider: Provider,
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)

    agent = await provider.create(request_for())
    finished = await until(provider, agent, AgentStatus.FINISHED)

    assert agent.status in (AgentStatus.CREATING, AgentStatus.RUNNING)
    assert agent.url is not None
    assert agent.created_at is not None
    assert agent.created_at > before
    assert finished.agent_id == agent.agent_id
    assert finished.run_id == agent.run_id
    assert finished.provider_status == "FINISHED"
    assert finished.branch
    assert finished.pr_url is not None
    assert finished.pr_url.startswith(f"{REPOSITORY}/pull/")
    assert finished.summary


async def test_an_agent_has_the_id_or_the_branch_by_which_it_is_found_again(provider: Provider) -> None:
    request = request_for()
    since = datetime.now(UTC)
    assert await provider.find(request, since=since) is None

    agent = await provider.create(request)
    for _ in range(3):
        await provider.create(request_for("Something else"))
    found = await provider.find(request, since=since)

    assert found is not None
    assert (found.agent_id, found.run_id) == (agent.agent_id, agent.run_id)


async def test_an_agent_is_found_again_beyond_the_first_page(provider: Provider) -> None:
    request = request_for(FOREVER)
    since = datetime.now(UTC)
    agent = await provider.create(request)
    for _ in range(110):
        await provider.create(request_for(FOREVER))

    found = await provider.find(request, since=since)

    assert found is not None
    assert found.agent_id == agent.agent_id


async def test_all_agents_are_listed_over_several_pages_each_with_what_tells_whose_it_is(
    provider: Provider, version: ApiVersion
) -> None:
    request = request_for(FOREVER)
    working = await provider.create(request)
    finished = await until(provider, await provider.create(request_for()), AgentStatus.FINISHED)
    others = [(await provider.create(request_for(FOREVER))).agent_id for _ in range(105)]

    first = await provider.list_agents()
    second = await provider.list_agents(first.next_cursor)
    listed = {agent.agent_id: agent for agent in (*first.agents, *second.agents)}

    assert len(first.agents) == 100
    assert {working.agent_id, finished.agent_id, *others} <= set(listed)
    found = listed[working.agent_id]
    assert (found.is_at_rest, listed[finished.agent_id].is_at_rest) == (False, True)
    assert (found.url, found.created_at, found.run_id) == (working.url, working.created_at, working.run_id)
    ours = (request.branch_name, request.repository) if version == "v0" else (None, None)
    assert (found.branch, found.repository) == ours


@V1
async def test_the_same_create_twice_makes_one_agent(provider: Provider) -> None:
    request = request_for(FOREVER)

    first = await provider.create(request)
    second = await provider.create(request)

    assert (second.agent_id, second.run_id) == (first.agent_id, first.run_id)
    assert second.created_at == first.created_at


@V1
async def test_an_agent_for_another_repository_is_not_taken_for_ours(provider: Provider) -> None:
    request = request_for(FOREVER)
    await provider.create(replace(request, repository="https://github.com/acme/gadgets"))

    error = await refused(provider.create(request))

    assert (error.code, error.retryable, error.outcome_known) == ("agent_id_conflict", False, True)


@pytest.mark.parametrize(
    ("prompt", "status"),
    [("[[sim:fail]] Try", AgentStatus.FAILED), ("[[sim:expire]] Try", AgentStatus.EXPIRED)],
)
async def test_an_agent_that_does_not_succeed_says_so(prompt: str, status: AgentStatus, provider: Provider) -> None:
    agent = await provider.create(request_for(prompt))

    ended = await until(provider, agent, status)

    assert ended.status.is_terminal
    assert ended.pr_url is None


async def test_an_agent_that_changes_nothing_finishes_without_a_branch(provider: Provider) -> None:
    agent = await provider.create(request_for("[[sim:nochange]] Look around"))

    finished = await until(provider, agent, AgentStatus.FINISHED)

    assert (finished.branch, finished.pr_url) == (None, None)


async def test_a_running_agent_is_stopped_and_may_be_stopped_again(provider: Provider) -> None:
    agent = await provider.create(request_for(FOREVER))
    await until(provider, agent, AgentStatus.RUNNING)

    await provider.stop(agent.agent_id, agent.run_id)
    await until(provider, agent, AgentStatus.STOPPED)

    await provider.stop(agent.agent_id, agent.run_id)
    await provider.stop(agent.agent_id, None)


async def test_stopping_an_agent_that_has_finished_is_fine_and_changes_nothing(provider: Provider) -> None:
    agent = await provider.create(request_for())
    await until(provider, agent, AgentStatus.FINISHED)

    await provider.stop(agent.agent_id, agent.run_id)

    assert (await provider.get(agent.agent_id, None)).status is AgentStatus.FINISHED


async def stopped(provider: Provider) -> AgentSnapshot:
    agent = await provider.create(request_for(FOREVER))
    await until(provider, agent, AgentStatus.RUNNING)
    await provider.stop(agent.agent_id, agent.run_id)
    await until(provider, agent, AgentStatus.STOPPED)
    return agent


async def test_a_stopped_agent_is_continued_by_a_follow_up(provider: Provider) -> None:
    agent = await stopped(provider)

    again = await provider.follow_up(agent.agent_id, "Go on [[sim:slow=0.1]]", after_run=agent.run_id)
    finished = await until(provider, again, AgentStatus.FINISHED)

    assert again.agent_id == agent.agent_id
    assert again.status is AgentStatus.CREATING
    assert finished.branch
    if provider.version == "v1":
        assert again.run_id not in (None, agent.run_id)
        assert (await provider.get(agent.agent_id, agent.run_id)).status is AgentStatus.STOPPED


async def test_a_finished_agent_is_continued_by_a_follow_up(provider: Provider) -> None:
    agent = await provider.create(request_for())
    await until(provider, agent, AgentStatus.FINISHED)

    again = await provider.follow_up(agent.agent_id, FOREVER, after_run=agent.run_id)

    await until(provider, again, AgentStatus.RUNNING)


async def test_a_follow_up_is_found_again_once_it_was_made_and_not_before(provider: Provider) -> None:
    agent = await stopped(provider)
    asked: dict[str, Any] = {"after_run": agent.run_id, "since": datetime.now(UTC) - timedelta(seconds=5)}
    assert await provider.find_follow_up(agent.agent_id, "Go on", **asked) is None

    made = await provider.follow_up(agent.agent_id, "Go on", after_run=agent.run_id)
    found = await provider.find_follow_up(agent.agent_id, "Go on", **asked)

    assert found is not None
    assert (found.agent_id, found.run_id) == (made.agent_id, made.run_id)
    assert not found.status.is_terminal


async def test_a_follow_up_that_has_ended_already_is_found_again(provider: Provider) -> None:
    agent = await stopped(provider)
    asked: dict[str, Any] = {"after_run": agent.run_id, "since": datetime.now(UTC) - timedelta(seconds=5)}
    made = await provider.follow_up(agent.agent_id, "Be quick [[sim:slow=0]]", after_run=agent.run_id)
    await until(provider, made, AgentStatus.FINISHED)

    found = await provider.find_follow_up(agent.agent_id, "Be quick [[sim:slow=0]]", **asked)

    assert found is not None
    if provider.version == "v0":
        assert found.status is AgentStatus.CREATING, "whose end it is, v0 does not say"
        assert await provider.find_follow_up(agent.agent_id, "Be slow", **asked) is None


async def test_a_follow_up_that_outlives_its_answer_is_found_again(
    version: ApiVersion, limits: list[asyncio.Timeout]
) -> None:
    async with simulated(version, follow_up_seconds=600, follow_up_lag_seconds=600) as provider:
        agent = await stopped(provider)
        since = datetime.now(UTC) - timedelta(seconds=5)

        call = provider.follow_up(agent.agent_id, "Go on", after_run=agent.run_id)
        find = partial(provider.find_follow_up, agent.agent_id, "Go on", after_run=agent.run_id, since=since)
        error, found = await outlived(limits, call, find)

    assert (error.code, error.retryable, error.outcome_known) == ("timeout", True, False)
    assert not cannot_continue(error)
    assert not found.status.is_terminal, "v0 shows the old end for a while"


async def test_an_agent_that_is_gone_cannot_be_continued(provider: Provider) -> None:
    nobody = f"bc-{uuid.uuid4()}"

    error = await refused(provider.follow_up(nobody, "Go on", after_run=None))
    looked = await refused(provider.find_follow_up(nobody, "Go on", after_run=None, since=datetime.now(UTC)))

    for one in (error, looked):
        assert (one.code, one.status, one.retryable, one.outcome_known) == ("agent_not_found", 404, False, True)
        assert cannot_continue(one)


async def test_an_agent_that_is_archived_cannot_be_continued(url: str, version: ApiVersion) -> None:
    provider = connect(version, url, "key")
    agent = await stopped(provider)
    async with httpx.AsyncClient(base_url=url, auth=("key", "")) as client:
        (await client.post(f"/v1/agents/{agent.agent_id}/archive")).raise_for_status()

    error = await refused(provider.follow_up(agent.agent_id, "Go on", after_run=agent.run_id))
    await provider.aclose()

    assert (error.code, error.status, error.retryable) == ("agent_archived", 409, False)
    assert cannot_continue(error)


@V1
async def test_an_agent_at_work_is_busy_which_passes(provider: Provider) -> None:
    agent = await provider.create(request_for(FOREVER))

    error = await refused(provider.follow_up(agent.agent_id, "Go on", after_run=agent.run_id))

    assert (error.code, error.retryable, error.outcome_known) == ("agent_busy", True, True)
    assert not cannot_continue(error)


@pytest.mark.parametrize(
    ("marker", "known", "continuable"),
    [
        ("rate_limit_exceeded", True, True),
        ("usage_limit_exceeded", True, True),
        ("internal_error", False, True),
        ("validation_error", True, False),
    ],
)
async def test_a_refused_follow_up_tells_whether_the_agent_can_be_continued(
    marker: str, known: bool, continuable: bool, provider: Provider
) -> None:
    agent = await stopped(provider)

    error = await refused(provider.follow_up(agent.agent_id, f"[[sim:refuse={marker}]]", after_run=agent.run_id))

    assert (error.code, error.outcome_known, not cannot_continue(error)) == (marker, known, continuable)


async def test_an_agent_is_deleted_once_and_may_be_deleted_again(provider: Provider) -> None:
    agent = await provider.create(request_for(FOREVER))

    await provider.delete(agent.agent_id)
    await provider.delete(agent.agent_id)

    assert (await refused(provider.get(agent.agent_id, agent.run_id))).code == "agent_not_found"


@V1
async def test_an_archived_agent_can_be_read_and_goes_on_once_it_is_unarchived(provider: Provider) -> None:
    agent = await stopped(provider)
    await provider.archive(agent.agent_id)
    await provider.archive(agent.agent_id)

    assert (await provider.get(agent.agent_id, agent.run_id)).status is AgentStatus.STOPPED
    error = await refused(provider.follow_up(agent.agent_id, "Go on", after_run=agent.run_id))
    await provider.unarchive(agent.agent_id)
    await provider.unarchive(agent.agent_id)
    again = await provider.follow_up(agent.agent_id, FOREVER, after_run=agent.run_id)

    assert (error.code, cannot_continue(error)) == ("agent_archived", True)
    await until(provider, again, AgentStatus.RUNNING)


@V1
async def test_an_agent_that_is_gone_need_not_be_archived_and_is_not_brought_back(provider: Provider) -> None:
    nobody = f"bc-{uuid.uuid4()}"

    await provider.archive(nobody)
    error = await refused(provider.unarchive(nobody))

    assert (error.code, error.status, error.retryable) == ("agent_not_found", 404, False)


async def test_an_agent_that_does_not_exist_is_told_as_such(provider: Provider) -> None:
    nobody = f"bc-{uuid.uuid4()}"
    for call in (
        provider.get(nobody, None),
        provider.stop(nobody, None),
        provider.conversation(nobody),
    ):
        error = await refused(call)
        assert (error.code, error.status, error.retryable) == ("agent_not_found", 404, False)


@pytest.mark.parametrize(
    ("marker", "code", "billing", "retryable"),
    [
        ("usage_limit_exceeded", "usage_limit_exceeded", True, False),
        ("plan_required", "plan_required", True, False),
        ("repository_access", "repository_access", False, False),
        ("integration_not_connected", "integration_not_connected", False, False),
        ("invalid_model", "invalid_model", False, False),
        ("rate_limit_exceeded", "rate_limit_exceeded", False, True),
    ],
)
async def test_a_refused_create_says_why_and_leaves_no_agent(
    marker: str, code: str, billing: bool, retryable: bool, provider: Provider
) -> None:
    request = request_for(f"[[sim:refuse={marker}]] Try")

    error = await refused(provider.create(request))

    assert (error.code, error.billing, error.retryable) == (code, billing, retryable)
    assert error.outcome_known
    assert (error.retry_after is not None) is (code == "rate_limit_exceeded")
    assert await provider.find(request, since=datetime.now(UTC)) is None


@pytest.mark.parametrize("marker", ["internal_error", "upstream_error"])
async def test_a_create_that_failed_at_the_providers_end_leaves_its_outcome_open(
    marker: str, provider: Provider
) -> None:
    error = await refused(provider.create(request_for(f"[[sim:refuse={marker}]] Try")))

    assert (error.code, error.retryable, error.outcome_known) == (marker, True, False)


async def test_a_wrong_key_is_refused_without_being_repeated(version: ApiVersion) -> None:
    async with simulated(version, key="wrong-key", api_key="right-key") as provider:
        error = await refused(provider.me())

    assert (error.code, error.status, error.retryable) == ("unauthorized", 401, False)
    assert "wrong-key" not in str(error)


async def test_a_model_is_chosen_from_the_list_and_an_unknown_one_is_refused(provider: Provider) -> None:
    models = await provider.models()
    assert models
    assert all(model.id and model.display_name for model in models)

    await provider.create(replace(request_for(FOREVER), model=models[-1].id))
    error = await refused(provider.create(replace(request_for(), model="a-model-of-long-ago")))

    assert (error.code, error.retryable) == ("invalid_model", False)


async def test_the_files_that_an_agent_left_are_fetched_without_the_key(provider: Provider) -> None:
    agent = await provider.create(request_for())
    await until(provider, agent, AgentStatus.FINISHED)

    [artifact] = await provider.artifacts(agent.agent_id)
    link = await provider.artifact_link(agent.agent_id, artifact.path)
    async with httpx.AsyncClient() as anybody:
        fetched = await anybody.get(link.url)
        with_key = await anybody.get(link.url, auth=("key", ""))

    assert link.expires_at is not None
    assert link.expires_at > datetime.now(UTC)
    assert (fetched.status_code, len(fetched.content)) == (200, artifact.size_bytes)
    assert with_key.status_code == 400, "whoever stores the files takes no key of the API"


async def test_a_file_or_an_agent_that_is_not_there_is_told_as_such(provider: Provider) -> None:
    agent = await provider.create(request_for(FOREVER))
    nobody = f"bc-{uuid.uuid4()}"
    assert await provider.artifacts(agent.agent_id) == []

    file = await refused(provider.artifact_link(agent.agent_id, "artifacts/nothing.md"))
    gone = [await refused(provider.artifacts(nobody)), await refused(provider.artifact_link(nobody, "artifacts/x.md"))]

    assert (file.code, file.retryable) == ("artifact_not_found", False)
    assert [error.code for error in gone] == ["agent_not_found"] * 2


async def test_repositories_are_listed_once_a_minute(version: ApiVersion) -> None:
    async with simulated(version) as provider:
        listed = await provider.repositories()
        error = await refused(provider.repositories())

    assert listed
    assert all(address.startswith("https://github.com/") for address in listed)
    assert (error.code, error.retryable, error.billing) == ("rate_limit_exceeded", True, False)
    assert 0 < (error.retry_after or 0) <= 60


async def test_the_key_has_a_name(provider: Provider) -> None:
    assert (await provider.me()).api_key_name


async def test_what_was_said_can_be_read(provider: Provider) -> None:
    agent = await provider.create(request_for("Add a README"))
    await until(provider, agent, AgentStatus.FINISHED)

    messages = await provider.conversation(agent.agent_id)

    assert (messages[0].author, messages[0].text) == ("user", "Add a README")
    assert messages[-1].author == "assistant"


async def test_usage_is_known_where_the_api_reports_it(provider: Provider) -> None:
    agent = await provider.create(request_for())
    await until(provider, agent, AgentStatus.FINISHED)

    usage = await provider.usage(agent.agent_id, agent.run_id)

    if provider.version == "v0":
        assert usage is None
    else:
        assert usage is not None
        assert usage.total_tokens >= usage.input_tokens + usage.output_tokens > 0
        assert usage.cost is not None
        assert usage.cost > 0


async def test_a_webhook_may_be_asked_for_whatever_the_version(provider: Provider) -> None:
    hook = WebhookTarget("http://127.0.0.1:9/hooks", SECRET)

    agent = await provider.create(replace(request_for(FOREVER), webhook=hook))

    assert not agent.status.is_terminal


@V1
async def test_a_run_is_streamed_to_its_end_and_resumed_from_anywhere(provider: Provider) -> None:
    agent = await provider.create(request_for())
    assert agent.run_id is not None

    events = [event async for event in provider.stream(agent.agent_id, agent.run_id)]

    kinds = [event.kind for event in events]
    assert kinds[0] == "status"
    assert kinds[-2:] == ["result", "done"]
    assert events[-2].data["status"] == "FINISHED"
    middle = next(event for event in events if event.id is not None)
    rest = [event async for event in provider.stream(agent.agent_id, agent.run_id, after=middle.id)]
    assert [event.kind for event in rest[-2:]] == ["result", "done"]
    assert middle.id not in [event.id for event in rest if event.kind != "status"]


async def test_a_stream_of_v0_is_empty_and_one_of_nobody_an_error(provider: Provider) -> None:
    stream = provider.stream(f"bc-{uuid.uuid4()}", f"run-{uuid.uuid4()}")
    if provider.version == "v0":
        assert [event async for event in stream] == []
    else:
        error = await refused(anext(stream))
        assert error.status == 404


async def test_a_create_that_outlives_its_answer_is_found_again(
    version: ApiVersion, limits: list[asyncio.Timeout]
) -> None:
    async with simulated(version, create_seconds=600) as provider:
        request = request_for(FOREVER)

        find = partial(provider.find, request, since=datetime.now(UTC))
        error, _ = await outlived(limits, provider.create(request), find)

    assert (error.code, error.retryable, error.outcome_known) == ("timeout", True, False)


async def test_a_provider_that_is_not_there_was_never_asked(version: ApiVersion) -> None:
    with bound_socket() as nobody:
        provider = connect(version, f"http://127.0.0.1:{nobody.getsockname()[1]}", "key")

        error = await refused(provider.create(request_for()))

    assert (error.code, error.retryable, error.outcome_known) == ("network_error", True, True)
    await provider.aclose()


async def test_a_provider_that_fails_five_times_in_a_row_is_left_alone_and_then_asked_once(version: ApiVersion) -> None:
    async def calls(control: httpx.AsyncClient) -> int:
        return sum(dict((await control.get("/_sim/stats")).json()["calls"]).values())

    now = 0.0
    with serving(create_app(SimulatorSettings(**QUICK, faults={"read_error": {"count": 6}}))) as url:
        async with httpx.AsyncClient(base_url=url) as control:
            provider = connect(version, url, "key", breaker=Breaker(30, now=lambda: now), sleep=_at_once)
            seen = []
            for _ in range(4):  # of up to three tries each
                seen.append(((await refused(provider.me())).code, await calls(control)))
            assert seen == [
                ("upstream_error", 3),
                ("provider_unavailable", 5),
                ("provider_unavailable", 5),
                ("provider_unavailable", 5),
            ]
            unsent = await refused(provider.create(request_for()))
            assert (unsent.code, unsent.retryable, unsent.outcome_known) == ("provider_unavailable", True, True)
            now += 30
            assert (await refused(provider.me())).code == "provider_unavailable", "its second try"
            assert await calls(control) == 6
            now += 30
            await provider.create(request_for())
            await provider.me()
            assert await calls(control) == 8
            await provider.aclose()


async def _at_once(_: float) -> None:
    return


async def test_every_call_is_counted_once_at_the_simulator(version: ApiVersion) -> None:
    with serving(create_app(SimulatorSettings(**QUICK))) as url:
        seen: list[tuple[str, int | str]] = []
        provider = connect(version, url, "key", observe=lambda endpoint, status, _: seen.append((endpoint, status)))
        agent = await provider.create(request_for(FOREVER))
        await provider.get(agent.agent_id, agent.run_id)
        await provider.aclose()
        async with httpx.AsyncClient(base_url=url) as client:
            stats = (await client.get("/_sim/stats")).json()

    assert seen == [("create_agent", 201), ("get_agent", 200)]
    assert stats["creates"] == 1

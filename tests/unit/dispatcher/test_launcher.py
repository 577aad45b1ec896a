"""A ticket becomes exactly one agent, whatever the provider answers or keeps to itself."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from services.dispatcher import launcher as launcher_module
from shared.command_handler import CommandHandler
from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion, WebhookTarget
from shared.domain.commands import RejectAttempt, StartAttempt
from shared.domain.events import AgentStatus, AttemptFailed, AttemptStarted, Failure, OrchestrationStatus, TaskStatus
from shared.domain.state import Phase
from shared.jetstream.consumer import Later, Poison
from shared.messages import LOG_LAG, Ticket
from tests.support.eventually import eventually
from tests.unit.dispatcher.scripted import (
    FAILED,
    GONE,
    KEY_GONE,
    LEFT_ALONE,
    LONG_THROTTLED,
    NO_KEY,
    NO_MONEY,
    TAKEN,
    THROTTLED,
    UNANSWERED,
    UNAVAILABLE,
)
from tests.unit.dispatcher.world import (
    ORCHESTRATION,
    REPOSITORY,
    SETTLE,
    START,
    TEAM,
    Hook,
    World,
    delivery,
    make_task,
    observed,
    world,
)

VERSIONS: list[ApiVersion] = ["v0", "v1"]
both = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_module, "_SLOT_WAIT_SECONDS", 0.02)


# The smooth course


@both
async def test_a_ticket_becomes_one_agent_that_holds_a_slot(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        await w.launch()
        attempt = await w.attempt()
        assert attempt.phase is Phase.CREATED
        assert [attempt.agent_id] == list(w.provider.agents)
        assert attempt.api_version == version
        assert (len(w.provider.requests), w.waits) == (1, [])
        assert await w.holders() == [await w.ticket()]


async def test_the_request_says_what_the_task_asks_for() -> None:
    async with world("v0") as w:
        w.webhook = WebhookTarget("https://orchestrator.example/hook?attempt=1", "s" * 64)
        task = make_task("a", title="Add a README!", description="Write it well.", model="o3")
        await w.create(task, ref="develop", auto_create_pr=False)
        await w.launch()
        [request] = w.provider.requests
        attempt = await w.attempt()
        assert request.prompt.startswith("Task 1 of 1: Add a README!\n\nWrite it well.")
        assert (request.repository, request.ref, request.model) == (REPOSITORY, "develop", "o3")
        assert request.branch_name == attempt.branch_name
        assert request.branch_name.startswith("cursor/add-a-readme-")
        assert request.auto_create_pr is False
        assert request.name == "Add a README!"
        assert request.webhook == w.webhook


async def test_the_id_and_the_branch_are_in_the_log_before_the_first_request() -> None:
    async with world() as w:
        await w.create()

        async def look() -> None:
            attempt = await w.attempt()
            assert attempt.phase is Phase.STARTED
            assert attempt.agent_id == w.provider.requests[0].agent_id
            assert attempt.branch_name == w.provider.requests[0].branch_name

        w.provider.before_create = [look]
        await w.launch()
        assert (await w.attempt()).phase is Phase.CREATED


# Tickets that are out of date


@both
async def test_a_ticket_that_comes_again_makes_no_second_agent(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        ticket = await w.ticket()
        await w.launch(ticket)
        w.restart()
        await w.launch(ticket)
        assert len(w.provider.requests) == 1
        assert await w.holders() == [ticket]


async def test_an_attempt_started_with_the_other_version_is_left_to_a_process_that_speaks_it() -> None:
    async with world("v1") as w:
        await w.create()
        ticket = await w.ticket()
        await w.do(started(ticket).model_copy(update={"api_version": "v0"}))
        with pytest.raises(Later):
            await w.launch(ticket)
        assert w.provider.requests == []


async def test_a_ticket_of_an_attempt_that_has_ended_gives_its_slot_back() -> None:
    async with world() as w:
        await w.create(make_task("a", max_retries=0))
        ticket = await w.ticket()
        await w.launch(ticket)
        [agent_id] = w.provider.agents
        await w.do(observed(ticket, AgentStatus.FAILED, agent_id))
        assert await w.holders() == [ticket]
        await w.launch(ticket)
        assert await w.holders() == []
        assert len(w.provider.requests) == 1


@pytest.mark.parametrize("orchestration", [ORCHESTRATION, "orc-unknown"])
async def test_a_ticket_of_an_unknown_attempt_is_done_with_and_gives_its_slot_back(orchestration: str) -> None:
    async with world() as w:
        await w.create()
        ticket = Ticket(TEAM, orchestration, "no-such-attempt")
        await w.bucket.create("slot-1", ticket.encode())
        w.clock.advance(LOG_LAG)
        await w.launch(ticket)
        assert await w.holders() == []
        assert w.provider.requests == []


@pytest.mark.parametrize("orchestration", [ORCHESTRATION, "orc-unknown"])
async def test_a_new_ticket_is_kept_though_a_replica_of_the_log_does_not_show_its_attempt_yet(
    orchestration: str,
) -> None:
    async with world() as w:
        await w.create()
        with pytest.raises(Later):
            await w.launch(Ticket(TEAM, orchestration, "not-yet-shown"))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b'{"team":"t","orchestration_id":"o","attempt_id":7}', b"\xff"]
)
async def test_what_is_no_ticket_is_poison(body: bytes) -> None:
    async with world() as w:
        with pytest.raises(Poison):
            await w.launcher.on_ticket(delivery(body))


async def test_without_a_free_slot_the_ticket_comes_later_and_nothing_has_happened() -> None:
    async with world(slots=1) as w:
        await w.create()
        await w.bucket.create("slot-1", b"somebody else")
        with pytest.raises(Later):
            await w.launch()
        assert (await w.attempt()).phase is Phase.QUEUED
        assert w.provider.requests == []


# Refusals


@both
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NO_MONEY, "QUOTA_EXCEEDED"),
        (NO_KEY, "INVALID_API_KEY"),
        (ProviderError("repository_access", "no access", status=400), "INVALID_REPOSITORY"),
        (ProviderError("repository_required", "which?", status=400), "INVALID_REPOSITORY"),
        (ProviderError("invalid_branch_name", "no such branch", status=400), "INVALID_REPOSITORY"),
        (ProviderError("integration_not_connected", "connect GitHub", status=403), "INVALID_REPOSITORY"),
        (ProviderError("a_new_code_for_it", "no such key", status=401), "INVALID_API_KEY"),
        (KEY_GONE, "INVALID_API_KEY"),
        (ProviderError("role_forbidden", "not you", status=403), "FORBIDDEN"),
        (ProviderError("service_account_required", "not this key", status=403), "FORBIDDEN"),
        (ProviderError("plan_required", "upgrade", status=403, billing=True), "QUOTA_EXCEEDED"),
        (ProviderError("invalid_model", "no such model", status=400), "INVALID_MODEL"),
        (ProviderError("validation_error", "odd", status=400), "CURSOR_API_ERROR"),
        (ProviderError("agent_id_conflict", "another repository", status=409), "CURSOR_API_ERROR"),
    ],
)
async def test_a_definite_refusal_fails_the_task_for_good(version: ApiVersion, error: ProviderError, code: str) -> None:
    async with world(version) as w:
        await w.create()
        w.provider.before_create = [error]
        await w.launch()
        state = await w.state()
        failure = state.tasks["a"].failure
        assert failure is not None
        assert (failure.code, failure.retryable) == (code, False)
        assert error.message in failure.message
        assert state.tasks["a"].status is TaskStatus.FAILED
        assert state.status is OrchestrationStatus.FAILED
        assert len(w.provider.requests) == 1
        assert w.provider.finds == []
        assert w.waits == []
        assert await w.holders() == []


@pytest.mark.parametrize("error", [NO_MONEY, NO_KEY, ProviderError("role_forbidden", "not you", status=403)])
async def test_a_refusal_of_the_account_is_met_once_also_under_continue_and_says_what_to_do(
    error: ProviderError,
) -> None:
    async with world() as w:
        await w.create(make_task("a"), make_task("b"), failure_policy="continue")
        w.provider.before_create = [error]
        await w.launch()
        state = await w.state()
        assert state.status is OrchestrationStatus.FAILED
        assert state.failure is not None
        assert error.message in state.failure.message
        assert "then retry the task" in state.failure.message
        assert state.tasks["b"].attempts == ()
        assert len(w.provider.requests) == 1


@both
@pytest.mark.parametrize("error", [THROTTLED, LEFT_ALONE], ids=lambda error: error.code)
async def test_who_is_held_back_waits_for_so_long_and_then_there_is_one_agent(
    version: ApiVersion, error: ProviderError
) -> None:
    async with world(version) as w:
        await w.create(make_task("a", max_retries=0))
        w.provider.before_create = [error, error]
        await w.launch()
        assert w.waits == [error.retry_after] * 2
        assert w.provider.finds == []
        assert len(w.provider.agents) == 1
        assert len(w.provider.requests) == 3
        assert (await w.attempt()).phase is Phase.CREATED


# Outcomes that are not known


async def test_on_v1_an_unknown_outcome_repeats_the_same_request_until_it_is_known() -> None:
    async with world("v1") as w:
        await w.create()
        w.provider.before_create = [UNANSWERED, None, UNAVAILABLE]
        w.provider.after_create = [UNANSWERED, UNANSWERED]
        await w.launch()
        assert len(w.provider.requests) == 5
        assert len(set(w.provider.requests)) == 1
        assert len(w.provider.agents) == 1
        assert (await w.attempt()).phase is Phase.CREATED
        assert (await w.attempt()).agent_id == w.provider.requests[0].agent_id


async def test_waiting_as_long_as_one_is_told_does_not_make_later_pauses_longer() -> None:
    async with world("v1") as w:
        await w.create()
        w.provider.before_create = [*[LEFT_ALONE] * 9, UNANSWERED]
        await w.launch()
        assert w.waits[:9] == [33.0] * 9
        assert w.waits[9] <= 1


async def test_the_pauses_between_tries_grow_up_to_a_minute() -> None:
    async with world("v1") as w:
        await w.create()
        w.provider.before_create = [UNANSWERED] * 12
        await w.launch()
        assert len(w.waits) == 12
        for number, wait in enumerate(w.waits):
            longest = min(2.0**number, 60.0)
            assert longest / 2 <= wait <= longest


async def test_on_v0_an_unknown_outcome_is_settled_by_looking_and_never_by_a_second_create() -> None:
    async with world("v0") as w:
        await w.create()
        w.provider.after_create = [UNANSWERED]
        await w.launch()
        assert len(w.provider.requests) == 1
        assert await w.known_agents() == list(w.provider.agents)


async def test_on_v0_an_agent_that_shows_late_is_adopted() -> None:
    async with world("v0") as w:
        await w.create()

        async def hide() -> None:
            w.provider.hidden.update(w.provider.agents)

        async def show() -> None:
            if w.clock.now() >= made + SETTLE - timedelta(seconds=61):
                w.provider.hidden.clear()

        w.provider.after_create = [step_then_raise(hide, UNANSWERED)]
        w.while_asleep = [show] * 1000
        made = w.clock.now()
        await w.launch()
        assert len(w.provider.finds) > 3
        assert len(w.provider.requests) == 1
        assert await w.known_agents() == list(w.provider.agents)


async def test_on_v0_no_trace_fails_the_attempt_only_after_the_settle_time_and_it_is_tried_anew() -> None:
    async with world("v0") as w:
        await w.create()
        w.provider.before_create = [UNANSWERED]
        asked = w.clock.now()
        ticket = await w.ticket()
        finds_until: list[timedelta] = []

        async def note() -> None:
            finds_until.append(w.clock.now() - asked)

        w.provider.on_find = [note] * 1000
        await w.launch()
        assert len(w.provider.requests) == 1
        task = await w.task()
        assert task.attempts[0].phase is Phase.ENDED
        failure = task.attempts[0].failure
        assert failure is not None
        assert (failure.code, failure.retryable) == ("NETWORK_ERROR", True)
        assert task.status is TaskStatus.PENDING
        assert task.retry_count == 1
        assert finds_until[-1] >= SETTLE, "the last look was made when an agent could still appear"
        assert await w.holders() == []
        await w.launch(ticket)
        assert len(w.provider.requests) == 1


async def test_a_look_that_began_before_the_settle_time_proves_nothing() -> None:
    async with world("v0") as w:
        await w.create()
        w.provider.before_create = [UNANSWERED]

        async def take_long() -> None:
            w.clock.advance(SETTLE)

        w.provider.on_find = [take_long]
        await w.launch()
        assert len(w.provider.finds) == 2


async def test_looks_for_a_lost_create_leave_room_in_the_limit_of_lists() -> None:
    async with world("v0") as w:
        await w.create()
        w.provider.before_create = [UNANSWERED]
        await w.launch()
        assert len(w.provider.finds) <= 20


async def test_a_search_reaches_back_behind_the_start_of_the_attempt() -> None:
    async with world("v0") as w:
        await w.create()
        started = w.clock.now()
        w.provider.before_create = [UNANSWERED]
        await w.launch()
        assert all(since < started for since in w.provider.finds)


@both
@pytest.mark.parametrize("error", [UNAVAILABLE, NO_KEY, THROTTLED])
async def test_a_look_that_fails_settles_nothing(version: ApiVersion, error: ProviderError) -> None:
    async with world(version) as w:
        await w.create()
        w.provider.after_create = [UNANSWERED]
        w.provider.before_create = [None, NO_KEY]  # on v1 the repeat is refused, so that it looks, too
        w.provider.on_find = [error] * 30
        await w.launch()
        assert len(w.provider.finds) == 31
        assert len(w.provider.agents) == 1
        assert await w.known_agents() == list(w.provider.agents)


async def test_on_v1_a_refusal_after_an_unknown_outcome_is_believed_when_there_is_no_trace() -> None:
    async with world("v1") as w:
        await w.create()
        w.provider.before_create = [UNANSWERED, NO_MONEY]
        lost_at = w.clock.now()
        await w.launch()
        assert len(w.provider.requests) == 2
        task = await w.task()
        assert task.status is TaskStatus.FAILED
        assert task.failure is not None
        assert task.failure.code == "QUOTA_EXCEEDED"
        assert w.clock.now() - lost_at >= SETTLE


async def test_on_v1_the_settle_time_begins_anew_with_every_create_that_is_not_answered() -> None:
    async with world("v1") as w:
        await w.create()
        w.provider.before_create = [*[UNANSWERED] * 12, NO_MONEY]
        await w.launch()
        lost_at = START + timedelta(seconds=sum(w.waits[:11]))
        assert (await w.task()).status is TaskStatus.FAILED
        assert w.clock.now() - lost_at >= SETTLE


async def test_on_v1_a_refusal_after_an_unknown_outcome_does_not_lose_the_agent_that_is_there() -> None:
    async with world("v1") as w:
        await w.create()
        w.provider.after_create = [UNANSWERED]
        w.provider.before_create = [None, NO_MONEY]
        await w.launch()
        assert await w.known_agents() == list(w.provider.agents)
        assert (await w.attempt()).phase is Phase.CREATED


@pytest.mark.parametrize("is_unwanted", [False, True])
async def test_an_id_that_another_agent_holds_ends_the_attempt_and_is_not_waited_for(is_unwanted: bool) -> None:
    async with world("v1") as w:
        await w.create()
        w.provider.before_create = [UNANSWERED, TAKEN, TAKEN]
        w.provider.on_find = [TAKEN] * 100
        if is_unwanted:
            w.while_asleep = [w.expire]
        await w.launch()
        failure = (await w.attempt()).failure
        assert failure is not None
        assert "holds this id" in failure.message
        assert await w.holders() == []
        assert len(w.waits) <= 3


# Two at once


async def taken_over(w: World) -> None:
    """Another process gets the ticket, waits in vain for a trace of the agent, and gives the attempt up."""
    other = replace(w.launcher, handler=CommandHandler(w.log, w.clock, w.ids))
    await other.on_ticket(delivery((await w.ticket()).encode()))
    assert (await w.attempt()).failure is not None


async def test_a_process_that_stood_still_before_the_create_creates_nothing_any_more() -> None:
    async with world("v0") as w:
        await w.create()
        stood_still = False

        async def stand_still_once_started() -> None:
            nonlocal stood_still
            if not stood_still and any(isinstance(event, AttemptStarted) for event in await w.events()):
                stood_still = True
                await taken_over(w)

        w.log.passing = stand_still_once_started
        await w.launch()
        assert stood_still
        assert w.provider.requests == []
        assert await w.holders() == []


@both
async def test_an_agent_that_comes_up_after_its_attempt_was_given_up_is_stopped(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", timeout_minutes=1))
        if version == "v1":
            w.provider.before_create = [partial(taken_over_unwanted, w)]
        else:
            w.provider.before_create = [partial(taken_over, w)]
        w.provider.on_stop = [FAILED, None, FAILED, partial(stopped, w)]
        await w.launch()
        [agent_id] = w.provider.agents
        assert [told for told, _ in w.provider.stops] == [agent_id] * 4, "it is believed when it is seen"
        assert await w.known_agents() == []
        assert await w.holders() == []


@both
@pytest.mark.parametrize("answer", [GONE, KEY_GONE, None])
async def test_one_that_is_gone_is_told_no_more_and_one_that_does_not_stop_is_left_to_the_sweep(
    version: ApiVersion, answer: ProviderError | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(version) as w:
        await w.create(make_task("a", timeout_minutes=1))
        w.provider.before_create = [partial(taken_over_unwanted, w)]
        w.provider.stop_error = answer
        await w.launch()
        assert len(w.provider.stops) == (1 if answer is GONE else 12)
        assert ("left to the sweep" in caplog.text) is (answer is not GONE)
        assert await w.holders() == []


async def stopped(w: World) -> None:
    for agent_id, agent in w.provider.agents.items():
        w.provider.agents[agent_id] = replace(agent, status=AgentStatus.STOPPED)


async def taken_over_unwanted(w: World) -> None:
    """On v1 only an attempt whose time is over is given up without a refusal."""
    w.clock.advance(timedelta(minutes=2))
    await taken_over(w)


@both
async def test_two_that_have_the_ticket_at_once_make_one_agent(version: ApiVersion) -> None:
    """As after a pause of the process that was longer than the broker's patience."""
    async with world(version) as w:
        await w.create()
        ticket = await w.ticket()
        first = w.launcher
        w.restart()
        second = w.launcher
        release = asyncio.Event()
        w.provider.before_create = [partial(_wait, release)]

        async def let_go() -> None:
            release.set()

        w.while_asleep = [let_go]
        body = delivery(ticket.encode())
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(first.on_ticket(body))
            group.create_task(second.on_ticket(body))
            if version == "v1":
                release.set()
        assert len(w.provider.agents) == 1
        assert len(w.provider.requests) == (1 if version == "v0" else len(w.provider.requests))
        assert await w.known_agents() == list(w.provider.agents)


@both
async def test_two_in_one_process_that_have_the_ticket_at_once_make_one_agent_in_one_slot(
    version: ApiVersion,
) -> None:
    async with world(version) as w:
        await w.create()
        ticket = await w.ticket()
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(w.launch(ticket))
            group.create_task(w.launch(ticket))
        assert len(w.provider.agents) == 1
        assert await w.holders() == [ticket]


async def test_an_attempt_that_ended_while_its_ticket_waited_for_a_slot_gets_no_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody else had the ticket, too, and gave up; an agent made now would be nobody's."""
    monkeypatch.setattr(launcher_module, "_SLOT_WAIT_SECONDS", 60.0)
    async with world("v1", slots=1) as w:
        await w.create(make_task("a", max_retries=0))
        ticket = await w.ticket()
        await w.do(started(ticket))
        await w.bucket.create("slot-1", b"somebody else")
        waiting = asyncio.create_task(w.launch(ticket))
        await eventually(lambda: w.slots._waiters)
        failure = Failure(code="CURSOR_API_ERROR", message="refused")
        await w.do(RejectAttempt(attempt_id=ticket.attempt_id, failure=failure))
        await w.bucket.delete("slot-1")
        async with asyncio.timeout(30):
            await waiting
        assert w.provider.requests == []
        assert await w.holders() == []


async def test_on_v1_an_agent_of_unknown_outcome_is_found_though_creates_are_held_back() -> None:
    """Held back for a quarter of an hour, it would be at work for as long without anybody who follows it."""
    async with world("v1") as w:
        await w.create()
        w.provider.before_create = [None, LONG_THROTTLED]
        w.provider.after_create = [UNANSWERED]
        await w.launch()
        assert await w.known_agents() == list(w.provider.agents)
        assert sum(w.waits) <= 1
        assert (await w.attempt()).phase is Phase.CREATED


async def test_on_v1_a_create_of_unknown_outcome_that_is_held_back_is_repeated_where_there_is_no_trace() -> None:
    async with world("v1") as w:
        await w.create()
        w.provider.before_create = [UNANSWERED, THROTTLED]
        await w.launch()
        assert (len(w.provider.finds), len(w.provider.requests), len(w.provider.agents)) == (1, 3, 1)
        assert w.waits[1] == 7.0


async def test_on_v0_what_cannot_be_looked_for_as_the_provider_is_left_alone_is_not_given_up() -> None:
    async with world("v0") as w:
        await w.create(make_task("a", max_retries=0))
        w.provider.after_create = [UNANSWERED]
        w.provider.on_find = [LEFT_ALONE] * 60
        await w.launch()
        assert sum(w.waits) > SETTLE.total_seconds()
        assert await w.known_agents() == list(w.provider.agents)
        assert len(w.provider.requests) == 1


# Crashes


class Died(asyncio.CancelledError):
    """The process is gone, or was told to go."""


@both
@pytest.mark.parametrize("answers", [[], [UNANSWERED], [THROTTLED], [NO_MONEY]])
async def test_a_crash_at_any_point_never_makes_two_agents(version: ApiVersion, answers: list[ProviderError]) -> None:
    """Dies at the n-th point, comes back, and the ticket comes again; for every n until one run gets through."""
    for point in range(1, 200):
        async with world(version) as w:
            await w.create(make_task("a", max_retries=0))
            w.provider.before_create = list(answers)
            ticket = await w.ticket()
            died = await launch_and_die(w, ticket, point)
            async with asyncio.timeout(30):
                await w.launch(ticket)
            assert_one_agent_at_most(w)
            attempt = await w.attempt()
            if attempt.phase is Phase.CREATED:
                assert await w.known_agents() == list(w.provider.agents)
                assert await w.holders() == [ticket]
            else:
                assert attempt.phase is Phase.ENDED
                assert w.provider.agents == {}, "an agent runs that nobody knows"
                assert await w.holders() == []
                assert answers == [NO_MONEY] or version == "v0"
            if not died:
                assert point > 8, "it was meant to be killed at many points"
                return
    raise AssertionError("it never got through")


@both
async def test_a_crash_at_any_two_points_never_makes_two_agents(version: ApiVersion) -> None:
    for first in range(1, 20):
        for second in range(1, 20):
            async with world(version) as w:
                await w.create(make_task("a", max_retries=0))
                ticket = await w.ticket()
                await launch_and_die(w, ticket, first)
                await launch_and_die(w, ticket, second)
                await w.launch(ticket)
                assert_one_agent_at_most(w)
                assert await w.known_agents() == list(w.provider.agents)


async def launch_and_die(w: World, ticket: Ticket, point: int) -> bool:
    """False if it got through before it came to that point."""
    left = point

    async def pass_by() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Died

    async def live_on() -> None:
        return

    w.pass_by(pass_by)
    with suppress(Died):
        await w.launch(ticket)
    w.pass_by(live_on)
    w.restart()
    return left <= 0


def assert_one_agent_at_most(w: World) -> None:
    assert len(w.provider.agents) <= 1
    assert len({request.agent_id for request in w.provider.requests}) <= 1
    if w.provider.version == "v0":
        assert len(w.provider.requests) <= 1 + w.provider.refused


async def test_on_v0_a_crash_after_a_throttle_does_not_lead_to_a_second_create() -> None:
    """The process that comes back cannot know that the create was refused."""
    async with world("v0") as w:
        await w.create(make_task("a", max_retries=0))
        ticket = await w.ticket()
        w.provider.before_create = [THROTTLED]

        async def die() -> None:
            raise Died

        w.while_asleep = [die]
        with pytest.raises(Died):
            await w.launch(ticket)
        w.restart()
        await w.launch(ticket)
        assert len(w.provider.requests) == 1
        assert [event.failure.code for event in await w.events() if isinstance(event, AttemptFailed)] == [
            "NETWORK_ERROR"
        ]


# Odds and ends


def started(ticket: Ticket) -> StartAttempt:
    return StartAttempt(attempt_id=ticket.attempt_id, agent_id="bc-chosen", api_version="v1", branch_name="cursor/a")


def step_then_raise(step: Hook, error: ProviderError) -> Hook:
    async def do() -> None:
        await step()
        raise error

    return do


async def _wait(event: asyncio.Event) -> None:
    await event.wait()

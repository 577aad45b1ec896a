"""An attempt that continues an agent tells it once what to do, whatever crashes or stays unanswered."""

from contextlib import suppress
from datetime import timedelta

import pytest

from services.dispatcher import launcher as launcher_module
from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion
from shared.domain.commands import (
    CancelOrchestration,
    FollowUp,
    PauseOrchestration,
    RejectAttempt,
    ResumeOrchestration,
    Tick,
)
from shared.domain.events import AgentStatus, AttemptStarted, Failure, OrchestrationStatus, TaskStatus
from shared.domain.state import Attempt, Phase
from shared.messages import Ticket
from tests.unit.dispatcher.scripted import (
    ARCHIVED,
    BUSY,
    GONE,
    LEFT_ALONE,
    MOVED,
    NO_KEY,
    NO_MONEY,
    THROTTLED,
    UNANSWERED,
    UNAVAILABLE,
    snapshot,
)
from tests.unit.dispatcher.world import SETTLE, START, World, make_task, world

VERSIONS: list[ApiVersion] = ["v0", "v1"]
both = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_module, "_SLOT_WAIT_SECONDS", 0.02)


async def end(w: World, status: AgentStatus) -> Attempt:
    """The agent of the attempt under way is seen to have ended."""
    attempt = await w.attempt()
    assert attempt.agent_id is not None
    w.provider.agents[attempt.agent_id] = snapshot(attempt.agent_id, status, run_id=attempt.run_id)
    await w.observe(status)
    await w.slots.release(Ticket("team-1", "orc-1", attempt.attempt_id))
    return await w.attempt()


async def paused(w: World) -> Attempt:
    """The agent of the only task was stopped by a pause; gives its attempt."""
    await w.create(make_task("a", timeout_minutes=600))
    await w.launch()
    await w.do(PauseOrchestration())
    return await end(w, AgentStatus.STOPPED)


async def resumed(w: World) -> Attempt:
    """The second attempt, queued to continue the agent of the first."""
    first = await paused(w)
    await w.do(ResumeOrchestration())
    second = await w.attempt()
    assert second.number == 2
    assert second.continues is not None
    assert second.continues.agent_id == first.agent_id
    return second


# The smooth course


@both
async def test_what_was_stopped_by_a_pause_goes_on_with_the_same_agent(version: ApiVersion) -> None:
    async with world(version) as w:
        await resumed(w)
        await w.launch()
        first, second = (await w.task()).attempts
        assert second.phase is Phase.CREATED
        assert second.agent_id == first.agent_id
        assert second.branch_name == first.branch_name
        assert (len(w.provider.requests), w.provider.follow_ups) == (1, 1)
        [(agent_id, prompt)] = w.provider.told
        assert agent_id == first.agent_id
        assert prompt.startswith("Continue where you were stopped: Task a\n")
        assert await w.holders() == [await w.ticket()]
        if version == "v1":
            assert second.run_id == "run-2"


@both
async def test_a_follow_up_by_the_user_tells_their_words(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        await w.launch()
        first = await end(w, AgentStatus.FINISHED)
        assert (await w.state()).status is OrchestrationStatus.COMPLETED
        await w.do(FollowUp(attempt_id=first.attempt_id, prompt="Now write the tests."))
        await w.launch()
        [(agent_id, prompt)] = w.provider.told
        assert agent_id == first.agent_id
        assert prompt.startswith("Now write the tests.\n")
        assert (await w.attempt()).phase is Phase.CREATED
        assert len(w.provider.requests) == 1


@both
async def test_a_follow_up_that_failed_tells_the_same_agent_the_same_words_again(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        await w.launch()
        first = await end(w, AgentStatus.FINISHED)
        await w.do(FollowUp(attempt_id=first.attempt_id, prompt="Now write the tests."))
        await w.launch()
        await end(w, AgentStatus.FAILED)
        w.clock.advance(timedelta(minutes=2))
        await w.do(Tick())
        await w.launch()
        assert [agent_id for agent_id, _ in w.provider.told] == [first.agent_id] * 2
        once, again = (prompt for _, prompt in w.provider.told)
        assert once.startswith("Now write the tests.\n")
        assert again.startswith("Now write the tests.\n")
        assert once != again, "each can be recognised"
        assert len(w.provider.requests) == 1


async def test_no_agent_is_told_the_same_twice_though_it_is_continued_twice() -> None:
    async with world("v0") as w:
        await resumed(w)
        await w.launch()
        await w.do(PauseOrchestration())
        await end(w, AgentStatus.STOPPED)
        await w.do(ResumeOrchestration())
        await w.launch()
        assert (await w.attempt()).number == 3
        assert len({prompt for _, prompt in w.provider.told}) == 2
        assert len({agent_id for agent_id, _ in w.provider.told}) == 1


async def test_the_link_to_the_agent_is_kept() -> None:
    async with world("v1") as w:
        await w.create(make_task("a", timeout_minutes=600))

        async def show() -> None:
            for agent_id, agent in w.provider.agents.items():
                w.provider.agents[agent_id] = snapshot(agent_id, run_id=agent.run_id, url="https://cursor.com/a")

        w.provider.after_create = [show]
        await w.launch()
        await w.do(PauseOrchestration())
        await end(w, AgentStatus.STOPPED)
        await w.do(ResumeOrchestration())
        await w.launch()
        assert (await w.attempt()).url == "https://cursor.com/a"


# Refusals


@both
@pytest.mark.parametrize("error", [THROTTLED, UNAVAILABLE, BUSY, LEFT_ALONE])
async def test_what_passes_is_waited_for_and_costs_nothing(version: ApiVersion, error: ProviderError) -> None:
    async with world(version) as w:
        await resumed(w)
        w.provider.before_follow_up = [error] * 3
        await w.launch()
        assert (w.provider.follow_ups, len(w.provider.told)) == (4, 1)
        assert (await w.attempt()).phase is Phase.CREATED
        assert (await w.task()).retry_count == 0


async def test_a_busy_agent_is_not_asked_all_the_time() -> None:
    async with world("v1") as w:
        await resumed(w)
        w.provider.before_follow_up = [BUSY] * 60
        began = w.clock.now()
        await w.launch()
        assert w.clock.now() - began > timedelta(minutes=27), "the least that the dice allow"


async def told_more(w: World) -> str:
    """The user told the agent more, whose task had ended; it was archived in between."""
    await w.create()
    await w.launch()
    first = await end(w, AgentStatus.FINISHED)
    assert first.agent_id is not None
    await w.provider.archive(first.agent_id)
    await w.do(FollowUp(attempt_id=first.attempt_id, prompt="More"))
    return first.agent_id


async def test_an_archived_agent_is_brought_back_before_it_goes_on() -> None:
    async with world("v1") as w:
        agent_id = await told_more(w)
        await w.launch()
        assert w.provider.unarchives == [agent_id]
        assert [told for told, _ in w.provider.told] == [agent_id]
        assert (await w.attempt()).phase is Phase.CREATED
        assert w.waits == []


@pytest.mark.parametrize("error", [UNANSWERED, THROTTLED, UNAVAILABLE, MOVED])
async def test_an_agent_that_cannot_be_brought_back_yet_is_not_given_up(error: ProviderError) -> None:
    """Whether the agent was brought back is not known, but it is known that it was told nothing."""
    async with world("v1") as w:
        agent_id = await told_more(w)
        w.provider.on_unarchive = [error, error]
        await w.launch()
        assert w.provider.unarchives == [agent_id] * 3
        assert [told for told, _ in w.provider.told] == [agent_id]
        assert w.clock.now() - START < timedelta(minutes=1)
        assert w.provider.looked_for == []


@pytest.mark.parametrize("error", [GONE, NO_KEY])
async def test_an_agent_that_may_not_be_brought_back_is_gone(error: ProviderError) -> None:
    async with world("v1") as w:
        await told_more(w)
        w.provider.on_unarchive = [error]
        await w.launch()
        task = await w.task()
        assert task.failure is not None
        assert task.failure.code == "AGENT_GONE"
        assert w.provider.told == []


@both
@pytest.mark.parametrize("reason", ["archived", "deleted"])
async def test_an_agent_that_cannot_go_on_makes_room_for_a_new_one_at_no_cost(version: ApiVersion, reason: str) -> None:
    async with world(version) as w:
        second = await resumed(w)
        if reason == "archived":
            w.provider.before_follow_up = [ARCHIVED]
            w.provider.on_unarchive = [GONE]
        else:
            w.provider.agents.clear()
        await w.launch()
        task = await w.task()
        assert (task.retry_count, task.failure) == (0, None)
        assert task.attempts[1].ending == "WITHDRAWN"
        assert await w.holders() == []
        third = await w.attempt()
        assert third.continues is None
        await w.launch()
        assert (await w.attempt()).phase is Phase.CREATED
        assert len(w.provider.requests) == 2
        assert w.provider.told == []
        assert third.attempt_id != second.attempt_id


async def test_an_agent_of_another_version_is_not_continued() -> None:
    async with world("v0") as w:
        await resumed(w)
        w.provider.version = "v1"
        await w.launch()
        assert w.provider.follow_ups == 0
        assert (await w.attempt()).continues is None
        await w.launch()
        assert (await w.attempt()).api_version == "v1"


@both
async def test_a_follow_up_of_the_user_to_an_agent_that_is_gone_fails_and_says_why(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        await w.launch()
        first = await end(w, AgentStatus.FINISHED)
        await w.do(FollowUp(attempt_id=first.attempt_id, prompt="More"))
        w.provider.agents.clear()
        await w.launch()
        task = await w.task()
        assert task.status is TaskStatus.FAILED
        assert task.failure is not None
        assert task.failure.code == "AGENT_GONE"
        assert len(w.provider.requests) == 1


@both
async def test_a_refusal_for_good_fails_the_task_with_its_reason(version: ApiVersion) -> None:
    async with world(version) as w:
        await resumed(w)
        w.provider.before_follow_up = [NO_MONEY]
        await w.launch()
        failure = (await w.task()).failure
        assert failure is not None
        assert failure.code == "QUOTA_EXCEEDED"
        assert w.provider.follow_ups == 1


# Unknown outcomes


@both
async def test_a_follow_up_that_comes_up_after_its_attempt_was_given_up_stops_nothing_but_its_own_run(
    version: ApiVersion,
) -> None:
    """On v0 nothing tells whether the agent does what it was told then, or what it was told since."""
    async with world(version) as w:
        second = await resumed(w)
        failure = Failure(code="NETWORK_ERROR", message="no trace")

        async def give_up() -> None:
            await w.do(RejectAttempt(attempt_id=second.attempt_id, failure=failure))

        async def stopped() -> None:
            w.provider.agents.clear()

        w.provider.before_follow_up = [give_up]
        w.provider.on_stop = [stopped]
        w.provider.stops.clear()
        await w.launch()
        assert len(w.provider.told) == 1
        assert [run_id for _, run_id in w.provider.stops] == ([] if version == "v0" else ["run-2"])


@both
async def test_a_follow_up_that_took_effect_without_an_answer_is_not_sent_again(version: ApiVersion) -> None:
    async with world(version) as w:
        await resumed(w)
        w.provider.after_follow_up = [UNANSWERED]
        await w.launch()
        assert (w.provider.follow_ups, len(w.provider.told)) == (1, 1)
        assert (await w.attempt()).phase is Phase.CREATED


@both
async def test_who_stood_still_so_long_that_another_may_have_the_ticket_looks_before_it_asks(
    version: ApiVersion,
) -> None:
    async with world(version) as w:
        await resumed(w)
        stood_still = False

        async def stand_still_once_started() -> None:
            nonlocal stood_still
            started = [event for event in await w.events() if isinstance(event, AttemptStarted)]
            if len(started) == 2 and not stood_still:
                stood_still = True
                w.clock.advance(timedelta(minutes=1))

        w.log.passing = stand_still_once_started
        await w.launch()
        assert w.provider.looked_for
        assert w.provider.follow_ups == 1
        assert sum(w.waits) >= SETTLE.total_seconds()
        assert (await w.attempt()).phase is Phase.CREATED


@both
async def test_without_a_trace_it_is_sent_again_only_after_the_settle_time(version: ApiVersion) -> None:
    async with world(version) as w:
        await resumed(w)
        asked = w.clock.now()
        again: list[timedelta] = []

        async def note() -> None:
            again.append(w.clock.now() - asked)

        w.provider.before_follow_up = [UNANSWERED, note]
        await w.launch()
        assert (w.provider.follow_ups, len(w.provider.told)) == (2, 1)
        assert again[0] >= SETTLE
        attempt = await w.attempt()
        assert (attempt.number, attempt.phase) == (2, Phase.CREATED)
        assert len(w.provider.looked_for) <= 20


@both
async def test_a_look_that_fails_settles_nothing_about_a_follow_up(version: ApiVersion) -> None:
    async with world(version) as w:
        await resumed(w)
        w.provider.after_follow_up = [UNANSWERED]
        w.provider.on_find_follow_up = [UNAVAILABLE] * 30
        await w.launch()
        assert (w.provider.follow_ups, len(w.provider.looked_for)) == (1, 31)
        assert (await w.attempt()).phase is Phase.CREATED


@both
async def test_an_agent_that_is_gone_after_an_unknown_outcome_is_not_waited_for(version: ApiVersion) -> None:
    async with world(version) as w:
        await resumed(w)
        w.provider.before_follow_up = [UNANSWERED]
        w.provider.agents.clear()
        began = w.clock.now()
        await w.launch()
        assert (await w.attempt()).continues is None
        assert w.clock.now() - began < SETTLE


async def test_the_run_before_is_known_although_the_newest_attempt_never_got_one() -> None:
    async with world("v1") as w:
        await w.create()
        await w.launch()
        first = await end(w, AgentStatus.FINISHED)
        await w.do(FollowUp(attempt_id=first.attempt_id, prompt="More"))
        w.provider.before_follow_up = [NO_MONEY, UNANSWERED]
        await w.launch()
        await w.do(FollowUp(attempt_id=first.attempt_id, prompt="More"))
        await w.launch()
        assert {after for _, _, after in w.provider.looked_for} == {"run-1"}
        assert (await w.attempt()).run_id == "run-2"


# Stops


@both
async def test_a_pause_while_the_follow_up_is_unknown_is_carried_out_when_it_is_known(version: ApiVersion) -> None:
    async with world(version) as w:
        await resumed(w)
        w.provider.after_follow_up = [UNANSWERED]
        w.provider.on_find_follow_up = [UNAVAILABLE] * 5

        async def pause() -> None:
            await w.do(PauseOrchestration())

        w.while_asleep = [pause]
        await w.launch()
        attempt = await w.attempt()
        assert (attempt.phase, attempt.stop_reason) == (Phase.CREATED, "PAUSE")
        assert w.provider.follow_ups == 1


@both
async def test_a_cancel_before_a_follow_up_took_effect_ends_the_attempt_after_the_settle_time(
    version: ApiVersion,
) -> None:
    async with world(version) as w:
        await resumed(w)
        w.provider.before_follow_up = [UNANSWERED]
        lost = w.clock.now()

        async def cancel() -> None:
            await w.do(CancelOrchestration())
            assert (await w.state()).status is OrchestrationStatus.CANCELLING

        w.while_asleep = [cancel]
        await w.launch()
        assert (await w.state()).status is OrchestrationStatus.CANCELLED
        assert w.clock.now() - lost >= SETTLE
        assert (w.provider.follow_ups, w.provider.told) == (1, [])
        assert await w.holders() == []


@both
async def test_a_cancel_while_throttled_needs_no_follow_up(version: ApiVersion) -> None:
    async with world(version) as w:
        await resumed(w)
        w.provider.before_follow_up = [THROTTLED] * 100

        async def cancel() -> None:
            await w.do(CancelOrchestration())

        w.while_asleep = [cancel]
        await w.launch()
        assert (await w.state()).status is OrchestrationStatus.CANCELLED
        assert (w.provider.follow_ups, w.provider.told) == (1, [])


# Crashes


class Died(BaseException):
    """The process is gone."""


@both
@pytest.mark.parametrize("answers", [[], [UNANSWERED], [THROTTLED], [ARCHIVED]])
async def test_a_crash_at_any_point_never_tells_an_agent_twice(
    version: ApiVersion, answers: list[ProviderError]
) -> None:
    """Dies at the n-th point, comes back, and the ticket comes again; for every n until one run gets through."""
    for point in range(1, 200):
        async with world(version) as w:
            await resumed(w)
            w.provider.before_follow_up = list(answers)
            w.provider.on_unarchive = [GONE] * 3
            ticket = await w.ticket()
            died = await launch_and_die(w, ticket, point)
            await w.launch(ticket)
            assert len(w.provider.told) <= 1
            assert len(w.provider.requests) == 1
            _, second, *_ = (await w.task()).attempts
            if second.phase is Phase.CREATED:
                assert len(w.provider.told) == 1
                assert await w.holders() == [ticket]
            else:
                assert second.ending == "WITHDRAWN"
                assert w.provider.told == []
                assert answers == [ARCHIVED]
                assert await w.holders() == []
            assert (await w.task()).retry_count == 0
            if not died:
                assert point > 8, "it was meant to be killed at many points"
                return
    raise AssertionError("it never got through")


async def test_a_crash_while_an_archived_agent_is_brought_back_loses_nothing() -> None:
    for point in range(1, 200):
        async with world("v1") as w:
            await told_more(w)
            ticket = await w.ticket()
            died = await launch_and_die(w, ticket, point)
            await w.launch(ticket)
            assert len(w.provider.told) == 1
            assert (await w.attempt()).phase is Phase.CREATED
            if not died:
                assert point > 8, "it was meant to be killed at many points"
                return
    raise AssertionError("it never got through")


@both
async def test_a_crash_at_any_two_points_never_tells_an_agent_twice(version: ApiVersion) -> None:
    for first in range(1, 14):
        for second in range(1, 14):
            async with world(version) as w:
                await resumed(w)
                ticket = await w.ticket()
                await launch_and_die(w, ticket, first)
                await launch_and_die(w, ticket, second)
                await w.launch(ticket)
                assert len(w.provider.told) == 1
                assert (await w.attempt()).phase is Phase.CREATED


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

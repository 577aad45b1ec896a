"""The sweep stops what nobody follows any more, and tells what could not be read."""

import logging
from datetime import timedelta

import pytest

from services.monitor.ownership import Claim
from shared.command_handler import HistoryError
from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion
from shared.domain.commands import DeleteOrchestration, ObserveAgent, PauseOrchestration, ReportMissing
from shared.domain.events import AgentStatus, TaskStatus
from shared.envelope import Stored
from shared.jetstream.errors import UnreadableCommitError
from tests.unit.dispatcher.scripted import FAILED, GONE, KEY_GONE, UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM
from tests.unit.monitor.sweeping import OURS, mark_of, sweeping

both = pytest.mark.parametrize("version", ["v0", "v1"])


@both
async def test_an_agent_that_came_up_after_its_attempt_was_given_up_is_reported_and_stopped(
    version: ApiVersion, caplog: pytest.LogCaptureFixture
) -> None:
    async with sweeping(version) as s:
        attempt = await s.give_up()
        agent_id = s.show_late(url="https://cursor.com/agents/1")
        s.takes_effect()
        report = await s.sweep()
        [orphan] = report.orphans
        assert (orphan.agent_id, orphan.url, orphan.status) == (agent_id, "https://cursor.com/agents/1", "RUNNING")
        assert (orphan.orchestration_id, orphan.attempt_id) == (ORCHESTRATION, attempt.attempt_id)
        assert orphan.action == "stopped"
        assert (report.checked, report.ours, report.is_done) == (1, 1, True)
        assert s.provider.stops == [(agent_id, "run-1" if version == "v1" else None)]
        [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert (line.agent, line.url) == (agent_id, orphan.url)  # type: ignore[attr-defined]
        assert await s.actions() == [], "it is gone"


@both
async def test_it_is_told_to_stop_until_it_has_and_again_at_the_next_sweep(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()
        s.provider.on_stop = [FAILED, None, FAILED]
        report = await s.sweep()
        assert [(orphan.agent_id, orphan.action) for orphan in report.orphans] == [(agent_id, "stopping")]
        assert not report.is_done
        assert s.stopped == [agent_id] * 3
        s.provider.on_stop = [FAILED]
        s.takes_effect()
        assert await s.actions() == [(agent_id, "stopped")]


@both
async def test_a_stop_that_failed_and_took_effect_all_the_same_is_not_repeated(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()

        async def fail_after_all() -> None:
            s.show(agent_id, AgentStatus.STOPPED)
            raise FAILED

        s.provider.on_stop = [fail_after_all]
        assert await s.actions() == [(agent_id, "stopped")]
        assert s.stopped == [agent_id]


@both
@pytest.mark.parametrize("gone", [True, False])
async def test_one_that_has_ended_by_the_second_look_is_no_orphan(version: ApiVersion, gone: bool) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()

        async def end() -> None:
            if gone:
                del s.provider.agents[agent_id]
            else:
                s.show(agent_id, AgentStatus.FINISHED)

        s.while_asleep = [end]
        assert await s.actions() == []
        assert s.stopped == []


@both
async def test_the_agent_of_a_deleted_orchestration_is_stopped(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        await s.w.do(DeleteOrchestration())
        assert (await s.w.state()).deleted
        agent_id = s.show_late()
        s.takes_effect()
        assert await s.actions() == [(agent_id, "stopped")]


@both
async def test_one_that_was_gone_when_it_was_to_stop_and_came_back_is_stopped(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.w.launch()
        await s.w.do(PauseOrchestration())
        attempt = await s.w.attempt()
        gone = {"status": AgentStatus.STOPPED, "provider_status": "agent_not_found", "source": "poll"}
        await s.w.do(
            ObserveAgent.model_validate({"attempt_id": attempt.attempt_id, "agent_id": attempt.agent_id, **gone})
        )
        assert not (await s.w.attempt()).is_active
        s.show(attempt.agent_id or "", run_id=attempt.run_id)
        s.takes_effect()
        assert await s.actions() == [(attempt.agent_id, "stopped")]


@both
async def test_one_that_was_lost_and_came_back_is_stopped_though_its_task_is_tried_again(version: ApiVersion) -> None:
    async with sweeping(version, max_retries=3) as s:
        await s.w.launch()
        attempt = await s.w.attempt()
        missing = {"attempt_id": attempt.attempt_id, "agent_id": attempt.agent_id, "provider_code": "agent_not_found"}
        for _ in range(3):
            await s.w.do(ReportMissing.model_validate({**missing, "source": "poll"}))
            s.w.clock.advance(timedelta(minutes=5))
        s.show(attempt.agent_id or "", run_id=attempt.run_id)
        s.takes_effect()
        assert await s.actions() == [(attempt.agent_id, "stopped")]
        assert (await s.w.task()).status is TaskStatus.PENDING


async def test_a_run_that_was_asked_for_and_never_heard_of_is_stopped_and_not_the_one_before() -> None:
    """The follow-up took effect after it had been given up."""
    async with sweeping() as s:
        attempt = await s.give_up_follow_up()
        s.show(attempt.agent_id or "", run_id="run-2", created_at=(attempt.started_at or START) + timedelta(seconds=9))
        s.takes_effect()
        assert await s.actions() == [(attempt.agent_id, "stopped")]
        assert s.provider.stops == [(attempt.agent_id, "run-2")]


async def test_on_v0_an_agent_that_works_on_a_follow_up_that_was_given_up_is_stopped() -> None:
    async with sweeping("v0") as s:
        attempt = await s.give_up_follow_up()
        s.show(attempt.agent_id or "")
        s.said("Task 1 of 1: Task a", "Look again", mark_of(attempt))
        s.takes_effect()
        assert await s.actions() == [(attempt.agent_id, "stopped")]


@both
@pytest.mark.parametrize("error", [UNAVAILABLE, KEY_GONE])
async def test_one_that_cannot_be_read_hides_no_other_and_is_looked_at_again_soon(
    version: ApiVersion, error: ProviderError
) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()
        s.rows.more = [Claim(TEAM, ORCHESTRATION, "bc-odd", None)]
        s.show("bc-odd")
        answers = iter([error])

        async def get(agent: str, run_id: str | None) -> object:
            if failure := next(answers, None):
                raise failure
            return s.provider.agents[agent]

        s.provider.get = get  # type: ignore[assignment,method-assign]
        s.takes_effect()
        report = await s.sweep()
        assert [orphan.agent_id for orphan in report.orphans] == [agent_id]
        assert report.unread == 1
        assert not report.is_done


async def test_a_provider_that_answers_nothing_any_more_ends_the_sweep() -> None:
    async with sweeping() as s:
        await s.give_up()
        for number in range(5):
            agent_id = f"bc-{number}"
            s.rows.more.append(Claim(TEAM, ORCHESTRATION, agent_id, None))
            s.show(agent_id)
        s.provider.gets = [UNAVAILABLE]
        with pytest.raises(ProviderError):
            await s.sweep()
        assert len(s.provider.reads) == 3


@pytest.mark.parametrize("error", [UnreadableCommitError(7, "evt", "unknown"), HistoryError("a gap")])
async def test_an_orchestration_whose_history_cannot_be_read_hides_no_other(error: Exception) -> None:
    """As while a newer release writes what this one does not know."""
    async with sweeping() as s:
        await s.give_up()
        s.rows.more = [Claim(TEAM, "newer", "bc-newer", None)]
        s.rows.also_live = [(TEAM, "newer")]
        s.show_late()
        s.show("bc-newer")
        s.takes_effect()
        read = s.w.log.read

        async def read_some(team: str, aggregate: str, *, after: int = 0) -> list[Stored]:
            if aggregate == "newer":
                raise error
            return await read(team, aggregate, after=after)

        s.w.log.read = read_some  # type: ignore[method-assign]
        report = await s.sweep()
        assert [(orphan.agent_id, orphan.action) for orphan in report.orphans] == [(OURS, "stopped")]
        assert (report.unread, report.is_done) == (1, False)


@both
async def test_one_that_cannot_be_read_again_is_not_stopped_on_the_first_look_alone(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()

        async def go_away() -> None:
            s.provider.gets = [UNAVAILABLE]

        s.while_asleep = [go_away]
        assert await s.actions() == [(agent_id, "stopping")]
        assert s.stopped == []


async def test_an_agent_that_is_gone_when_it_is_read_is_no_orphan() -> None:
    async with sweeping() as s:
        await s.give_up()
        s.show()
        s.provider.gets = [GONE]
        assert (await s.sweep()).orphans == ()

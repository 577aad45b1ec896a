"""The sweep stops what nobody follows any more, and never what is not ours."""

import logging
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from services.monitor.ownership import Claim
from services.monitor.turns import Turns
from shared.command_handler import HistoryError
from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion
from shared.domain.commands import (
    DeleteOrchestration,
    FollowUp,
    ObserveAgent,
    PauseOrchestration,
    RecordAgent,
    RejectAttempt,
    ReportMissing,
    ResumeOrchestration,
    StartAttempt,
)
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.domain.state import Attempt
from shared.envelope import Stored
from shared.jetstream.errors import PublishUnavailableError, UnreadableCommitError
from shared.memory import MemoryKeyValue
from tests.unit.dispatcher.scripted import GONE, THROTTLED, UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM
from tests.unit.monitor.sweeping import LOST, OURS, Sweeping, mark_of, sweeping

both = pytest.mark.parametrize("version", ["v0", "v1"])
FAILED = ProviderError("internal_error", "", status=500, retryable=True, outcome_known=False)


# What is stopped


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
        attempt = await followed_up_without_a_trace(s)
        s.show(attempt.agent_id or "", run_id="run-2", created_at=(attempt.started_at or START) + timedelta(seconds=9))
        s.takes_effect()
        assert await s.actions() == [(attempt.agent_id, "stopped")]
        assert s.provider.stops == [(attempt.agent_id, "run-2")]


async def test_on_v0_an_agent_that_works_on_a_follow_up_that_was_given_up_is_stopped() -> None:
    async with sweeping("v0") as s:
        attempt = await followed_up_without_a_trace(s)
        s.show(attempt.agent_id or "")
        s.said("Task 1 of 1: Task a", "Look again", mark_of(attempt))
        s.takes_effect()
        assert await s.actions() == [(attempt.agent_id, "stopped")]


async def followed_up_without_a_trace(s: Sweeping) -> Attempt:
    """The newest attempt, which was to go on with the agent of the first and ended without our knowing of a run."""
    await s.w.launch()
    first = await s.end()
    await s.w.do(FollowUp(attempt_id=first.attempt_id, prompt="More."))
    s.w.clock.advance(timedelta(minutes=30))
    second = await s.w.attempt()
    version = s.provider.version
    await s.w.do(
        StartAttempt(
            attempt_id=second.attempt_id,
            agent_id=first.agent_id or "",
            api_version=version,
            branch_name=first.branch_name or "",
        )
    )
    await s.w.do(RejectAttempt(attempt_id=second.attempt_id, failure=LOST))
    return await s.w.attempt()


# What is left alone


@both
async def test_the_agents_of_others_are_left_alone(version: ApiVersion) -> None:
    """Of a person, of another installation, and whatever they have that looks like ours."""
    async with sweeping(version) as s:
        attempt = await s.give_up()
        s.show("bc-person", branch="cursor/fix-the-login-1a2b")
        s.show("bc-nameless", branch=None)
        s.show("bc-other-installation", branch="cursor/task-a-0123456789ab")
        s.show("bc-ours-too", branch=f"{attempt.branch_name}-2")
        report = await s.sweep()
        assert (report.checked, report.ours, report.orphans) == (4, 0, ())
        assert s.stopped == []
        assert s.provider.reads == [], "nobody's business"


async def test_on_v0_who_works_on_our_branch_earlier_or_later_is_somebody_else() -> None:
    async with sweeping("v0") as s:
        s.show("bc-before", branch="cursor/a", created_at=s.now - timedelta(minutes=6))
        await s.give_up()
        s.w.clock.advance(timedelta(minutes=11))
        s.show("bc-after", branch="cursor/a")
        s.show("bc-whenever", branch="cursor/a", created_at=None)
        s.show("bc-elsewhere", branch="cursor/a", created_at=START)
        s.provider.repositories_of["bc-elsewhere"] = "https://github.com/acme/other"
        assert await s.actions() == []
        assert s.stopped == []


async def test_on_v0_once_an_agent_is_known_no_other_is_taken_for_it() -> None:
    async with sweeping("v0") as s:
        await s.w.launch()
        attempt = await s.end()
        s.show(attempt.agent_id or "", AgentStatus.FINISHED)
        s.show("bc-person", branch=attempt.branch_name, created_at=attempt.started_at)
        assert await s.actions() == []
        assert s.provider.reads == []


@both
async def test_an_attempt_under_way_keeps_its_agent_at_every_step(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        attempt = await s.start()
        agent_id = s.show_late()
        assert await s.actions() == []
        await s.w.do(RecordAgent(attempt_id=attempt.attempt_id, agent_id=agent_id, **RUNNING))
        assert await s.actions() == []
        await s.w.do(PauseOrchestration())
        assert await s.actions() == []
        await s.end(AgentStatus.STOPPED)
        await s.w.do(ResumeOrchestration())
        assert (await s.w.attempt()).continues is not None
        assert await s.actions() == [], "it is about to go on"
        assert s.stopped == []


RUNNING: dict[str, Any] = {"run_id": "run-1", "status": AgentStatus.RUNNING, "provider_status": "RUNNING"}


@both
async def test_an_agent_is_left_alone_that_an_attempt_takes_up_between_the_two_looks(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        attempt = await followed_up_without_a_trace(s)
        s.show(attempt.agent_id or "", created_at=attempt.started_at, run_id="run-2" if version == "v1" else None)
        s.said("Task 1 of 1: Task a", mark_of(attempt))
        assert await s.actions(dry_run=True) == [(attempt.agent_id, "would_stop")]

        async def go_on() -> None:
            await s.w.do(FollowUp(attempt_id=(await s.w.task()).attempts[0].attempt_id, prompt="Once more."))

        s.while_asleep = [go_on]
        assert await s.actions() == []
        assert s.stopped == []


async def test_an_agent_is_left_alone_that_an_attempt_takes_up_while_it_is_looked_at() -> None:
    async with sweeping() as s:
        attempt = await followed_up_without_a_trace(s)
        s.show(attempt.agent_id or "", created_at=attempt.started_at, run_id="run-2")
        looks = 0

        async def go_on_at_the_second_look(*_: object) -> object:
            nonlocal looks
            looks += 1
            if looks == 3:
                await s.w.do(FollowUp(attempt_id=(await s.w.task()).attempts[0].attempt_id, prompt="Once more."))
            return s.provider.agents[attempt.agent_id or ""]

        s.provider.get = go_on_at_the_second_look  # type: ignore[assignment,method-assign]
        assert await s.actions() == []
        assert looks == 4
        assert s.stopped == []


@both
@pytest.mark.parametrize("who", ["an attempt", "a person"])
async def test_who_goes_on_with_an_agent_that_was_just_stopped_is_not_stopped_too(
    version: ApiVersion, who: str
) -> None:
    async with sweeping(version) as s:
        attempt = await followed_up_without_a_trace(s)
        began, run_id = attempt.started_at or START, "run-2" if version == "v1" else None
        agent_id = s.show(attempt.agent_id or "", created_at=began, run_id=run_id)
        s.said("Task 1 of 1: Task a", mark_of(attempt))

        async def nothing() -> None:
            return

        async def go_on() -> None:
            if who == "an attempt":
                await s.w.do(FollowUp(attempt_id=(await s.w.task()).attempts[0].attempt_id, prompt="Once more."))
            else:
                s.w.clock.advance(timedelta(hours=1))
                s.show(agent_id, run_id="run-3" if version == "v1" else None)
                s.said("Task 1 of 1: Task a", mark_of(attempt), "Now the colours.")

        s.while_asleep = [nothing, go_on]
        assert await s.actions() == [(agent_id, "stopped")]
        assert s.stopped == [agent_id]


async def test_one_of_which_nothing_is_heard_after_the_stop_is_not_said_to_have_stopped() -> None:
    async with sweeping() as s:
        await s.give_up()
        s.show()

        async def go_away() -> None:
            s.provider.gets = [UNAVAILABLE]

        s.provider.on_stop = [go_away]
        assert await s.actions() == [(OURS, "stopping")]
        assert s.stopped == [OURS]


async def test_a_run_that_a_person_started_on_an_agent_of_ours_is_reported_and_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with sweeping() as s:
        await s.w.launch()
        attempt = await s.end()
        s.w.clock.advance(timedelta(minutes=1))
        s.show(attempt.agent_id or "", run_id="run-of-a-person")
        report = await s.sweep()
        assert [(orphan.agent_id, orphan.action) for orphan in report.orphans] == [(attempt.agent_id, "left")]
        assert report.is_done, "nothing is to be done about it"
        assert s.stopped == []
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("words", [["Task 1 of 1: Task a", "Now the colours, please."], []])
async def test_on_v0_an_agent_that_works_on_the_words_of_a_person_is_left_alone(words: list[str]) -> None:
    async with sweeping("v0") as s:
        await s.w.launch()
        attempt = await s.end()
        s.show(attempt.agent_id or "")
        s.said(*words)
        assert await s.actions() == [(attempt.agent_id, "left")]
        assert s.stopped == []


async def test_on_v0_what_a_person_told_after_a_follow_up_of_ours_is_left_alone() -> None:
    async with sweeping("v0") as s:
        attempt = await followed_up_without_a_trace(s)
        s.show(attempt.agent_id or "")
        s.said("Task 1 of 1: Task a", mark_of(attempt), "Now the colours, please.")
        assert await s.actions() == [(attempt.agent_id, "left")]


@pytest.mark.parametrize(("minutes", "action"), [(-5, "stopped"), (1, "left")])
async def test_of_an_agent_that_was_followed_by_v0_a_run_is_ours_if_it_began_before_its_end_was_seen(
    minutes: float, action: str
) -> None:
    """v0 names no runs; by now this installation speaks v1."""
    async with sweeping("v0") as s:
        await s.w.launch()
        s.w.clock.advance(timedelta(minutes=10))
        attempt = await s.end()
        s.provider.version = "v1"
        s.show(attempt.agent_id or "", run_id="run-1", created_at=s.now + timedelta(minutes=minutes))
        s.takes_effect()
        assert await s.actions() == [(attempt.agent_id, action)]


async def test_a_row_that_lags_claims_no_agent_for_an_attempt_that_has_another() -> None:
    async with sweeping("v0") as s:
        await s.w.launch()
        attempt = await s.end()
        s.show(attempt.agent_id or "", AgentStatus.FINISHED)
        s.rows.more = [Claim(TEAM, ORCHESTRATION, None, attempt.branch_name)]
        s.show("bc-person", branch=attempt.branch_name, created_at=attempt.started_at)
        report = await s.sweep()
        assert (report.ours, report.orphans) == (1, ())
        assert s.stopped == []


async def test_another_run_of_ours_than_at_the_first_look_is_not_stopped_on_one_look() -> None:
    async with sweeping() as s:
        await s.give_up()
        s.show()

        async def another() -> None:
            s.show(run_id="run-2")

        s.while_asleep = [another]
        report = await s.sweep()
        assert [orphan.action for orphan in report.orphans] == ["stopping"]
        assert s.stopped == []
        assert not report.is_done, "the next look is soon"
        s.takes_effect()
        assert await s.actions() == [(OURS, "stopped")]


@both
async def test_what_a_person_starts_between_the_two_looks_is_left_alone(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()

        async def tell_it_more() -> None:
            s.w.clock.advance(timedelta(minutes=30))
            s.show_late(run_id="run-of-a-person" if version == "v1" else None, created_at=START)
            if version == "v1":
                s.show_late(run_id="run-of-a-person", created_at=s.now)
            s.said("Task 1 of 1: Task a", "Now the colours, please.")

        s.while_asleep = [tell_it_more]
        assert await s.actions() == [(agent_id, "left")]
        assert s.stopped == []


async def test_a_run_whose_end_was_seen_is_not_read_again() -> None:
    """Older releases of the API list every agent as ACTIVE, and there are many that have ended."""
    async with sweeping() as s:
        await s.w.launch()
        attempt = await s.end()
        s.show(attempt.agent_id or "", run_id=attempt.run_id)
        report = await s.sweep()
        assert (report.ours, report.orphans) == (1, ())
        assert s.provider.reads == []


@both
@pytest.mark.parametrize("status", [AgentStatus.UNKNOWN, *(status for status in AgentStatus if status.is_terminal)])
async def test_what_is_not_known_to_be_at_work_is_no_orphan(version: ApiVersion, status: AgentStatus) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        s.show_late(status=status)
        assert await s.actions() == []


@both
async def test_what_the_rows_do_not_show_yet_is_nobodys_until_they_do(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()
        s.rows.hidden = True
        assert await s.actions() == []
        s.rows.hidden = False
        s.takes_effect()
        assert await s.actions() == [(agent_id, "stopped")]


async def test_what_the_rows_claim_and_the_log_does_not_know_is_left_to_people() -> None:
    async with sweeping() as s:
        s.rows.more = [Claim(TEAM, "of-a-log-that-was-lost", OURS, None)]
        s.show()
        [orphan] = (await s.sweep()).orphans
        assert (orphan.action, orphan.orchestration_id, orphan.attempt_id) == ("left", "of-a-log-that-was-lost", None)
        assert s.stopped == []


@both
async def test_a_sweep_of_another_team_touches_nothing_of_this_one(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()
        report = await s.sweep(team="another")
        assert (report.checked, report.ours, report.orphans, report.settled) == (1, 0, (), ())
        s.takes_effect()
        assert await s.actions(team=TEAM) == [(agent_id, "stopped")]


@both
async def test_who_only_wants_to_look_changes_nothing_and_waits_for_nothing(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()
        report = await s.sweep(dry_run=True)
        assert [(orphan.agent_id, orphan.action) for orphan in report.orphans] == [(agent_id, "would_stop")]
        assert report.dry_run
        assert (s.stopped, s.waits) == ([], [])


# The list


@both
async def test_every_page_is_looked_through_also_when_the_list_shifts_in_between(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()
        for number in range(250):
            s.show(f"bc-other-{number}")

        async def one_more() -> None:
            s.show("bc-new")

        s.provider.on_list = [None, one_more]
        s.takes_effect()
        report = await s.sweep()
        assert s.provider.pages == 3
        assert report.checked == 251, "each once; the newest one was not in the list when it began"
        assert [(orphan.agent_id, orphan.action) for orphan in report.orphans] == [(agent_id, "stopped")]


@both
async def test_of_a_list_that_breaks_off_nothing_is_believed(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        for number in range(150):
            s.show(f"bc-other-{number}")
        s.show_late()
        s.provider.on_list = [None, UNAVAILABLE]
        with pytest.raises(ProviderError):
            await s.sweep()
        assert s.stopped == []
        assert s.provider.reads == []


async def test_the_limit_of_calls_is_waited_for() -> None:
    async with sweeping() as s:
        await s.give_up()
        s.show()
        s.provider.on_list = [THROTTLED, replace_retry_after(None)]
        s.takes_effect()
        assert await s.actions() == [(OURS, "stopped")]
        assert s.waits[:2] == [7.0, 3.0]


def replace_retry_after(seconds: float | None) -> ProviderError:
    return ProviderError("rate_limit_exceeded", "slow down", status=429, retryable=True, retry_after=seconds)


async def test_a_limit_that_is_never_let_up_ends_the_sweep_and_a_bill_at_once() -> None:
    spent = ProviderError("rate_limit_exceeded", "You've used all", status=429, billing=True)
    async with sweeping() as s:
        for error, waits in ((THROTTLED, 30), (spent, 0)):
            s.provider.on_list = [error] * 100
            s.waits.clear()
            with pytest.raises(ProviderError):
                await s.sweep()
            assert len(s.waits) == waits


async def test_agents_of_long_ago_are_not_looked_through() -> None:
    async with sweeping() as s:
        for number in range(500):
            s.show(f"bc-old-{number}", created_at=s.now - timedelta(days=40 if number < 400 else 1))
        report = await s.sweep()
        assert (report.checked, s.provider.pages) == (200, 2)


async def test_a_list_without_an_end_ends(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("services.monitor.census._PAGES", 3)
    async with sweeping() as s:
        s.provider.page_size = 1
        for number in range(10):
            s.show(f"bc-{number}")
        assert (await s.sweep()).checked == 3
        assert "does not end" in caplog.text


# What cannot be read


@both
async def test_one_that_cannot_be_read_hides_no_other_and_is_looked_at_again_soon(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.give_up()
        agent_id = s.show_late()
        s.rows.more = [Claim(TEAM, ORCHESTRATION, "bc-odd", None)]
        s.show("bc-odd")
        answers = iter([UNAVAILABLE])

        async def get(agent: str, run_id: str | None) -> object:
            if error := next(answers, None):
                raise error
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


# Attempts without news


@both
async def test_an_attempt_without_news_is_read_and_its_end_is_seen(version: ApiVersion) -> None:
    async with sweeping(version) as s:
        await s.w.launch()
        await keep_followed(s)
        attempt = await s.w.attempt()
        s.show(attempt.agent_id or "", AgentStatus.FINISHED, run_id=attempt.run_id)
        s.w.clock.advance(timedelta(hours=1, minutes=59))
        assert (await s.sweep()).settled == ()
        assert (await s.w.task()).status is TaskStatus.PROCESSING
        s.w.clock.advance(timedelta(minutes=1))
        [settled] = (await s.sweep()).settled
        assert (settled.attempt_id, settled.agent_id, settled.action) == (attempt.attempt_id, attempt.agent_id, "ended")
        assert (await s.w.task()).status is TaskStatus.COMPLETED


@both
async def test_one_that_goes_on_working_is_no_news(version: ApiVersion) -> None:
    async with sweeping(version, timeout_minutes=1000) as s:
        await s.w.launch()
        attempt = await s.w.attempt()
        s.show(attempt.agent_id or "", AgentStatus.CREATING, run_id=attempt.run_id)
        await keep_followed(s)
        s.w.clock.advance(timedelta(hours=3))
        report = await s.sweep()
        assert (report.orphans, report.settled) == ((), ())
        assert len(s.provider.reads) == 1


@both
async def test_what_should_follow_it_is_put_back_should_it_be_lost(version: ApiVersion) -> None:
    async with sweeping(version, timeout_minutes=1000) as s:
        await s.w.launch()
        attempt = await s.w.attempt()
        s.show(attempt.agent_id or "", AgentStatus.CREATING, run_id=attempt.run_id)
        s.w.clock.advance(timedelta(hours=3))
        [settled] = (await s.sweep()).settled
        assert settled.action == "put_back"
        assert [message.subject for message in s.publisher.messages] == [f"watch.{version}.{attempt.attempt_id}"]
        assert (await s.sweep()).settled == ()


@pytest.mark.parametrize("started", [False, True])
async def test_a_ticket_that_was_lost_is_put_back(started: bool) -> None:
    """Also one of an attempt that has no slot yet, which the audit of the slots does not see."""
    async with sweeping() as s:
        attempt = await s.start() if started else await s.w.attempt()
        s.w.clock.advance(timedelta(hours=3))
        assert [settled.action for settled in (await s.sweep()).settled] == ["put_back"]
        assert [message.subject for message in s.publisher.messages] == [f"queue.medium.{attempt.attempt_id}"]


async def test_one_that_is_to_stop_is_followed_in_a_hurry_again() -> None:
    async with sweeping(timeout_minutes=1000) as s:
        await s.w.launch()
        await s.w.do(PauseOrchestration())
        attempt = await s.w.attempt()
        s.show(attempt.agent_id or "", run_id=attempt.run_id)
        s.w.clock.advance(timedelta(hours=3))
        assert [settled.action for settled in (await s.sweep()).settled] == ["put_back"]
        assert f"watch.v1-hurried.{attempt.attempt_id}" in [message.subject for message in s.publisher.messages]
        assert s.stopped == [attempt.agent_id]


async def test_one_that_cannot_be_read_is_said_to_be_so_and_stays_under_way() -> None:
    async with sweeping(timeout_minutes=1000) as s:
        await s.w.launch()
        await keep_followed(s)
        s.provider.gets = [UNAVAILABLE]
        s.w.clock.advance(timedelta(hours=3))
        assert [settled.action for settled in (await s.sweep()).settled] == ["not_read"]
        assert (await s.w.state()).status is OrchestrationStatus.ACTIVE


async def test_who_only_wants_to_look_reads_and_puts_back_nothing() -> None:
    async with sweeping(timeout_minutes=1000) as s:
        await s.w.launch()
        s.w.clock.advance(timedelta(hours=3))
        assert [settled.action for settled in (await s.sweep(dry_run=True)).settled] == ["would_read"]
        assert (s.provider.reads, s.publisher.messages) == ([], [])


async def keep_followed(s: Sweeping) -> None:
    """What follows the agent is in its queue."""
    limit, s.sweeper.quiet = s.sweeper.quiet, replace(s.sweeper.quiet, limit=timedelta(0))
    s.provider.gets = [s.provider.agents[(await s.w.attempt()).agent_id or ""]]
    await s.sweeper.quiet.settle(None, dry_run=False)
    s.provider.gets, s.provider.reads = [], []
    s.sweeper.quiet = limit


# Turns


async def test_of_two_that_look_one_sweeps_and_again_when_its_time_has_come() -> None:
    async with sweeping() as s:
        bucket, every = MemoryKeyValue(), timedelta(hours=1)
        one, other = Turns(bucket, s.w.clock, every), Turns(bucket, s.w.clock, every)
        assert [await one.take(), await other.take(), await one.take()] == [True, False, False]
        await one.again_in(every)
        s.w.clock.advance(timedelta(minutes=59))
        assert not await other.take()
        s.w.clock.advance(timedelta(minutes=1))
        assert [await other.take(), await one.take()] == [True, False]
        await one.again_in(timedelta(minutes=2))
        assert not await other.take()
        s.w.clock.advance(timedelta(minutes=2))
        assert await one.take()


async def test_the_turn_of_one_that_died_is_taken_by_another() -> None:
    async with sweeping() as s:
        bucket, every = MemoryKeyValue(), timedelta(hours=1)
        assert await Turns(bucket, s.w.clock, every).take()
        s.w.clock.advance(timedelta(minutes=9))
        assert not await Turns(bucket, s.w.clock, every).take()
        s.w.clock.advance(timedelta(minutes=1))
        assert await Turns(bucket, s.w.clock, every).take()


async def test_a_turn_that_a_wrong_clock_put_off_for_years_is_taken() -> None:
    async with sweeping() as s:
        bucket = MemoryKeyValue()
        s.w.clock.advance(timedelta(days=1000))
        assert await Turns(bucket, s.w.clock, timedelta(hours=1)).take()
        s.w.clock.advance(timedelta(days=-1000))
        assert await Turns(bucket, s.w.clock, timedelta(hours=1)).take()


class Enough(Exception):
    """The sweeper has slept often enough."""


async def swept(s: Sweeping, seconds: float) -> list[float]:
    """Let it sweep by the clock for so long; gives the moments of its looks at the list, in minutes."""
    looks: list[float] = []
    end = s.now + timedelta(seconds=seconds)

    async def look() -> None:
        looks.append(round((s.now - START) / timedelta(minutes=1), 1))

    async def enough() -> None:
        if s.now >= end:
            raise Enough

    s.provider.on_list = [look] * 1000
    s.while_asleep = [enough] * 10_000
    with pytest.raises(Enough):
        await s.sweeper.run(Turns(MemoryKeyValue(), s.w.clock, timedelta(hours=1)))
    return looks


async def test_it_sweeps_by_the_hour() -> None:
    async with sweeping() as s:
        looks = await swept(s, 4 * 3600)
        assert len(looks) == 4
        assert all(60 <= later - earlier < 63 for earlier, later in pairwise(looks))


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("away"), PublishUnavailableError("away"), RuntimeError("a defect")]
)
async def test_a_sweep_that_fails_is_repeated_soon(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async with sweeping() as s:
        s.rows.error = error
        s.show()
        looks = await swept(s, 1800)
        assert 6 <= len(looks) <= 15
        assert str(error) in caplog.text


async def test_what_has_not_stopped_yet_is_told_again_soon() -> None:
    async with sweeping() as s:
        await s.give_up()
        s.show()
        await swept(s, 1800)
        assert len(s.stopped) >= 12

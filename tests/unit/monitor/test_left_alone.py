"""The sweep never touches what is not ours, what an attempt has, or what works on somebody else's words."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from services.monitor.ownership import Claim
from shared.cursor.provider import ApiVersion
from shared.domain.commands import FollowUp, PauseOrchestration, RecordAgent, ResumeOrchestration
from shared.domain.events import AgentStatus
from tests.unit.dispatcher.scripted import UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM
from tests.unit.monitor.sweeping import OURS, mark_of, sweeping

both = pytest.mark.parametrize("version", ["v0", "v1"])


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
        attempt = await s.give_up_follow_up()
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
        attempt = await s.give_up_follow_up()
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
        attempt = await s.give_up_follow_up()
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
        attempt = await s.give_up_follow_up()
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

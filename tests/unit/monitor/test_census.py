"""The list of agents is read to its end, patiently, or not believed."""

from datetime import timedelta

import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentPage, ApiVersion
from tests.unit.dispatcher.scripted import THROTTLED, UNAVAILABLE
from tests.unit.monitor.sweeping import OURS, sweeping

both = pytest.mark.parametrize("version", ["v0", "v1"])


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


async def test_an_empty_page_is_not_the_end_of_the_list() -> None:
    async with sweeping() as s:
        await s.give_up()
        s.show()
        shown = (await s.provider.list_agents()).agents
        pages = {None: AgentPage((), "1"), "1": AgentPage(shown, None)}

        async def list_agents(cursor: str | None = None) -> AgentPage:
            return pages[cursor]

        s.provider.list_agents = list_agents  # type: ignore[method-assign]
        assert await s.actions(dry_run=True) == [(OURS, "would_stop")]


async def test_a_list_without_an_end_ends(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("services.monitor.census._PAGES", 3)
    async with sweeping() as s:
        s.provider.page_size = 1
        for number in range(10):
            s.show(f"bc-{number}")
        assert (await s.sweep()).checked == 3
        assert "does not end" in caplog.text

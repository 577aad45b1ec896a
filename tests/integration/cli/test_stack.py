"""A demo on a system that is told apart from the real one only by being small: starts, failures and interruptions."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cli import stack as cli_stack
from cli.actions.demo import how_followed, play
from cli.errors import StackFailedError, UsageError
from cli.stack import demo_settings, run_on_stack, with_stall_limit
from deploy.local.settings import LocalSettings
from deploy.local.up import Stack
from tests.integration.cli.fake_api import KEY, FakeApi, serving
from tests.unit.cli.story import Moment, all_completed, failed

SETTINGS = LocalSettings(data_dir=Path("somewhere"))
RunUp = Callable[..., Awaitable[int]]


def running(stack: Stack, stopped: list[str]) -> RunUp:
    """Stands in for the whole system: ready at once, and then as `run_up` promises."""

    async def run_up(
        settings: LocalSettings,
        *,
        on_ready: Callable[[Stack], Awaitable[object]],
        stop: asyncio.Event,
        say: Callable[[str], None],
    ) -> int:
        work = asyncio.ensure_future(on_ready(stack))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            await stop.wait()
        finally:
            for task in (work, stopping):
                task.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)
            stopped.append("all")
        return 0

    return run_up


def broken(code: int) -> RunUp:
    async def run_up(settings: LocalSettings, **_: object) -> int:
        return code

    return run_up


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Filled when everything has been stopped."""
    ends: list[str] = []
    somewhere = Stack("http://127.0.0.1:9", KEY, Path("somewhere"), Path("processes.json"), None)
    monkeypatch.setattr(cli_stack, "run_up", running(somewhere, ends))
    return ends


async def test_the_exit_code_is_that_of_the_work_and_all_is_stopped(stopped: list[str]) -> None:
    async def work(_: Stack) -> int:
        return 1

    assert await run_on_stack(SETTINGS, work, say=print) == 1
    assert stopped == ["all"]


async def test_an_error_of_the_work_passes_through_after_all_is_stopped(stopped: list[str]) -> None:
    async def work(_: Stack) -> int:
        raise UsageError("wrong file")

    with pytest.raises(UsageError, match="wrong file"):
        await run_on_stack(SETTINGS, work, say=print)
    assert stopped == ["all"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_stops_everything_in_order(stopped: list[str], number: signal.Signals, code: int) -> None:
    async def work(_: Stack) -> int:
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()
        return 0

    assert await run_on_stack(SETTINGS, work, say=print) == code
    assert stopped == ["all"]


async def test_a_system_that_does_not_start_is_said_so_with_the_place_of_its_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(_: Stack) -> int:
        return 0

    monkeypatch.setattr(cli_stack, "run_up", broken(1))
    with pytest.raises(StackFailedError, match="did not start; its logs are in somewhere/logs"):
        await run_on_stack(SETTINGS, work, say=print)
    monkeypatch.setattr(cli_stack, "run_up", broken(2))
    with pytest.raises(UsageError, match="nothing was started"):
        await run_on_stack(SETTINGS, work, say=print)


async def test_work_that_gets_stuck_is_given_up() -> None:
    with pytest.raises(StackFailedError, match=r"nothing has moved for 0\.05 s; the logs are in here"):
        await with_stall_limit(asyncio.sleep(60, 0), asyncio.Event(), seconds=0.05, logs=Path("here"))


async def test_work_that_moves_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    beat, now = asyncio.Event(), 0.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)

    async def work() -> int:
        nonlocal now
        for _ in range(8):
            now += 0.15
            beat.set()
            while beat.is_set():  # noqa: ASYNC110 - in a loop whose time stands still nothing is waited for
                await asyncio.sleep(0)
        return 7

    assert await with_stall_limit(work(), beat, seconds=0.2, logs=Path("here")) == 7


def test_a_demo_is_a_system_of_its_own() -> None:
    settings = demo_settings(
        {
            "CURSOR_API_KEY": "real",
            "DATABASE_URL": "postgres://prod",
            "NATS_URL": "nats://prod",
            "CURSOR_API_VERSION": "v0",
        }
    )
    assert (settings.simulates, settings.embeds_nats, settings.embeds_postgres) == (True, True, True)
    assert (settings.api_port, settings.simulator_port, settings.data_dir) == (0, 0, Path(".data/demo"))
    assert settings.environment["CURSOR_API_VERSION"] == "v0"


def test_a_demo_takes_the_ports_and_the_folder_that_are_set() -> None:
    settings = demo_settings({"API_PORT": "8123", "SIMULATOR_PORT": "8124", "ORCHESTRATOR_DATA_DIR": "/tmp/x"})
    assert (settings.api_port, settings.simulator_port, settings.data_dir) == (8123, 8124, Path("/tmp/x"))
    with pytest.raises(UsageError, match="API_PORT"):
        demo_settings({"API_PORT": "many"})


def test_a_demo_says_how_it_followed_the_agents() -> None:
    polled = {"creates": 3, "webhooks": {"sent": 0}}
    told = {"creates": 3, "webhooks": {"sent": 4, "delivered": 3}}
    assert how_followed("v1", polled) == "Cursor's API v1 (simulated): 3 agents created, followed by stream and polling"
    assert how_followed("v0", polled).endswith("3 agents created, followed by polling")
    assert how_followed("v0", told).endswith("followed by 4 signed webhooks, 3 of them taken, and by polling")


@pytest.mark.parametrize(("life", "code"), [(all_completed, 0), (failed, 1)])
async def test_a_demo_plays_the_example_and_ends_as_the_orchestration_does(
    life: Callable[[], list[Moment]], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(FakeApi(life())) as api:
        stopped: list[str] = []
        there = Stack(api.url, KEY, Path("somewhere"), Path("processes.json"), None)
        monkeypatch.setattr(cli_stack, "run_up", running(there, stopped))
        monkeypatch.setenv("CURSOR_API_KEY", "a-real-key")
        assert await play(None) == code
    told = capsys.readouterr().out
    assert api.bodies[0]["name"] == "Rate limits for the public API"
    assert "the demo leaves aside CURSOR_API_KEY" in told
    assert api.now.view["orchestration"]["summary"] in told
    assert KEY not in told
    assert "a-real-key" not in told
    assert stopped == ["all"]


async def test_a_demo_whose_api_goes_away_says_where_the_logs_are(stopped: list[str]) -> None:
    with pytest.raises(StackFailedError, match=r"cannot reach the API .*; the logs are in somewhere/logs"):
        await play(None)
    assert stopped == ["all"]

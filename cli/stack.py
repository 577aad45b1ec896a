"""Runs the whole system in this process's care for as long as some work on it takes."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from cli.errors import ExitCode, StackFailedError, UsageError
from deploy.local.settings import LocalSettings, LocalSettingsError
from deploy.local.signals import StopOnSignal
from deploy.local.up import Stack, run_up

Work = Callable[[Stack], Awaitable[int]]

DEMO_FOLDER = Path(".data", "demo")

REAL_PARTS = ("CURSOR_API_KEY", "CURSOR_API_URL", "DATABASE_URL", "NATS_URL", "NATS_MONITOR_URL")
"""Settings that would let a demo spend money, or take part in a system that others use."""


def demo_settings(environment: Mapping[str, str]) -> LocalSettings:
    """For a system of its own: free ports and a folder apart unless set, the provider simulated, servers embedded.

    Raises UsageError.
    """
    given = {name: value for name, value in environment.items() if value and name not in REAL_PARTS}
    apart = {"API_PORT": "0", "SIMULATOR_PORT": "0", "ORCHESTRATOR_DATA_DIR": str(DEMO_FOLDER)}
    try:
        return LocalSettings.from_environment({**apart, **given})
    except LocalSettingsError as error:
        raise UsageError(f"wrong settings in the environment:\n{error}") from None


async def run_on_stack(settings: LocalSettings, work: Work, *, say: Callable[[str], None]) -> int:
    """Starts the system, does the work, stops everything; answers the exit code of the work, or of what ended it.

    The first SIGINT, SIGTERM or SIGHUP stops everything in order, a second one at once. Raises StackFailedError when
    the system does not start, and whatever the work raises, after everything has been stopped.
    """
    stop = asyncio.Event()
    outcome: list[int] = []

    async def on_ready(stack: Stack) -> None:
        try:
            outcome.append(await work(stack))
        finally:
            stop.set()

    with StopOnSignal(stop) as signals:
        code = await run_up(settings, on_ready=on_ready, stop=stop, say=say)
    if signals.number is not None:
        return ExitCode.INTERRUPTED if signals.number == signal.SIGINT else ExitCode.TERMINATED
    if code == ExitCode.USAGE:
        raise UsageError("nothing was started")
    if code != 0 or not outcome:
        raise StackFailedError(f"the system did not start; its logs are in {settings.data_dir / 'logs'}")
    return outcome[0]


async def with_stall_limit(work: Awaitable[int], beat: asyncio.Event, *, seconds: float, logs: Path) -> int:
    """The work's outcome. Raises StackFailedError when `beat` is not set for so many seconds while it goes on."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_silence(beat, seconds))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise StackFailedError(f"nothing has moved for {seconds:g} s; the logs are in {logs}")
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _silence(beat: asyncio.Event, seconds: float) -> None:
    try:
        while True:
            async with asyncio.timeout(seconds):
                await beat.wait()
            beat.clear()
    except TimeoutError:
        return

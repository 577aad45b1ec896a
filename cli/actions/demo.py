"""The whole product on this machine, from nothing to the end of an orchestration: `demo`."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.text import Text

import cli
from cli import formats
from cli.access import Access
from cli.actions.creating import create_and_activate
from cli.client import Client, View
from cli.errors import ExitCode, StackFailedError, UnreachableError, UsageError
from cli.files import read_orchestration
from cli.follow import follow
from cli.output import display, people, present, run
from cli.snapshot import Snapshot
from cli.stack import REAL_PARTS, demo_settings, run_on_stack, with_stall_limit
from deploy.local.up import Stack

EXAMPLE = Path(cli.__file__).parent.parent / "docs" / "examples" / "three-tasks.yaml"

# Far beyond any pause that the simulator makes, so that a system that got stuck does not keep anybody waiting.
_STALL_SECONDS = 120.0


def demo(file: Path | None) -> int:
    """Runs the example, or `file`, on a system started for it."""
    return run(play(file))


async def play(file: Path | None) -> int:
    """As `demo`, in the loop that runs; raises CliError."""
    body = _example() if file is None else read_orchestration(file)
    settings = demo_settings(os.environ)
    show = _Show(people(), os.environ.get("CURSOR_API_VERSION") or "v1")
    show.aside("demo: a system of its own on this machine, with simulated agents")
    set_aside = [name for name in REAL_PARTS if os.environ.get(name)]
    if set_aside:
        show.aside(f"the demo leaves aside {', '.join(set_aside)}")
    code = await run_on_stack(settings, lambda stack: show.run(stack, body), say=show.aside)
    if code in (ExitCode.FINE, ExitCode.ENDED_BADLY):
        show.aside(f"stopped; data and logs are in {settings.data_dir}")
    return code


def _example() -> View:
    if not EXAMPLE.is_file():
        raise UsageError(f"the demo's orchestration is not there: {EXAMPLE}; give a file of your own")
    return read_orchestration(EXAMPLE)


class _Show:
    """What the audience sees: what is being started, the orchestration at work, and how it was followed."""

    def __init__(self, console: Console, api_version: str) -> None:
        self._console = console
        self._api_version = api_version

    def aside(self, sentence: str) -> None:
        self._console.print(Text(sentence, style="dim"), soft_wrap=True)

    async def run(self, stack: Stack, body: View) -> int:
        """Does the orchestration on a system that is ready; the exit code says how it ended."""
        beat = asyncio.Event()
        logs = stack.data_dir / "logs"
        try:
            return await with_stall_limit(self._run(stack, body, beat.set), beat, seconds=_STALL_SECONDS, logs=logs)
        except UnreachableError as error:
            raise StackFailedError(f"{error}; the logs are in {logs}") from error

    async def _run(self, stack: Stack, body: View, beat: Callable[[], None]) -> int:
        async with Client(Access(stack.url, stack.api_key)) as client:
            orchestration_id = await create_and_activate(client, body)
            snapshots = _beating(follow(client, orchestration_id), beat)
            last = await present(snapshots, display(console=self._console))
        if stack.simulator_url:
            self.aside(how_followed(self._api_version, await _statistics(stack.simulator_url)))
        return ExitCode.FINE if last.succeeded else ExitCode.ENDED_BADLY


async def _beating(
    snapshots: AsyncGenerator[Snapshot, None], beat: Callable[[], None]
) -> AsyncGenerator[Snapshot, None]:
    """The same snapshots; each that is news is a beat."""
    async with aclosing(snapshots):
        async for snapshot in snapshots:
            if snapshot.note is None:
                beat()
            yield snapshot


async def _statistics(simulator_url: str) -> View:
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            statistics: dict[str, Any] = (await http.get(f"{simulator_url}/_sim/stats")).raise_for_status().json()
            return statistics
    except (httpx.HTTPError, ValueError):
        return {}


def how_followed(api_version: str, statistics: View) -> str:
    """How the provider told of its agents, from what the simulator saw."""
    agents = formats.counted(statistics.get("creates", 0), "agent")
    told = f"Cursor's API {api_version} (simulated): {agents} created"
    webhooks = statistics.get("webhooks", {})
    if not webhooks.get("sent"):
        return f"{told}, followed by {'stream and ' if api_version == 'v1' else ''}polling"
    sent = formats.counted(webhooks["sent"], "signed webhook")
    return f"{told}, followed by {sent}, {webhooks.get('delivered', 0)} of them taken, and by polling"

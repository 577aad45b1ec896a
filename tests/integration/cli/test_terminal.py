"""What a person sees in a terminal while an orchestration is under way."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.cli.fake_api import KEY, FakeApi, serving
from tests.support.eventually import eventually
from tests.unit.cli.story import ID, all_completed

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving(FakeApi(all_completed())) as fake:
        yield fake


class Terminal:
    """A command in a terminal of 100 columns and 30 lines; `text` is all that it wrote so far."""

    def __init__(self, api: FakeApi, *arguments: str) -> None:
        self._api = api
        self._arguments = arguments
        self.text = ""
        self._is_read = asyncio.Event()

    async def run(self) -> int:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        environment = {
            "PATH": os.environ["PATH"],
            "TERM": "xterm-256color",
            "ORCHESTRATOR_URL": self._api.url,
            "ORCHESTRATOR_API_KEY": KEY,
        }
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._read, ours)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cli", *self._arguments, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs
            )
            os.close(theirs)
            code = await _ended(process)
            await asyncio.wait_for(self._is_read.wait(), 30)  # what it wrote last may be on its way still
            return code
        finally:
            loop.remove_reader(ours)
            os.close(ours)

    def _read(self, descriptor: int) -> None:
        try:
            self.text += os.read(descriptor, 65536).decode(errors="replace")
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(descriptor)
            self._is_read.set()


async def _ended(process: Process) -> int:
    try:
        async with asyncio.timeout(45):
            return await process.wait()
    except TimeoutError:
        process.kill()
        raise


async def test_the_table_moves_while_the_orchestration_does_and_ends_in_a_summary(api: FakeApi) -> None:
    api.position = 3
    api.hold.clear()
    terminal = Terminal(api, "watch", ID)
    running = asyncio.create_task(terminal.run())
    await eventually(lambda: "PROCESSING" in terminal.text and "elapsed" in terminal.text)
    drawn = len(terminal.text)
    await eventually(lambda: terminal.text.count("elapsed") > 3 and len(terminal.text) > drawn)
    api.hold.set()
    assert await running == 0
    assert "All 3 tasks completed successfully" in terminal.text
    assert "\x1b[?25h" in terminal.text, "the cursor is there again"


async def test_one_that_has_ended_is_shown_as_a_summary(api: FakeApi) -> None:
    api.position = len(api.story) - 1
    terminal = Terminal(api, "watch", ID)
    assert await terminal.run() == 0
    assert "Task 3 is done: 3 files changed." in terminal.text

"""Where results go: tables for people, JSON for programs, and a picture that follows changes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.live import Live

from cli import describe, formats, render
from cli.errors import CliError, ExitCode, RefusedError
from cli.snapshot import Snapshot

_PIPE_WIDTH = 160  # nothing is cut off for the sake of a width that a pipe does not have


def run(command: Coroutine[Any, Any, int]) -> int:
    """Runs a command to its exit code; what stops it is said on stderr."""
    try:
        return asyncio.run(command)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except CliError as error:
        return complain(error)


def complain(error: CliError) -> int:
    """Says why the command failed; answers its exit code."""
    text = render.refusal(error) if isinstance(error, RefusedError) else str(error)
    print(f"orchestrator: {text}", file=sys.stderr)
    return error.exit_code


def note(sentence: str) -> None:
    """For people on stderr, which leaves stdout to the result."""
    print(f"orchestrator: {formats.clean(sentence)}", file=sys.stderr, flush=True)


def now() -> datetime:
    return datetime.now(UTC)


def people() -> Console:
    """For people on stdout. Nothing is guessed from the text, which may hold what looks like markup."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


def print_json(value: object) -> None:
    """One document, indented."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def json_line(value: object) -> None:
    """One document on a line."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def show(value: object, *, as_json: bool, picture: Callable[[], RenderableType]) -> int:
    """The result of a command, as JSON or as `picture` has it for people."""
    if as_json:
        print_json(value)
    else:
        people().print(picture())
    return ExitCode.FINE


def show_action(answer: Mapping[str, Any], *, as_json: bool) -> int:
    """What came of an action: `{id, status, message}`."""
    if as_json:
        print_json(answer)
    else:
        words = (answer.get("message"), answer.get("status"))
        plain_line(f"{formats.clean(answer.get('id'))}: {', '.join(formats.clean(word) for word in words if word)}")
    return ExitCode.FINE


class Display(Protocol):
    """Shows snapshots as they come."""

    def __enter__(self) -> "Display": ...

    def __exit__(self, *failure: object) -> None: ...

    def update(self, snapshot: Snapshot) -> None: ...

    def finish(self, snapshot: Snapshot) -> None:
        """What came of it all."""


class LiveTable:
    """A table in the terminal that is redrawn, also for the clock alone; gone in the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._latest: Snapshot | None = None
        self._live = Live(
            console=console, get_renderable=self._picture, refresh_per_second=5, transient=True, redirect_stdout=False
        )

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        # On the way out of an interruption the last picture is worth keeping.
        self._live.transient = self._latest is not None and self._latest.ended
        self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        self._latest = snapshot
        self._live.refresh()

    def finish(self, snapshot: Snapshot) -> None:
        self._console.print(render.summary(snapshot, now(), width=self._console.width))

    def _picture(self) -> RenderableType:
        if self._latest is None:
            return ""
        return render.progress(self._latest, now(), width=self._console.width, height=self._console.height)


class PlainLines:
    """A line per change, for logs and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._latest: Snapshot | None = None

    def __enter__(self) -> "PlainLines":
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def update(self, snapshot: Snapshot) -> None:
        for line in describe.changes(self._latest, snapshot):
            self._write(f"{formats.clock(now())}  {line}")
        self._latest = snapshot

    def finish(self, snapshot: Snapshot) -> None:
        for number, task in enumerate(snapshot.tasks, 1):
            if task.get("result_summary"):
                self._write(f"task {number} {describe.title(task)}: {formats.clean(task['result_summary'])}")
        self._write(render.closing(snapshot, now()).plain)


class JsonLines:
    """The live messages, one JSON object per line. What was seen by a read is told as a `status` message, too."""

    def __init__(self) -> None:
        self._told: Snapshot | None = None

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def update(self, snapshot: Snapshot) -> None:
        for message in snapshot.messages:
            json_line(message)
            self._told = snapshot

    def finish(self, snapshot: Snapshot) -> None:
        if self._told is None or self._told.status != snapshot.status:
            json_line(snapshot.status_message())


def plain_line(line: str) -> None:
    print(line, flush=True)


def display(*, as_json: bool = False, console: Console | None = None) -> Display:
    """The one that suits whoever reads stdout."""
    if as_json:
        return JsonLines()
    console = console or people()
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(console)
    return PlainLines(plain_line)


async def present(snapshots: AsyncGenerator[Snapshot, None], shown: Display) -> Snapshot:
    """Shows each snapshot, then the summary; answers the last one."""
    last: Snapshot | None = None
    async with aclosing(snapshots):
        with shown:
            async for snapshot in snapshots:
                last = snapshot
                shown.update(snapshot)
    if last is None:
        raise CliError("there is nothing to show")
    shown.finish(last)
    return last

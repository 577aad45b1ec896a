"""Reading: `list`, `show`, `events`."""

import os

from rich.text import Text

from cli import render
from cli.access import find_access
from cli.client import Client
from cli.errors import ExitCode
from cli.output import now, people, print_json, run
from cli.snapshot import Snapshot


def list_all(*, as_json: bool, url: str | None) -> int:
    return run(_list_all(as_json=as_json, url=url))


def show(orchestration_id: str, *, as_json: bool, url: str | None) -> int:
    return run(_show(orchestration_id, as_json=as_json, url=url))


def events(orchestration_id: str, *, as_json: bool, url: str | None) -> int:
    return run(_events(orchestration_id, as_json=as_json, url=url))


async def _list_all(*, as_json: bool, url: str | None) -> int:
    async with Client(find_access(url, os.environ)) as client:
        page = await client.newest()
    if as_json:
        print_json(page)
        return ExitCode.FINE
    console = people()
    console.print(render.orchestration_table(page.get("items", [])))
    if page.get("nextCursor"):
        console.print(Text("the newest ones; there are more", style="dim"))
    return ExitCode.FINE


async def _show(orchestration_id: str, *, as_json: bool, url: str | None) -> int:
    async with Client(find_access(url, os.environ)) as client:
        view = await client.get(orchestration_id)
    if as_json:
        print_json(view)
    else:
        console = people()
        console.print(render.detail(Snapshot.of(view, now()), now(), width=console.width))
    return ExitCode.FINE


async def _events(orchestration_id: str, *, as_json: bool, url: str | None) -> int:
    async with Client(find_access(url, os.environ)) as client:
        items = await client.events(orchestration_id)
    if as_json:
        print_json({"items": items})
    else:
        people().print(render.event_table(items))
    return ExitCode.FINE

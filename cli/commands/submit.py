"""Creating and activating: `run`, `create`, `activate`."""

import asyncio
import os
import time
from pathlib import Path

from cli import formats
from cli.access import find_access
from cli.client import Client, View
from cli.errors import ExitCode, RefusedError, UnreachableError
from cli.files import read_orchestration
from cli.follow import follow
from cli.output import display, plain_line, present, print_json, run

_DECISION_SECONDS = 30.0


def run_file(file: Path, *, watch: bool, as_json: bool, url: str | None) -> int:
    """Creates and activates the orchestration of a file; with `watch`, follows it to its end."""
    return run(_run_file(file, watch=watch, as_json=as_json, url=url))


def create(body: View, *, as_json: bool, url: str | None) -> int:
    return run(_create(body, as_json=as_json, url=url))


def create_from(file: Path, *, as_json: bool, url: str | None) -> int:
    return run(_create_from(file, as_json=as_json, url=url))


def activate(orchestration_id: str, *, as_json: bool, url: str | None) -> int:
    return run(_activate(orchestration_id, as_json=as_json, url=url))


async def create_and_activate(client: Client, body: View) -> str:
    """The id of the new orchestration, which is under way."""
    created = await client.create(body)
    if "repository" not in created:
        await _until_decided(client, created["id"])
    await client.activate(created["id"])
    return str(created["id"])


async def _until_decided(client: Client, orchestration_id: str) -> None:
    """Waits for an orchestration whose command was taken but not yet carried out (202)."""
    deadline = time.monotonic() + _DECISION_SECONDS
    while True:
        try:
            await client.get(orchestration_id)
            return
        except RefusedError as refusal:
            if refusal.status != 404:
                raise
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"the API took the orchestration {orchestration_id}, but after {_DECISION_SECONDS:g} s "
                "it is not there; it may still come: see `orchestrator list`"
            )
        await asyncio.sleep(0.25)


async def _run_file(file: Path, *, watch: bool, as_json: bool, url: str | None) -> int:
    body = read_orchestration(file)
    async with Client(find_access(url, os.environ)) as client:
        orchestration_id = await create_and_activate(client, body)
        if watch:
            last = await present(follow(client, orchestration_id), display(as_json=as_json))
            return ExitCode.FINE if last.succeeded else ExitCode.ENDED_BADLY
        if as_json:
            print_json(await client.get(orchestration_id))
        else:
            plain_line(f"{orchestration_id} is under way; `orchestrator watch {orchestration_id}` follows it")
    return ExitCode.FINE


async def _create_from(file: Path, *, as_json: bool, url: str | None) -> int:
    return await _create(read_orchestration(file), as_json=as_json, url=url)


async def _create(body: View, *, as_json: bool, url: str | None) -> int:
    async with Client(find_access(url, os.environ)) as client:
        created = await client.create(body)
    if as_json:
        print_json(created)
    elif created.get("status") == "PENDING" and "tasks" in created:
        tasks = formats.counted(len(created["tasks"]), "task")
        plain_line(f"created {created['id']} with {tasks}; `orchestrator activate {created['id']}` starts it")
    else:
        plain_line(f"{created['id']}: {formats.clean(created.get('message') or created.get('status'))}")
    return ExitCode.FINE


async def _activate(orchestration_id: str, *, as_json: bool, url: str | None) -> int:
    async with Client(find_access(url, os.environ)) as client:
        answer = await client.activate(orchestration_id)
    if as_json:
        print_json(answer)
    else:
        words = (answer.get("message"), answer.get("status"))
        plain_line(f"{orchestration_id}: {', '.join(formats.clean(word) for word in words if word)}")
    return ExitCode.FINE

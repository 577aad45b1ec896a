"""Single tasks: add, show, change, retry, restart, skip."""

from pathlib import Path
from typing import Any

from cli import fields, formats, paths, tables
from cli.client import Client, View
from cli.errors import ExitCode, UsageError
from cli.files import read_task
from cli.naming import find, task_id
from cli.once import post_once
from cli.output import now, plain_line, print_json, show, show_action


async def add(
    client: Client,
    orchestration_id: str,
    text: str | None,
    file: Path | None,
    options: View,
    *,
    key: str | None,
    as_json: bool,
) -> int:
    """Adds a task, from `TITLE: DESCRIPTION` or a file; options count more than the file."""
    if (text is None) == (file is None):
        raise UsageError("give a task as 'TITLE: DESCRIPTION', or --file")
    body = {**(read_task(file) if file else fields.task(text or "")), **fields.given(options)}
    path = f"{paths.orchestration(orchestration_id)}/tasks"
    if options.get("dependsOn"):
        body["dependsOn"] = await _ids(client, orchestration_id, options["dependsOn"])
        body.pop("depends_on", None)
    answer = await post_once(client, path, body, key=key)
    if answer.status == 202:
        return show_action(answer.body, as_json=as_json)
    if as_json:
        print_json(answer.body)
    else:
        plain_line(f"added task {answer.body['id']} {formats.clean(answer.body.get('title'))}")
    return ExitCode.FINE


async def _ids(client: Client, orchestration_id: str, wanted: list[str]) -> list[str]:
    """The API counts tasks from 0, people from 1, and so does everything that is shown to them."""
    tasks = (await client.orchestration(orchestration_id)).body.get("tasks", [])
    return [str(find(tasks, name)["id"]) for name in wanted]


async def show_task(client: Client, name: str, *, as_json: bool) -> int:
    task = await client.get(paths.task(await task_id(client, name)))
    return show(task, as_json=as_json, picture=lambda: tables.task(task, now()))


async def update(client: Client, name: str, changes: View, *, as_json: bool) -> int:
    """Changes fields; None clears one."""
    path = paths.task(await task_id(client, name))
    body = dict(changes)
    if isinstance(body.get("dependsOn"), list) and body["dependsOn"]:
        orchestration_id = (await client.get(path))["orchestration_id"]
        body["dependsOn"] = await _ids(client, orchestration_id, [str(wanted) for wanted in body["dependsOn"]])
    answer = await client.ask("PATCH", path, body=body)
    if answer.status == 202:
        return show_action(answer.body, as_json=as_json)
    return show(answer.body, as_json=as_json, picture=lambda: tables.task(answer.body, now()))


async def run_again(client: Client, name: str, how: str, *, key: str | None, as_json: bool) -> int:
    """`how` is retry or restart."""
    answer = await post_once(client, f"{paths.task(await task_id(client, name))}/{how}", key=key)
    return show_action(answer.body, as_json=as_json)


async def skip(client: Client, name: str, *, as_json: bool) -> int:
    answer: dict[str, Any] = (await client.ask("POST", f"{paths.task(await task_id(client, name))}/skip")).body
    return show_action(answer, as_json=as_json)

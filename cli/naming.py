"""Which task, or agent, somebody means."""

from collections.abc import Mapping, Sequence
from typing import Any

from cli import formats
from cli.client import Client
from cli.errors import UsageError

Task = Mapping[str, Any]


async def task_id(client: Client, name: str) -> str:
    """The id of the task, which may be named by its place in its orchestration, as ORCHESTRATION#2 or #title.

    Raises UsageError where the orchestration has no such task, and all that the client does.
    """
    orchestration_id, mark, wanted = name.partition("#")
    if not mark:
        return name
    return str((await _task(client, orchestration_id, wanted))["id"])


async def task_id_within(client: Client, orchestration_id: str, wanted: str) -> str:
    """The same for a task of this orchestration, by its id, title or number."""
    return str((await _task(client, orchestration_id, wanted))["id"])


async def agent_id(client: Client, name: str) -> str:
    """The id of the agent, which may be that of a task named by its place in its orchestration."""
    orchestration_id, mark, wanted = name.partition("#")
    if not mark:
        return name
    task = await _task(client, orchestration_id, wanted)
    if not task.get("cloud_agent_id"):
        raise UsageError(f"no agent works for the task {formats.clean(task.get('title'))}, or did")
    return str(task["cloud_agent_id"])


async def _task(client: Client, orchestration_id: str, wanted: str) -> Task:
    answer = await client.orchestration(orchestration_id)
    return find(answer.body.get("tasks", []), wanted)


def find(tasks: Sequence[Task], wanted: str) -> Task:
    """The task of this id, else of this title, else of this number, from 1.

    Raises UsageError.
    """
    wanted = wanted.strip()
    by_id = [task for task in tasks if task["id"] == wanted]
    by_title = [task for task in tasks if task.get("title") == wanted]
    number = int(wanted) if wanted.isascii() and wanted.isdigit() else 0
    by_number = list(tasks[number - 1 : number]) if number else []
    found = by_id or by_title or by_number
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} tasks have the title {wanted!r}: name it by its number")
    there = ", ".join(f"{number} {formats.clean(task.get('title'))}" for number, task in enumerate(tasks, 1))
    raise UsageError(f"{wanted!r} is no id, title or number of a task; there are: {there}")

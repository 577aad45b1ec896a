"""Creating orchestrations, one or many, and starting one."""

from pathlib import Path
from typing import Any

from rich.console import RenderableType

from cli import fields, formats, paths, tables
from cli.client import Client, View
from cli.errors import ExitCode, UnreachableError, UsageError
from cli.files import read_orchestration, read_repositories
from cli.follow import follow
from cli.once import post_once
from cli.output import display, plain_line, present, print_json, show


async def create_and_activate(client: Client, body: View, *, key: str | None = None) -> str:
    """The id of the new orchestration, which is under way."""
    created = await _created(client, body, key)
    if "repository" not in created:
        raise UnreachableError(
            f"the API took the orchestration {created.get('id')}, but has not decided on it; "
            "it may still come: see `orchestrator list`"
        )
    await client.activate(created["id"])
    return str(created["id"])


async def run_file(client: Client, file: Path, *, watch: bool, check: bool, key: str | None, as_json: bool) -> int:
    """Creates and activates the orchestration of a file; with `watch`, follows it to its end."""
    body = _checked(read_orchestration(file)) if check else read_orchestration(file)
    orchestration_id = await create_and_activate(client, body, key=key)
    if watch:
        last = await present(follow(client, orchestration_id), display(as_json=as_json))
        return ExitCode.FINE if last.succeeded else ExitCode.ENDED_BADLY
    if as_json:
        print_json((await client.orchestration(orchestration_id)).body)
    else:
        plain_line(f"{orchestration_id} is under way; `orchestrator watch {orchestration_id}` follows it")
    return ExitCode.FINE


async def create(
    client: Client, file: Path | None, options: View, tasks: list[str], *, check: bool, key: str | None, as_json: bool
) -> int:
    """Creates one from a file, or from options."""
    body = _body(file, options, tasks)
    created = await _created(client, _checked(body) if check else body, key)
    if as_json:
        print_json(created)
    elif created.get("schedule"):
        plain_line(f"created {created['id']}; its schedule runs it")
    elif created.get("status") == "PENDING" and "tasks" in created:
        count = formats.counted(len(created["tasks"]), "task")
        plain_line(f"created {created['id']} with {count}; `orchestrator activate {created['id']}` starts it")
    else:
        plain_line(f"{created['id']}: {formats.clean(created.get('message') or created.get('status'))}")
    return ExitCode.FINE


def _body(file: Path | None, options: View, tasks: list[str]) -> View:
    given = fields.given({**options, "tasks": [fields.task(text) for text in tasks]})
    if file is None and not given:
        raise UsageError("give a file, or at least --repository and --task")
    if file is not None and given:
        raise UsageError(f"give a file or options, not both: {', '.join(sorted(given))}")
    return given if file is None else read_orchestration(file)


def _checked(body: View) -> View:
    """With the wish to have the repository looked at first, however the file spells it."""
    return {**{name: value for name, value in body.items() if name != "check_repository"}, "checkRepository": True}


async def _created(client: Client, body: View, key: str | None) -> View:
    return (await post_once(client, paths.ORCHESTRATIONS, body, key=key)).body


async def bulk(
    client: Client,
    file: Path,
    repositories: str | None,
    repositories_file: Path | None,
    *,
    check: bool,
    key: str | None,
    as_json: bool,
) -> int:
    """Creates the orchestration of a file in each of many repositories, which take the place of its own."""
    body = _in_many(read_orchestration(file), _repositories(repositories, repositories_file))
    body = _checked(body) if check else body
    answer = (await post_once(client, f"{paths.ORCHESTRATIONS}/bulk", body, key=key)).body

    def picture() -> RenderableType:
        return tables.bulk(answer)

    show(answer, as_json=as_json, picture=picture)
    if answer.get("undecided"):
        return ExitCode.UNREACHABLE
    return ExitCode.REFUSED if answer.get("failed") else ExitCode.FINE


def _repositories(listed: str | None, file: Path | None) -> list[Any]:
    if listed is not None and file is not None:
        raise UsageError("give --repositories or --repositories-file, not both")
    if file is not None:
        return read_repositories(file)
    return [name.strip() for name in (listed or "").split(",") if name.strip()]


def _in_many(body: View, repositories: list[Any]) -> View:
    if not repositories:
        if "repositories" not in body:
            raise UsageError("in which repositories? Give --repositories, --repositories-file or `repositories:`")
        return body
    return {
        **{name: value for name, value in body.items() if name not in ("repository", "repositories")},
        "repositories": repositories,
    }

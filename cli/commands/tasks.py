"""`add-task`, `retry`, `restart`, `skip`, and all of it and more as `task …`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.calling import call
from cli.commands.lifecycle import Clear, Set
from cli.options import Id, Json, Once, TaskName, Url

app = typer.Typer()
group = typer.Typer(help="Single tasks: add, show, change, retry, restart, skip.", no_args_is_help=True)

Priority = Annotated[str | None, typer.Option("--priority", help="low, medium or high.")]
Complexity = Annotated[str | None, typer.Option("--complexity", help="simple, moderate or complex.")]
DependsOn = Annotated[
    list[str] | None,
    typer.Option("--depends-on", metavar="TASK", help="Id, title or number, from 1, of another task; once per task."),
]
Model = Annotated[str | None, typer.Option("--model", help="Of its agents; that of the orchestration if not given.")]
Retries = Annotated[int | None, typer.Option("--max-retries", help="After the first attempt.")]
Timeout = Annotated[int | None, typer.Option("--timeout-minutes", help="Of one attempt.")]
Place = Annotated[int | None, typer.Option("--order-index", help="Lower ones come first.")]


@app.command("add-task")
@group.command("add")
def add(
    orchestration_id: Id,
    text: Annotated[str | None, typer.Argument(metavar="'TITLE: DESCRIPTION'")] = None,
    file: Annotated[Path | None, typer.Option(metavar="TASK.yaml", help="Its fields; - reads standard input.")] = None,
    priority: Priority = None,
    complexity: Complexity = None,
    depends_on: DependsOn = None,
    model: Model = None,
    max_retries: Retries = None,
    timeout_minutes: Timeout = None,
    order_index: Place = None,
    idempotency_key: Once = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Add a task to an orchestration, also while that runs."""
    from cli.actions import tasks

    options = {
        "priority": priority,
        "complexity": complexity,
        "dependsOn": depends_on,
        "model": model,
        "maxRetries": max_retries,
        "timeoutMinutes": timeout_minutes,
        "orderIndex": order_index,
    }
    call(
        url,
        lambda client: tasks.add(client, orchestration_id, text, file, options, key=idempotency_key, as_json=as_json),
    )


@group.command("show")
def show(task: TaskName, as_json: Json = False, url: Url = None) -> None:
    """Show a task with its attempts."""
    from cli.actions import tasks

    call(url, lambda client: tasks.show_task(client, task, as_json=as_json))


@group.command("patch")
def patch(
    task: TaskName,
    title: Annotated[str | None, typer.Option(help="For people.")] = None,
    description: Annotated[str | None, typer.Option(help="What is to be done.")] = None,
    priority: Priority = None,
    complexity: Complexity = None,
    depends_on: DependsOn = None,
    model: Model = None,
    max_retries: Retries = None,
    timeout_minutes: Timeout = None,
    order_index: Place = None,
    settings: Set = None,
    clear: Clear = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Change a task. What is not named stays as it is."""
    from cli import fields
    from cli.actions import tasks

    options = {
        "title": title,
        "description": description,
        "priority": priority,
        "complexity": complexity,
        "dependsOn": depends_on,
        "model": model,
        "maxRetries": max_retries,
        "timeoutMinutes": timeout_minutes,
        "orderIndex": order_index,
    }
    call(url, lambda client: tasks.update(client, task, fields.changes(options, settings, clear), as_json=as_json))


@app.command()
@group.command()
def retry(task: TaskName, idempotency_key: Once = None, as_json: Json = False, url: Url = None) -> None:
    """Try a failed task again, with all its retries."""
    from cli.actions import tasks

    call(url, lambda client: tasks.run_again(client, task, "retry", key=idempotency_key, as_json=as_json))


@app.command()
@group.command()
def restart(task: TaskName, idempotency_key: Once = None, as_json: Json = False, url: Url = None) -> None:
    """Do a finished task once more, whatever came of it."""
    from cli.actions import tasks

    call(url, lambda client: tasks.run_again(client, task, "restart", key=idempotency_key, as_json=as_json))


@app.command()
@group.command()
def skip(task: TaskName, as_json: Json = False, url: Url = None) -> None:
    """Go on as if a task were done."""
    from cli.actions import tasks

    call(url, lambda client: tasks.skip(client, task, as_json=as_json))

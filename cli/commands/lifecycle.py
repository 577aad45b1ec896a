"""`activate`, `pause`, `resume`, `cancel`, `patch`, `delete`."""

import sys
from typing import Annotated

import typer

from cli.calling import call
from cli.options import Id, Json, Url

app = typer.Typer()

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Any other field, with JSON or plain text; once per field."),
]
Clear = Annotated[list[str] | None, typer.Option("--clear", metavar="FIELD", help="To be empty; once per field.")]


@app.command()
def activate(orchestration_id: Id, as_json: Json = False, url: Url = None) -> None:
    """Start the work on an orchestration."""
    from cli.actions import lifecycle

    call(url, lambda client: lifecycle.activate(client, orchestration_id, as_json=as_json))


@app.command()
def pause(
    orchestration_id: Id,
    drain: Annotated[
        bool, typer.Option("--drain", help="Let the agents at work finish; else they are stopped.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Launch nothing any more until it is resumed."""
    from cli.actions import lifecycle

    call(url, lambda client: lifecycle.pause(client, orchestration_id, drain=drain, as_json=as_json))


@app.command()
def resume(orchestration_id: Id, as_json: Json = False, url: Url = None) -> None:
    """Go on where a pause broke off."""
    from cli.actions import lifecycle

    call(url, lambda client: lifecycle.resume(client, orchestration_id, as_json=as_json))


@app.command()
def cancel(orchestration_id: Id, as_json: Json = False, url: Url = None) -> None:
    """Stop every agent and cancel what is not finished."""
    from cli.actions import lifecycle

    call(url, lambda client: lifecycle.cancel(client, orchestration_id, as_json=as_json))


@app.command()
def patch(
    orchestration_id: Id,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Once per tag; instead of all there are.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Dollars; no agent is launched beyond.")] = None,
    max_parallel: Annotated[int | None, typer.Option(help="Tasks at once, in parallel mode.")] = None,
    failure_policy: Annotated[str | None, typer.Option(help="fail_fast or continue.")] = None,
    model: Annotated[str | None, typer.Option(help="Of tasks that have none of their own.")] = None,
    webhook_url: Annotated[str | None, typer.Option(help="Where to tell how it went.")] = None,
    settings: Set = None,
    clear: Clear = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Change an orchestration. What is not named stays as it is."""
    from cli import fields
    from cli.actions import lifecycle

    options = {
        "name": name,
        "description": description,
        "tags": tag,
        "maxCost": max_cost,
        "maxParallel": max_parallel,
        "failurePolicy": failure_policy,
        "model": model,
        "webhookUrl": webhook_url,
    }
    call(
        url,
        lambda client: lifecycle.update(
            client, orchestration_id, fields.changes(options, settings, clear), as_json=as_json
        ),
    )


@app.command()
def delete(
    orchestration_id: Id,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Without asking first.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Come back when it is gone, its agents stopped.")] = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Cancel what runs of an orchestration, then remove it."""
    from cli.actions import lifecycle

    if not yes:
        _confirm(orchestration_id)
    call(url, lambda client: lifecycle.delete(client, orchestration_id, wait=wait, as_json=as_json))


def _confirm(orchestration_id: str) -> None:
    """Asks before anything is begun that an interruption would have to undo."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("deleting asks first, and there is nobody to ask: --yes says that it is meant")
    try:
        meant = typer.confirm(f"Delete {orchestration_id}, and stop all that runs of it?", err=True)
    except typer.Abort:
        raise typer.Exit(130) from None
    if not meant:
        typer.echo("orchestrator: nothing was deleted", err=True)
        raise typer.Exit(2)

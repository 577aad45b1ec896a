"""`cleanup …`."""

from typing import Annotated

import typer

from cli.calling import call
from cli.options import Json, Url

group = typer.Typer(help="Clear away what nobody needs any more.", no_args_is_help=True)


@group.callback()
def _() -> None:
    """A group also while it has one command only."""


@group.command("orphaned-agents")
def orphaned_agents(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be stopped and read.")] = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Stop agents that are at work for no task any more, and read those that nothing was heard of for hours.

    Takes up to a minute. Other people's agents are not touched."""
    from cli.actions import cleanup

    call(url, lambda client: cleanup.orphaned_agents(client, dry_run=dry_run, as_json=as_json))

"""`keys …`."""

from typing import Annotated

import typer

from cli.calling import call
from cli.options import All, Json, Limit, Url

group = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)

Team = Annotated[
    str | None, typer.Option("--team", help="Another team than the asking key's own: the operator's only.")
]


@group.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will hold it.")],
    permission: Annotated[
        list[str],
        typer.Option(
            "--permission",
            "-p",
            help="orchestrations:read, orchestrations:write, agents:write, queue:write or admin; once per permission.",
        ),
    ],
    team: Team = None,
    expires: Annotated[str | None, typer.Option(help="A date or a time, after which it is refused.")] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Make a key and print it, this once, alone on standard output."""
    from cli.actions import keys

    call(
        url,
        lambda client: keys.create(client, name, permissions=permission, team=team, expires=expires, as_json=as_json),
    )


@group.command("list")
def list_all(
    team: Team = None, limit: Limit = 20, everything: All = False, as_json: Json = False, url: Url = None
) -> None:
    """List keys, the newest first, without the keys themselves."""
    from cli.actions import keys

    call(url, lambda client: keys.list_all(client, team=team, limit=None if everything else limit, as_json=as_json))


@group.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, which is not the key.")],
    team: Team = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Let nobody in with a key any more."""
    from cli.actions import keys

    call(url, lambda client: keys.revoke(client, key_id, team=team, as_json=as_json))

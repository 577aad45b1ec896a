"""`models`, `repositories`, `costs`."""

from typing import Annotated

import typer

from cli.calling import call
from cli.options import Json, Since, Until, Url

app = typer.Typer()


@app.command()
def models(as_json: Json = False, url: Url = None) -> None:
    """List the models that can be named. Naming none leaves the choice to the provider."""
    from cli.actions import catalogue

    call(url, lambda client: catalogue.models(client, as_json=as_json))


@app.command()
def repositories(as_json: Json = False, url: Url = None) -> None:
    """List the repositories that the provider has access to.

    It may be asked for them seldom, so that the list may be an hour old.
    """
    from cli.actions import catalogue

    call(url, lambda client: catalogue.repositories(client, as_json=as_json))


@app.command()
def costs(
    since: Since = None,
    until: Until = None,
    group_by: Annotated[str | None, typer.Option(help="team, month, repository, orchestration or model.")] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Sum up what attempts cost that ended in a span of time."""
    from cli.actions import catalogue

    call(url, lambda client: catalogue.costs(client, since=since, until=until, group_by=group_by, as_json=as_json))

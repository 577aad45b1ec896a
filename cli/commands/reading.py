"""`list`, `show`, `stats`, `watch`, `logs`, `events`."""

from typing import Annotated

import typer

from cli.calling import call
from cli.options import All, At, Id, Json, Limit, Since, Until, Url

app = typer.Typer()

After = Annotated[
    int | None, typer.Option("--after", metavar="SEQUENCE", min=0, help="Only what came behind this commit of the log.")
]


@app.command("list")
def list_all(
    status: Annotated[list[str] | None, typer.Option(help="In this state; several times: in any of them.")] = None,
    repository: Annotated[str | None, typer.Option(help="owner/repo, or its address on GitHub.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="With this tag; several times: with all of them.")] = None,
    created_by: Annotated[str | None, typer.Option(help="The name of the key that made it.")] = None,
    since: Since = None,
    until: Until = None,
    q: Annotated[
        str | None,
        typer.Option(
            "--q", "-q", metavar="WORDS", help="In the name, description or a task's title; -word: not there."
        ),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="created_at or updated_at, - before it for the newest first; -created_at.")
    ] = None,
    limit: Limit = 20,
    everything: All = False,
    cursor: Annotated[str | None, typer.Option(help="The nextCursor of an earlier list, to go on behind it.")] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """List orchestrations that pass all filters, the newest first."""
    from cli.actions import reading

    states = [word.upper() for word in status or ()]
    call(
        url,
        lambda client: reading.list_all(
            client,
            {"status": states, "repository": repository, "tag": tag, "created_by": created_by, "q": q, "sort": sort},
            since=since,
            until=until,
            limit=None if everything else limit,
            cursor=cursor,
            as_json=as_json,
        ),
    )


@app.command()
def show(orchestration_id: Id, at: At = None, as_json: Json = False, url: Url = None) -> None:
    """Show an orchestration with its tasks and what came of them."""
    from cli.actions import reading

    call(url, lambda client: reading.show_one(client, orchestration_id, at=at, as_json=as_json))


@app.command()
def stats(orchestration_id: Id, at: At = None, as_json: Json = False, url: Url = None) -> None:
    """Count the tasks of an orchestration, its time and its cost."""
    from cli.actions import reading

    call(url, lambda client: reading.stats(client, orchestration_id, at=at, as_json=as_json))


@app.command()
def watch(orchestration_id: Id, as_json: Json = False, url: Url = None) -> None:
    """Follow an orchestration to its end.

    Restarts of the API are waited for; nothing is left out. --json prints its live messages, one a line: first
    `status` with everything, then every change.
    """
    from cli.actions.watching import watch

    call(url, lambda client: watch(client, orchestration_id, as_json=as_json))


@app.command()
def logs(
    orchestration_id: Id,
    level: Annotated[str | None, typer.Option(help="Of this level and above: info, warning, error.")] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Only of this id, title or number, from 1.")] = None,
    after: After = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on to the end of the orchestration.")] = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Read the log of an orchestration.

    --json prints one object a line. --follow waits for restarts of the API, too.
    """
    from cli.actions.logs import logs

    call(
        url,
        lambda client: logs(
            client, orchestration_id, level=level, task=task, after=after, follow_on=follow, as_json=as_json
        ),
    )


@app.command()
def events(
    orchestration_id: Id,
    after: After = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many at most; all if not given.")] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Show everything that happened to an orchestration."""
    from cli.actions import reading

    call(url, lambda client: reading.events(client, orchestration_id, after=after, limit=limit, as_json=as_json))

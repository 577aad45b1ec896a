"""`run`, `create`, `bulk`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.calling import call
from cli.options import CheckRepository, File, Json, Once, Url

app = typer.Typer()


@app.command()
def run(
    file: File,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    check_repository: CheckRepository = False,
    idempotency_key: Once = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Create and activate the orchestration of a file."""
    from cli.actions import creating

    call(
        url,
        lambda client: creating.run_file(
            client, file, watch=watch, check=check_repository, key=idempotency_key, as_json=as_json
        ),
    )


@app.command()
def create(
    file: Annotated[Path | None, typer.Argument(metavar="FILE.yaml", help="Instead of options.")] = None,
    repository: Annotated[str | None, typer.Option(help="owner/repo, or its address on GitHub.")] = None,
    ref: Annotated[str | None, typer.Option(help="What the tasks start from.")] = None,
    task: Annotated[list[str] | None, typer.Option(metavar="'TITLE: DESCRIPTION'", help="Once per task.")] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    model: Annotated[str | None, typer.Option(help="Of the agents; the provider chooses if not given.")] = None,
    execution_mode: Annotated[str | None, typer.Option(help="sequential or parallel.")] = None,
    max_parallel: Annotated[int | None, typer.Option(help="Tasks at once, in parallel mode.")] = None,
    failure_policy: Annotated[str | None, typer.Option(help="fail_fast or continue.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Dollars; no agent is launched beyond.")] = None,
    webhook_url: Annotated[str | None, typer.Option(help="Where to tell how it went.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Once per tag.")] = None,
    check_repository: CheckRepository = False,
    idempotency_key: Once = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Create an orchestration from a file, or from options."""
    from cli.actions import creating

    options = {
        "repository": repository,
        "ref": ref,
        "name": name,
        "model": model,
        "executionMode": execution_mode,
        "maxParallel": max_parallel,
        "failurePolicy": failure_policy,
        "maxCost": max_cost,
        "webhookUrl": webhook_url,
        "tags": tag,
    }
    call(
        url,
        lambda client: creating.create(
            client, file, options, task or [], check=check_repository, key=idempotency_key, as_json=as_json
        ),
    )


@app.command()
def bulk(
    file: File,
    repositories: Annotated[
        str | None,
        typer.Option(metavar="OWNER/REPO,…", help="Separated by commas; they take the place of the file's own."),
    ] = None,
    repositories_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One repository a line, or a YAML list.")
    ] = None,
    check_repository: CheckRepository = False,
    idempotency_key: Once = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Create an orchestration in each of many repositories.

    Ends with 4 if any of them was refused; the others are created all the same.
    """
    from cli.actions import creating

    call(
        url,
        lambda client: creating.bulk(
            client,
            file,
            repositories,
            repositories_file,
            check=check_repository,
            key=idempotency_key,
            as_json=as_json,
        ),
    )

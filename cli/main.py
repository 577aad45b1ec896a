"""The command line: which commands there are and how they are called. What they do is loaded when they run."""

from pathlib import Path
from typing import Annotated, Any

import typer

_HELP = """Runs programmes of coding work on cloud agents.

The API's key comes from ORCHESTRATOR_API_KEY, else from the file api-key in ORCHESTRATOR_DATA_DIR (.data),
where `orchestrator up` keeps it.

Exit codes: 0 fine, 1 the orchestration ended FAILED or CANCELLED, 2 wrong usage or settings, 3 the API can't be
reached, 4 the API refused."""

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="ORCHESTRATOR_URL", help="Address of the API; http://127.0.0.1:8080 if not given."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs instead of text for people.")]
File = Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The orchestration; - reads standard input.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of the orchestration.")]


@app.command()
def up() -> None:
    """Run the whole system on this machine until Ctrl-C."""
    from deploy.local.up import main as run_everything

    raise typer.Exit(run_everything())


@app.command()
def demo(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.yaml", help="Another orchestration than the demo's own.")
    ] = None,
) -> None:
    """Start everything, run an orchestration on simulated agents, stop everything."""
    from cli.commands.demo import demo

    raise typer.Exit(demo(file))


@app.command()
def run(
    file: File,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Create and activate the orchestration of a file."""
    from cli.commands.submit import run_file

    raise typer.Exit(run_file(file, watch=watch, as_json=as_json, url=url))


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
    tag: Annotated[list[str] | None, typer.Option(help="Once per tag.")] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Create an orchestration from a file, or from options."""
    from cli.commands import submit

    options: dict[str, Any] = {
        "repository": repository,
        "ref": ref,
        "tasks": [_task(text) for text in task or []],
        "name": name,
        "model": model,
        "executionMode": execution_mode,
        "maxParallel": max_parallel,
        "failurePolicy": failure_policy,
        "maxCost": max_cost,
        "tags": tag,
    }
    body = {field: value for field, value in options.items() if value not in (None, [])}
    if file is None and not body:
        raise typer.BadParameter("give a file, or at least --repository and --task")
    if file is not None and body:
        raise typer.BadParameter(f"give a file or options, not both: {', '.join(sorted(body))}")
    if file is not None:
        raise typer.Exit(submit.create_from(file, as_json=as_json, url=url))
    raise typer.Exit(submit.create(body, as_json=as_json, url=url))


def _task(text: str) -> dict[str, str]:
    title, colon, description = text.partition(": ")
    if not colon:
        raise typer.BadParameter(f"--task {text!r}: a title, a colon, a space, a description")
    return {"title": title.strip(), "description": description.strip()}


@app.command()
def activate(orchestration_id: Id, as_json: Json = False, url: Url = None) -> None:
    """Start the work on an orchestration."""
    from cli.commands import submit

    raise typer.Exit(submit.activate(orchestration_id, as_json=as_json, url=url))


@app.command("list")
def list_all(as_json: Json = False, url: Url = None) -> None:
    """List the newest orchestrations."""
    from cli.commands import inspect

    raise typer.Exit(inspect.list_all(as_json=as_json, url=url))


@app.command()
def show(orchestration_id: Id, as_json: Json = False, url: Url = None) -> None:
    """Show an orchestration with its tasks and what came of them."""
    from cli.commands import inspect

    raise typer.Exit(inspect.show(orchestration_id, as_json=as_json, url=url))


@app.command()
def watch(orchestration_id: Id, as_json: Json = False, url: Url = None) -> None:
    """Follow an orchestration to its end."""
    from cli.commands.watch import watch

    raise typer.Exit(watch(orchestration_id, as_json=as_json, url=url))


@app.command()
def events(orchestration_id: Id, as_json: Json = False, url: Url = None) -> None:
    """Show everything that happened to an orchestration."""
    from cli.commands import inspect

    raise typer.Exit(inspect.events(orchestration_id, as_json=as_json, url=url))


def main() -> None:
    """The console script; exits with one of `cli.errors.ExitCode`."""
    app()

"""The whole system on this machine: `up`, `demo`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


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
    """Run an example from nothing to its end on simulated agents."""
    from cli.actions.demo import demo

    raise typer.Exit(demo(file))

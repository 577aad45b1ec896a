"""What runs on this machine: `up`, `demo`, `simulator`."""

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


@app.command()
def simulator(
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Where to listen; 0 takes a free port.", show_default="8090")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(metavar="FACTOR", help="60 lets a simulated minute pass in a second.", show_default="1"),
    ] = None,
) -> None:
    """Run the simulator of Cursor's API alone until Ctrl-C.

    SIMULATOR_* in the environment has the rest of its settings; docs/simulator.md tells of all.
    """
    from deploy.local.simulator.serve import serve

    given = {"port": port, "speed": speed}
    raise typer.Exit(serve(**{name: value for name, value in given.items() if value is not None}))

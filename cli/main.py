"""The command line: which commands there are. `cli.commands` says how each is called, `cli.actions` what it does."""

import typer

from cli.commands import agents, catalogue, cleanup, creating, deliveries, keys, lifecycle, local, queue, reading, tasks

_HELP = """Runs programmes of coding work on cloud agents.

The API's key comes from ORCHESTRATOR_API_KEY, else from the file api-key in ORCHESTRATOR_DATA_DIR (.data),
where `orchestrator up` keeps it.

Exit codes: 0 fine, 1 the orchestration ended FAILED or CANCELLED or was deleted, 2 wrong usage or settings, 3 the API
can't be reached or has not decided, 4 the API refused."""

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)

for part in (local, creating, lifecycle, tasks, reading, catalogue):
    app.add_typer(part.app)
for name, group in (
    ("task", tasks.group),
    ("agent", agents.group),
    ("deliveries", deliveries.group),
    ("keys", keys.group),
    ("queue", queue.group),
    ("cleanup", cleanup.group),
):
    app.add_typer(group, name=name)


def main() -> None:
    """The console script; exits with one of `cli.errors.ExitCode`."""
    app()

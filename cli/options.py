"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="ORCHESTRATOR_URL",
        help="Address of the API. If not given, that of the `orchestrator up` that runs with the data folder, else "
        "http://127.0.0.1:8080.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs instead of text for people.")]
File = Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The orchestration; - reads standard input.")]
CheckRepository = Annotated[
    bool, typer.Option("--check-repository", help="Ask GitHub first whether repository and ref are there.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of the orchestration.")]
TaskName = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="The id of the task, or ORCHESTRATION#2 or 'ORCHESTRATION#title' with the id of its orchestration; "
        "tasks count from 1, as they are shown.",
    ),
]
AgentName = Annotated[
    str,
    typer.Argument(metavar="AGENT", help="The id of the agent, or that of its task as ORCHESTRATION#2 or #title."),
]
Once = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        help="A name for this request: sent again with it within 24 h, it is not carried out again. Without it the "
        "command makes one up, to send again what got no answer.",
    ),
]
At = Annotated[
    str | None,
    typer.Option("--at", help="As it was then: a sequence of the log, a time, or a while ago such as 90m, 2h or 3d."),
]
Since = Annotated[
    str | None, typer.Option("--since", help="From then on: a date, a time, or a while ago such as 90m, 2h or 3d.")
]
Until = Annotated[str | None, typer.Option("--until", help="Before then, in the same forms.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="So many at most.")]
All = Annotated[bool, typer.Option("--all", help="All of them, however many.")]

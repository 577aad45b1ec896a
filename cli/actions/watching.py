"""Following an orchestration to its end: `watch`."""

from cli.client import Client
from cli.errors import ExitCode
from cli.follow import follow
from cli.output import display, present


async def watch(client: Client, orchestration_id: str, *, as_json: bool) -> int:
    last = await present(follow(client, orchestration_id), display(as_json=as_json))
    return ExitCode.FINE if last.succeeded else ExitCode.ENDED_BADLY

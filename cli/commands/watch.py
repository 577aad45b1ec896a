"""Following an orchestration to its end: `watch`."""

import os

from cli.access import find_access
from cli.client import Client
from cli.errors import ExitCode
from cli.follow import follow
from cli.output import display, present, run


def watch(orchestration_id: str, *, as_json: bool, url: str | None) -> int:
    return run(_watch(orchestration_id, as_json=as_json, url=url))


async def _watch(orchestration_id: str, *, as_json: bool, url: str | None) -> int:
    async with Client(find_access(url, os.environ)) as client:
        last = await present(follow(client, orchestration_id), display(as_json=as_json))
    return ExitCode.FINE if last.succeeded else ExitCode.ENDED_BADLY

"""Clearing away what nobody needs any more."""

from cli import paths, tables
from cli.client import Client
from cli.output import show

# The API gives up after 60 s.
_SECONDS = 75.0


async def orphaned_agents(client: Client, *, dry_run: bool, as_json: bool) -> int:
    """Agents at work for no task any more, and what was done about them, or would be."""
    answer = await client.ask("POST", f"{paths.AGENTS}/sweep", body={"dryRun": dry_run}, seconds=_SECONDS)
    return show(answer.body, as_json=as_json, picture=lambda: tables.sweep(answer.body))

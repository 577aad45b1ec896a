"""The queue of a team: what waits, holding it, and what could not be handled."""

from cli import paths, tables
from cli.client import Client
from cli.output import show, show_action


async def stats(client: Client, *, as_json: bool) -> int:
    found = await client.get(f"{paths.QUEUE}/stats")
    return show(found, as_json=as_json, picture=lambda: tables.queue(found))


async def act(client: Client, what: str, *, as_json: bool) -> int:
    """`what` is the last part of the path: pause, resume, retry-failed or clear-failed."""
    answer = await client.ask("POST", f"{paths.QUEUE}/{what}")
    return show_action(answer.body, as_json=as_json)

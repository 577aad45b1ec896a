"""What can be asked for and what it has cost: `models`, `repositories`, `costs`."""

from cli import tables
from cli.client import Client
from cli.moments import moment
from cli.output import now, show


async def models(client: Client, *, as_json: bool) -> int:
    found = await client.get("/api/models")
    return show(found, as_json=as_json, picture=lambda: tables.models(found))


async def repositories(client: Client, *, as_json: bool) -> int:
    found = await client.get("/api/repositories")
    return show(found, as_json=as_json, picture=lambda: tables.repositories(found))


async def costs(client: Client, *, since: str | None, until: str | None, group_by: str | None, as_json: bool) -> int:
    """The sums over a span of time, and over each group in it."""
    span = {"since": moment(since, now()), "until": moment(until, now())}
    found = await client.pages("/api/costs", {"groupBy": group_by, **span})
    return show(found, as_json=as_json, picture=lambda: tables.costs(found))

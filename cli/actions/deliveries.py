"""Deliveries of notifications: what became of each, and once more on demand."""

from cli import paths, tables
from cli.client import Client
from cli.output import show, show_action


async def list_all(
    client: Client, *, orchestration: str | None, status: str | None, limit: int | None, as_json: bool
) -> int:
    """So many, the newest first; all if `limit` is None."""
    page = await client.pages(paths.DELIVERIES, {"orchestration": orchestration, "status": status}, most=limit)
    return show(page, as_json=as_json, picture=lambda: tables.deliveries(page["items"]))


async def show_one(client: Client, delivery_id: str, *, as_json: bool) -> int:
    found = await client.get(paths.delivery(delivery_id))
    return show(found, as_json=as_json, picture=lambda: tables.delivery(found))


async def redeliver(client: Client, delivery_id: str, *, as_json: bool) -> int:
    answer = await client.ask("POST", f"{paths.delivery(delivery_id)}/redeliver")
    return show_action(answer.body, as_json=as_json)

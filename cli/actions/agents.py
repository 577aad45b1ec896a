"""Cloud agents: what is known of one, what the provider says, and what can be asked of it."""

from cli import paths, tables
from cli.client import Client
from cli.naming import agent_id
from cli.once import post_once
from cli.output import show, show_action


async def show_agent(client: Client, name: str, *, as_json: bool) -> int:
    found = await client.get(await _path(client, name))
    return show(found, as_json=as_json, picture=lambda: tables.agent(found))


async def status(client: Client, name: str, *, as_json: bool) -> int:
    """What the provider says now."""
    found = await client.get(f"{await _path(client, name)}/status")
    return show(found, as_json=as_json, picture=lambda: tables.agent(found))


async def conversation(client: Client, name: str, *, as_json: bool) -> int:
    found = await client.get(f"{await _path(client, name)}/conversation")
    return show(found, as_json=as_json, picture=lambda: tables.conversation(found.get("messages", [])))


async def stop(client: Client, name: str, *, as_json: bool) -> int:
    answer = await client.ask("POST", f"{await _path(client, name)}/stop")
    return show_action(answer.body, as_json=as_json)


async def follow_up(client: Client, name: str, prompt: str, *, key: str | None, as_json: bool) -> int:
    """Lets it go on with a further prompt."""
    answer = await post_once(client, f"{await _path(client, name)}/followup", {"prompt": prompt}, key=key)
    return show_action(answer.body, as_json=as_json)


async def delete(client: Client, name: str, *, as_json: bool) -> int:
    answer = await client.ask("DELETE", await _path(client, name))
    return show_action(answer.body, as_json=as_json)


async def _path(client: Client, name: str) -> str:
    return paths.agent(await agent_id(client, name))

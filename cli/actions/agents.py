"""Cloud agents: what is known of one, what the provider says, and what can be asked of it."""

from cli import formats, paths, tables
from cli.client import Client
from cli.errors import ExitCode
from cli.naming import agent_id
from cli.once import post_once
from cli.output import plain_line, print_json, show, show_action


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


async def artifacts(client: Client, name: str, *, as_json: bool) -> int:
    """The files that it left, as the provider lists them."""
    found = await client.get(f"{await _path(client, name)}/artifacts")
    return show(found, as_json=as_json, picture=lambda: tables.artifacts(found.get("items", [])))


async def artifact(client: Client, name: str, path: str, *, as_json: bool) -> int:
    """The link alone on stdout, to be fetched by another command."""
    found = await client.get(f"{await _path(client, name)}/artifacts/link", {"path": path})
    if as_json:
        print_json(found)
    else:
        plain_line(formats.clean(found.get("url")))
    return ExitCode.FINE


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

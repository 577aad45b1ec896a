"""API keys: make, list, revoke."""

from cli import fields, formats, paths, tables
from cli.client import Client, View
from cli.errors import ExitCode, UnreachableError
from cli.moments import moment
from cli.once import post_once
from cli.output import note, now, plain_line, print_json, show, show_action


async def create(
    client: Client,
    name: str,
    *,
    permissions: list[str],
    team: str | None,
    expires: str | None,
    as_json: bool,
) -> int:
    """Makes a key and prints it, this once: alone on stdout, so that it can be piped, the rest on stderr."""
    body = {"name": name, "permissions": permissions, "team": team, "expiresAt": moment(expires, now())}
    made = await _made(client, fields.given(body))
    if as_json:
        print_json(made)
    else:
        until = (
            f"until {formats.date_and_time(made['expires_at'])}" if made.get("expires_at") else "until it is revoked"
        )
        note(f"key {made['id']} of team {made.get('team')}, {until}: it is shown this once")
        plain_line(str(made["key"]))
    return ExitCode.FINE


async def _made(client: Client, body: View) -> View:
    """The new key, which only the first answer holds; raises UnreachableError where that was lost."""
    try:
        made = (await post_once(client, paths.KEYS, body)).body
    except UnreachableError as error:
        if not error.may_be_done:
            raise
        reason = str(error).partition(";")[0]
        raise UnreachableError(
            f"{reason}; `orchestrator keys list` shows whether it was made: revoke it then"
        ) from error
    if not made.get("key"):
        made_id = formats.clean(made.get("id"))
        raise UnreachableError(
            f"the key {made_id} was made, but the answer that held it was lost and nobody can read it any more: "
            f"`orchestrator keys revoke {made_id}` and make another"
        )
    return made


async def list_all(client: Client, *, team: str | None, limit: int | None, as_json: bool) -> int:
    """So many, the newest first; all if `limit` is None."""
    page = await client.pages(paths.KEYS, {"team": team}, most=limit)
    return show(page, as_json=as_json, picture=lambda: tables.keys(page["items"], now()))


async def revoke(client: Client, key_id: str, *, team: str | None, as_json: bool) -> int:
    answer = await client.ask("DELETE", paths.key(key_id), params={"team": team})
    return show_action(answer.body, as_json=as_json)

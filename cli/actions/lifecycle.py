"""The life of an orchestration: activate, pause, resume, cancel, change, delete."""

import asyncio
import time

from cli import paths, tables
from cli.client import Answer, Client, View
from cli.errors import ExitCode, RefusedError, UnreachableError
from cli.output import plain_line, print_json, show, show_action

_GONE_SECONDS = 600.0
_LOOK_SECONDS = 1.0


async def activate(client: Client, orchestration_id: str, *, as_json: bool) -> int:
    return show_action(await client.activate(orchestration_id), as_json=as_json)


async def pause(client: Client, orchestration_id: str, *, drain: bool, as_json: bool) -> int:
    body = {"mode": "drain" if drain else "stop"}
    return await _act(client, orchestration_id, "pause", body=body, as_json=as_json)


async def resume(client: Client, orchestration_id: str, *, as_json: bool) -> int:
    return await _act(client, orchestration_id, "resume", as_json=as_json)


async def cancel(client: Client, orchestration_id: str, *, as_json: bool) -> int:
    return await _act(client, orchestration_id, "cancel", as_json=as_json)


async def _act(client: Client, orchestration_id: str, action: str, *, as_json: bool, body: View | None = None) -> int:
    answer = await client.ask("POST", f"{paths.orchestration(orchestration_id)}/{action}", body=body)
    return show_action(answer.body, as_json=as_json)


async def update(client: Client, orchestration_id: str, changes: View, *, as_json: bool) -> int:
    """Changes fields; None clears one."""
    answer = await client.ask("PATCH", paths.orchestration(orchestration_id), body=changes)
    if answer.status == 202:
        return show_action(answer.body, as_json=as_json)
    return show(answer.body, as_json=as_json, picture=lambda: tables.orchestration(answer.body))


async def delete(client: Client, orchestration_id: str, *, wait: bool, as_json: bool) -> int:
    """Cancels what runs, then removes it; with `wait`, comes back when it is gone."""
    answer = await client.ask("DELETE", paths.orchestration(orchestration_id))
    if wait and answer.status == 202:
        answer = await _until_gone(client, orchestration_id)
    if as_json:
        print_json(answer.body)
    elif answer.status == 202:
        plain_line(f"{orchestration_id}: to be deleted once its agents have stopped; --wait waits for it")
    else:
        plain_line(f"{orchestration_id}: Deleted")
    return ExitCode.FINE


async def _until_gone(client: Client, orchestration_id: str) -> Answer:
    """An answer as if it had been gone at once. An API that is away for a while is waited for, too."""
    deadline = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < deadline:
        try:
            await client.orchestration(orchestration_id)
        except RefusedError as refusal:
            if refusal.status == 404:
                return Answer(200, {"id": orchestration_id, "status": "DELETED", "message": "Deleted"})
            if not refusal.is_passing:
                raise
        except UnreachableError:
            pass  # it is being deleted whether we can look or not
        await asyncio.sleep(_LOOK_SECONDS)
    raise UnreachableError(
        f"{orchestration_id} is being deleted, but is still there after {_GONE_SECONDS:g} s: an agent of it may not be "
        "known to have stopped"
    )

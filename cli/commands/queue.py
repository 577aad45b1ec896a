"""`queue …`."""

import typer

from cli.calling import call
from cli.options import Json, Url

group = typer.Typer(help="The queue of the key's team.", no_args_is_help=True)


@group.command()
def stats(as_json: Json = False, url: Url = None) -> None:
    """Count what runs and what waits, and for what."""
    from cli.actions import queue

    call(url, lambda client: queue.stats(client, as_json=as_json))


@group.command()
def pause(as_json: Json = False, url: Url = None) -> None:
    """Launch no agents for now; what runs goes on."""
    from cli.actions import queue

    call(url, lambda client: queue.act(client, "pause", as_json=as_json))


@group.command()
def resume(as_json: Json = False, url: Url = None) -> None:
    """Launch agents again."""
    from cli.actions import queue

    call(url, lambda client: queue.act(client, "resume", as_json=as_json))


@group.command("retry-failed")
def retry_failed(as_json: Json = False, url: Url = None) -> None:
    """Handle again the messages that could not be handled."""
    from cli.actions import queue

    call(url, lambda client: queue.act(client, "retry-failed", as_json=as_json))


@group.command("clear-failed")
def clear_failed(as_json: Json = False, url: Url = None) -> None:
    """Throw away the messages that could not be handled."""
    from cli.actions import queue

    call(url, lambda client: queue.act(client, "clear-failed", as_json=as_json))

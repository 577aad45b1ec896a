"""How a command gets to work: with a client for the API, and to an exit code."""

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from cli.client import Client


def call(url: str | None, work: "Callable[[Client], Awaitable[int]]") -> NoReturn:
    """Does `work` on the API at `url`, or wherever it is to be found, and ends with its exit code."""
    from cli.access import find_access
    from cli.client import Client
    from cli.output import run

    async def go() -> int:
        async with Client(find_access(url, os.environ)) as client:
            return await work(client)

    raise typer.Exit(run(go()))

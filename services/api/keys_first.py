"""The first key of an installation, which lets its operator in where the settings name none."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import psycopg

from services.api.auth import ALL_PERMISSIONS
from services.api.keys import NewKey, make_key, short_id
from services.api.keys_table import Draft, KeyTable
from shared.ending import end
from shared.system import RandomIds

_log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 2.0


def show(key: NewKey) -> None:
    """On stdout, apart from the logs, which are on stderr and kept."""
    print(
        f"The first API key of this installation, shown this once: {key.text}\n"
        "Keep it, or set ORCHESTRATOR_API_KEY to a key of your own and start again.",
        flush=True,
    )


async def ensure_first_key(
    table: KeyTable, *, team: str, environment: str, say: Callable[[NewKey], None] = show
) -> None:
    """Make and show a key if the installation has none; of all replicas one does.

    Waits for the database and its tables. The key has every permission in `team`, and manages the keys of every team.
    """
    draft = Draft(team, "first", sorted(ALL_PERMISSIONS), None, created_by="start", operator=True)
    told = False
    while True:
        try:
            if await table.add_first(make_key(environment, short_id(RandomIds().new())), draft, say):
                _log.info("Made the first API key; it was shown on stdout")
            return
        except (psycopg.Error, OSError) as exc:
            if not told:
                _log.warning("The first API key is not made yet: %s", type(exc).__name__)
                told = True
        await asyncio.sleep(_AGAIN_SECONDS)


@asynccontextmanager
async def first_key_ensured(table: KeyTable, *, team: str, environment: str) -> AsyncIterator[None]:
    """Done beside what happens inside: a database that is away must not keep the service from starting."""
    task = asyncio.create_task(ensure_first_key(table, team=team, environment=environment), name="first key")
    try:
        yield
    finally:
        await end(task)

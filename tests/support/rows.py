"""Rows of the read side without a log: orchestrations made up and written as the projector writes them."""

import random
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
from psycopg import AsyncConnection

from services.api.projections import Change
from services.api.read_side import write_rows
from shared.domain.events import OrchestrationSpec, OrchestrationStatus, TaskSpec
from shared.domain.state import Orchestration, Task
from shared.postgres.pool import session

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
WORDS: Final = ("fix", "fixes", "build", "Builder", "straße", "overflow", "api", "v2", "checkout", "no-op", "данные")
TAGS: Final = ("nightly", "hotfix", "once")
PEOPLE: Final = ("ann", "bob")
REPOSITORIES: Final = tuple(f"https://github.com/acme/{name}" for name in ("shop", "api", "site"))


def random_orchestration(chance: random.Random, number: int, *, team: str) -> Orchestration:
    """The one with this number; three of each second share the moment in which they were made."""
    at = START + timedelta(seconds=number // 3)
    tasks = [_task(chance, f"{number}-{place}", place, at) for place in range(chance.randrange(1, 3))]
    return Orchestration(
        id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        team=team,
        created_by=chance.choice(PEOPLE),
        spec=OrchestrationSpec(
            repository=chance.choice(REPOSITORIES),
            name=_text(chance) if chance.random() < 0.8 else None,
            description=_text(chance) if chance.random() < 0.3 else None,
            tags=tuple(tag for tag in TAGS if chance.random() < 0.3),
        ),
        tasks={task.task_id: task for task in tasks},
        created_at=at,
        updated_at=at + timedelta(seconds=chance.randrange(50)),
        status=chance.choice(list(OrchestrationStatus)),
        version=1,
    )


def _task(chance: random.Random, task_id: str, place: int, at: datetime) -> Task:
    spec = TaskSpec(task_id=task_id, title=_text(chance), description="Do as it should be.", order_index=place)
    return Task(spec=spec, created_at=at, updated_at=at)


def _text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randrange(1, 5)))


async def write_states(dsn: str, states: Iterable[Orchestration]) -> None:
    """Write their rows, as if each had just been made."""
    async with session(dsn, name="rows") as connection:
        await write_changes(connection, [Change((state.team, state.id), state, 1) for state in states])


async def write_changes(connection: AsyncConnection[tuple[object, ...]], changes: Sequence[Change]) -> None:
    for change in changes:
        if change.before is None:
            change.tasks.update(dict.fromkeys(change.state.tasks, change.sequence))
    await write_rows(connection, changes)
    await connection.commit()


def analyze(dsn: str) -> None:
    """What the database does by itself after a while, so that it knows its tables."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        # Test databases flush commits a moment late, and no row counts as seen by all before: flush them now.
        connection.execute("SET synchronous_commit = on")
        connection.execute("SELECT pg_current_xact_id()")
        connection.execute("VACUUM (ANALYZE)")

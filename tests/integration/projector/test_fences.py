"""What keeps a wrong write out: the checkpoint's old value, the log's unbroken sequence, looking at the log again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
import pytest

from services.api.archive import GENESIS, archive_rows
from services.api.guard import Checkpoint, LogState
from services.api.projections import fold
from services.api.projector import Projector, running
from services.api.read_side import PROJECTION, FencedError, ReadSide
from shared.envelope import Stored
from shared.jetstream.topology import EVENTS
from tests.integration.projector.logs import PACE, checkpoint, dump, shown
from tests.support.eventually import eventually
from tests.unit.projections.histories import every_event, failed_fast, stored

CREATED = datetime(2026, 11, 1, tzinfo=UTC)
FRESH = Checkpoint(0, None, CREATED)


@dataclass
class Log:
    """A log that says and gives what a test wants; `connections` never changes."""

    commits: list[Stored]
    last: int | None = None
    connections: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def state(self) -> LogState:
        return LogState(CREATED, self.commits[-1].sequence if self.last is None else self.last)

    async def commit_id(self, sequence: int) -> str | None:
        return next((entry.commit.commit_id for entry in self.commits if entry.sequence == sequence), None)

    async def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
        yield [entry for entry in self.commits if entry.sequence > after]
        await self.idle.wait()


async def test_a_writer_whose_checkpoint_was_moved_by_another_writes_nothing(dsn: str) -> None:
    log = stored(every_event())
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        late, quick = (ReadSide(connection, name=PROJECTION, stream=EVENTS) for _ in range(2))
        for side in (late, quick):
            assert await side.open(FRESH) == FRESH
        await write(quick, log[:3])
        before = dump(dsn)
        with pytest.raises(FencedError):
            await write(late, log[:5])
        with pytest.raises(FencedError):
            await late.confirm(FRESH)
    assert dump(dsn) == before


async def write(side: ReadSide, batch: list[Stored]) -> None:
    after = Checkpoint(batch[-1].sequence, batch[-1].commit.commit_id, CREATED)
    await side.write(FRESH, after, archive_rows(EVENTS, batch, GENESIS), list(fold({}, batch).values()))


async def test_a_sequence_that_is_missing_from_the_log_is_not_passed_over(dsn: str) -> None:
    """Of an orchestration that is missing altogether no version would tell."""
    first, lost, last = (failed_fast(f"orc-{number}")[0] for number in range(3))
    log = Log([Stored(1, first), Stored(3, last)])
    projector = Projector(dsn, log, log, pace=PACE)
    async with running(projector):
        await eventually(lambda: "should go on at 2" in (projector.problem or ""))
        assert not projector.ready
    assert checkpoint(dsn) == 1
    assert lost.aggregate not in {row["id"] for row in dump(dsn)["orchestrations"]}


async def test_a_log_that_lost_its_end_is_noticed_though_nothing_comes_from_it(dsn: str) -> None:
    log = Log(stored(every_event()))
    projector = Projector(dsn, log, log, pace=PACE)
    async with running(projector):
        await shown(dsn, len(log.commits))
        await eventually(lambda: projector.ready)
        log.last = len(log.commits) - 1
        await eventually(lambda: "the log ends at" in (projector.problem or ""))
        assert not projector.ready
        log.last = None
        await eventually(lambda: projector.ready)


async def test_before_anything_is_written_after_a_reconnect_the_log_is_looked_at(dsn: str) -> None:
    log = Log(stored(every_event()))
    log.last = 10
    news = log.commits[10:]
    log.commits = log.commits[:10]
    arrived = asyncio.Event()

    class Interrupted(Log):
        async def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
            if after < 10:
                yield log.commits
                await arrived.wait()
                self.connections += 1
                self.last = 9  # what comes now is from a log that lost its end meanwhile
                yield news
            await self.idle.wait()

    interrupted = Interrupted(log.commits, last=10)
    projector = Projector(dsn, interrupted, interrupted)
    async with running(projector):
        await shown(dsn, 10)
        arrived.set()
        await eventually(lambda: "the log ends at 9" in (projector.problem or ""))
    assert checkpoint(dsn) == 10

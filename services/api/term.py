"""One leadership of the projection: read ahead, fold, write, and make sure that the log is still the same."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from psycopg import AsyncConnection

from services.api.archive import archive_rows, histories
from services.api.guard import Checkpoint, LogProbe, check_log
from services.api.projections import BrokenHistoryError, fold, replay
from services.api.read_side import PROJECTION, ReadSide
from services.api.source import Source
from services.api.state_cache import StateCache
from shared.ending import end
from shared.envelope import Stored
from shared.observability.metrics import PROJECTION_LAG, PROJECTION_SEQUENCE

_TRANSACTION_BYTES: Final = 8 * 1024 * 1024


class Term:
    """One leadership, from the lock to its loss."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        log: Source,
        probe: LogProbe,
        stream: str,
        advanced: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._log = log
        self._probe = probe
        self._stream = stream
        self._advanced = advanced
        self._side = ReadSide(connection, name=PROJECTION, stream=stream)
        self._cache = StateCache()
        self._newest = 0
        self._checked_at = 0.0
        self._connections = 0
        self.checkpoint: Checkpoint

    @property
    def lag(self) -> int:
        return max(0, self._newest - self.checkpoint.sequence)

    async def open(self) -> None:
        """Find the checkpoint and make sure that the log is the one it was read from."""
        created = (await self._probe.state()).created
        self.checkpoint = await self._side.open(Checkpoint(0, None, created))
        await self._check()

    async def project(self, stop: asyncio.Event, *, check_every: float) -> None:
        """Write what the log brings until `stop` is set."""
        async with _ahead(self._log.follow(after=self.checkpoint.sequence), stop) as ahead:
            while not stop.is_set():
                batch = await ahead.next(within=check_every)
                if self._probe.connections != self._connections or self._check_age >= check_every:
                    await self._check()
                for part in parts(batch):
                    await self._apply(part)

    @property
    def _check_age(self) -> float:
        return time.monotonic() - self._checked_at

    async def _check(self) -> None:
        await self._side.confirm(self.checkpoint)
        connections = self._probe.connections
        state = await check_log(self._probe, self.checkpoint)
        # Only now: had the connection been lost meanwhile, it would be asked again.
        self._connections, self._checked_at = connections, time.monotonic()
        self._newest = state.last_sequence
        self._tell()

    async def _apply(self, batch: Sequence[Stored]) -> None:
        """Write one transaction; of a batch with a commit that cannot be applied, everything before that one.

        Raises:
            LogMismatchError, BrokenHistoryError: the rest of the log waits until a person has seen to it.
        """
        try:
            self._require_next(batch)
            await self._write(batch)
        except BrokenHistoryError as exc:
            good = [stored for stored in batch if stored.sequence < exc.sequence]
            if good:
                await self._apply(good)
            raise

    def _require_next(self, batch: Sequence[Stored]) -> None:
        """The log never deletes: a missing sequence is a lost commit."""
        expected = self.checkpoint.sequence + 1
        for stored in batch:
            if stored.sequence != expected:
                raise BrokenHistoryError(stored, f"the log should go on at {expected}")
            expected += 1

    async def _write(self, batch: Sequence[Stored]) -> None:
        keys = {(stored.commit.team, stored.commit.aggregate) for stored in batch}
        known = self._cache.known(keys)
        if missing := keys - known.keys():
            found = await histories(self._connection, self._stream, missing, self.checkpoint.sequence)
            known |= replay(found)
        changes = fold(known, batch)
        last = batch[-1]
        after = Checkpoint(last.sequence, last.commit.commit_id, self.checkpoint.stream_created)
        archive = archive_rows(self._stream, batch, self._side.tip)
        await self._side.write(self.checkpoint, after, archive, list(changes.values()))
        self.checkpoint = after
        for key, change in changes.items():
            self._cache.put(key, change.state)
        self._advanced(after.sequence)
        self._newest = max(self._newest, after.sequence)
        self._tell()

    def _tell(self) -> None:
        PROJECTION_SEQUENCE.set(self.checkpoint.sequence)
        PROJECTION_LAG.set(self.lag)


class _Ahead:
    """Reads one batch ahead of the one that is being written: decoding goes on while the database works."""

    def __init__(self, batches: AsyncIterator[list[Stored]], stop: asyncio.Event) -> None:
        self._batches = batches
        self._stop = asyncio.ensure_future(stop.wait())
        self._next = asyncio.ensure_future(self._read())

    async def next(self, *, within: float) -> list[Stored]:
        """The next batch, empty when none has come in so many seconds or when it is time to stop."""
        await asyncio.wait({self._next, self._stop}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if not self._next.done():
            return []
        batch = self._next.result()
        self._next = asyncio.ensure_future(self._read())
        return batch

    async def close(self) -> None:
        await end(self._next, self._stop)
        if isinstance(self._batches, AsyncGenerator):
            await self._batches.aclose()

    async def _read(self) -> list[Stored]:
        return await anext(self._batches)


@asynccontextmanager
async def _ahead(batches: AsyncIterator[list[Stored]], stop: asyncio.Event) -> AsyncIterator[_Ahead]:
    ahead = _Ahead(batches, stop)
    try:
        yield ahead
    finally:
        await ahead.close()


def parts(batch: Sequence[Stored], limit: int = _TRANSACTION_BYTES) -> Iterator[Sequence[Stored]]:
    """The batch in parts of about `limit` bytes at most: a transaction must fit in memory on both sides."""
    start = size = 0
    for index, stored in enumerate(batch):
        length = len(stored.raw or b"")
        if index > start and size + length > limit:
            yield batch[start:index]
            start, size = index, 0
        size += length
    if start < len(batch):
        yield batch[start:]

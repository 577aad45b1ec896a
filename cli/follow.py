"""Follows an orchestration to its end over a connection that may break: live messages, else repeated reads."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cli.client import Client, View
from cli.errors import CliError, RefusedError, UnreachableError
from cli.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Pace:
    """How eagerly to try again. Times are in seconds."""

    first_wait: float = 0.25
    longest_wait: float = 5.0
    stream_tries: int = 3
    """So many streams in a row without a message, from somebody who is there: from then on by reads."""
    poll_interval: float = 2.0
    polls: int = 15
    """After one read, then two, four and at most so many, the stream gets another try."""
    patience: float = 120.0
    """Without any answer for that long, the API counts as gone."""


# The others are about the stream, and not about the orchestration.
_KINDS = frozenset(
    ["status", "task_updated", "orchestration_updated", "orchestration_completed", "orchestration_deleted"]
)

# Proxies close streams of some age; one that got that old has done its work.
_LONG_LIFE_SECONDS = 20.0


def _now() -> datetime:
    return datetime.now(UTC)


def _is_gone(error: CliError) -> bool:
    """What was there before is there no more."""
    return isinstance(error, RefusedError) and error.code == "ORCHESTRATION_NOT_FOUND"


async def follow(client: Client, orchestration_id: str, pace: Pace | None = None) -> AsyncGenerator[Snapshot, None]:
    """The orchestration as it is now, after every commit, and as its agents go on; the last one has ended.

    While the connection is broken, the last known one is repeated with a `note`. Raises what `Client.get` does when
    the first read fails, later UnreachableError after `Pace.patience` and RefusedError for good refusals.
    """
    async with aclosing(_Follower(client, orchestration_id, pace or Pace()).run()) as snapshots:
        async for snapshot in snapshots:
            yield snapshot


class _Follower:
    def __init__(self, client: Client, orchestration_id: str, pace: Pace) -> None:
        self._client = client
        self._id = orchestration_id
        self._pace = pace
        self._failures = 0
        """Streams in a row that led nowhere."""
        self._unanswered = 0
        """Requests in a row that failed."""
        self._rounds = 0
        """Rows of reads since a stream was of use."""
        self._lost_at: float | None = None
        """Since when nothing answers."""

    async def run(self) -> AsyncGenerator[Snapshot, None]:
        snapshot = await self._read()
        yield snapshot
        while not snapshot.ended:
            by_reads = self._failures >= self._pace.stream_tries
            async with aclosing(self._by_reads(snapshot) if by_reads else self._live(snapshot)) as changes:
                async for snapshot in changes:
                    yield snapshot
        yield await self._complete(snapshot)

    async def _live(self, snapshot: Snapshot) -> AsyncGenerator[Snapshot, None]:
        """What one stream tells. It led somewhere if it told a whole commit, or lived long."""
        failure: CliError | None = None
        told: list[View] = []
        whole = snapshot
        opened = time.monotonic()
        self._failures += 1
        try:
            async with aclosing(self._client.stream(self._id, snapshot.sequence, on_open=self._answered)) as messages:
                async for message in messages:
                    kind = message.body.get("type")
                    if kind == "agent_progress":
                        # It belongs to no commit, and says nothing of the stream.
                        whole = whole.showing(message.body)
                        snapshot = replace(snapshot, progress=whole.progress)
                        yield whole
                    if kind not in _KINDS:
                        continue
                    whole_commit = message.sequence != snapshot.sequence
                    snapshot = snapshot.after(message.body, message.sequence, _now())
                    told.append(message.body)
                    # Within a commit some tasks are ahead of others, and what they wait for makes no sense.
                    if not whole_commit:
                        continue
                    self._failures = self._rounds = 0
                    snapshot = whole = replace(snapshot, messages=tuple(told))
                    told.clear()
                    yield whole
                    if whole.ended:
                        return
            if time.monotonic() - opened > _LONG_LIFE_SECONDS:
                self._failures = self._rounds = 0
        except (UnreachableError, RefusedError) as exc:
            if _is_gone(exc):
                yield whole.gone()
                return
            failure = exc
            self._lost(failure)
            if isinstance(exc, UnreachableError) and not exc.connected:
                # A read would do no better; and the next stream can go on behind the last message.
                self._failures -= 1
            yield replace(whole, note="the connection is lost, trying again", messages=())
        await asyncio.sleep(self._wait(failure))

    async def _by_reads(self, snapshot: Snapshot) -> AsyncGenerator[Snapshot, None]:
        """A row of reads, after which one more stream is tried."""
        self._failures = self._pace.stream_tries - 1
        self._rounds += 1
        for _ in range(min(2 ** (self._rounds - 1), self._pace.polls)):
            try:
                # Without the sequence, the next stream starts from the state as it is then.
                answer = await self._client.orchestration(self._id)
                snapshot = replace(snapshot.renewed(answer.body, _now()), sequence=None)
                self._answered()
                yield snapshot
            except (UnreachableError, RefusedError) as exc:
                if _is_gone(exc):
                    yield snapshot.gone()
                    return
                if isinstance(exc, RefusedError) and not exc.is_passing:
                    raise
                self._lost(exc)
                yield replace(snapshot, note="the API does not answer, trying again", messages=())
                await asyncio.sleep(self._wait(exc))
                return
            if snapshot.ended:
                return
            await asyncio.sleep(self._pace.poll_interval)

    async def _complete(self, snapshot: Snapshot) -> Snapshot:
        """The end as the API shows it to everybody, if it does so soon; what we saw is nearly as good."""
        for _ in range(0 if snapshot.deleted else 10):
            try:
                shown = await self._read()
            except (UnreachableError, RefusedError):
                break
            if shown.ended and shown.version >= snapshot.version:
                return shown
            await asyncio.sleep(self._pace.first_wait)
        return replace(snapshot, messages=())

    async def _read(self) -> Snapshot:
        return Snapshot.of((await self._client.orchestration(self._id)).body, _now())

    def _answered(self) -> None:
        self._lost_at = None
        self._unanswered = 0

    def _lost(self, failure: CliError) -> None:
        """Raises the failure when there have been only such for too long."""
        self._lost_at = self._lost_at or time.monotonic()
        self._unanswered += 1
        if time.monotonic() - self._lost_at > self._pace.patience:
            raise failure

    def _wait(self, failure: CliError | None) -> float:
        asked = failure.retry_after if isinstance(failure, RefusedError) else None
        grown = self._pace.first_wait * 2.0 ** min(max(self._failures, self._unanswered - 1), 10)
        return asked or min(grown, self._pace.longest_wait)

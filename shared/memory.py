"""The ports in memory, for tests and for running everything in one process: same contract, no server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.envelope import Commit, Stored, decode, encode
from shared.jetstream.errors import DuplicateIdError
from shared.jetstream.kv import Entry, KvView, check_key
from shared.jetstream.publish import Ack, check_size
from shared.jetstream.topology import event_subject
from shared.ports import ConflictError, LogFullError

_BATCH = 500


class MemoryEventLog:
    """`EventLog` as a list. `max_commits`: how many it takes before it is full."""

    def __init__(self, *, max_commits: int | None = None) -> None:
        self._max_commits = max_commits
        self._bodies: list[tuple[str, bytes]] = []
        self._by_subject: dict[str, list[int]] = {}
        self._by_commit: dict[str, int] = {}
        self._grown = asyncio.Condition()

    async def append(self, commit: Commit, *, expected: int) -> int:
        body = encode(commit)
        check_size(body)
        subject = event_subject(commit.team, commit.aggregate)
        known = self._by_commit.get(commit.commit_id)
        if known is not None:
            if self._bodies[known - 1][0] != subject:
                raise DuplicateIdError(f"commit id {commit.commit_id} was used elsewhere")
            return known
        places = self._by_subject.get(subject, [])
        if (places[-1] if places else 0) != expected:
            raise ConflictError(f"{subject} has changed since {expected}")
        if self._max_commits is not None and len(self._bodies) >= self._max_commits:
            raise LogFullError(f"{self._max_commits} commits")
        return await self._store(commit.commit_id, subject, body)

    async def _store(self, commit_id: str, subject: str, body: bytes) -> int:
        self._bodies.append((subject, body))
        sequence = len(self._bodies)
        self._by_subject.setdefault(subject, []).append(sequence)
        self._by_commit[commit_id] = sequence
        async with self._grown:
            self._grown.notify_all()
        return sequence

    async def read(self, team: str, aggregate: str, *, after: int = 0) -> list[Stored]:
        places = self._by_subject.get(event_subject(team, aggregate), [])
        return [self._at(sequence) for sequence in places if sequence > after]

    async def page(self, team: str, aggregate: str, *, after: int, limit: int) -> list[Stored]:
        places = self._by_subject.get(event_subject(team, aggregate), [])
        return [self._at(sequence) for sequence in places if sequence > after][:limit]

    async def follow(self, *, after: int) -> AsyncIterator[list[Stored]]:
        last = after
        while True:
            async with self._grown:
                while len(self._bodies) <= last:
                    await self._grown.wait()
            upto = min(len(self._bodies), last + _BATCH)
            batch = [self._at(sequence) for sequence in range(last + 1, upto + 1)]
            last = upto
            yield batch

    async def last_sequence(self) -> int:
        return len(self._bodies)

    def _at(self, sequence: int) -> Stored:
        return Stored(sequence, decode(self._bodies[sequence - 1][1]))


@dataclass(frozen=True, slots=True)
class Published:
    """A message that was published."""

    stream: str
    sequence: int
    subject: str
    data: bytes
    msg_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class MemoryPublisher:
    """`Publisher` that keeps what it was given in `messages`, oldest first."""

    def __init__(self) -> None:
        self.messages: list[Published] = []

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        stream: str,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Ack:
        check_size(data)
        same = [message for message in self.messages if message.stream == stream]
        for message in same:
            if msg_id is not None and message.msg_id == msg_id:
                return Ack(stream, message.sequence, duplicate=True)
        sequence = len(same) + 1
        self.messages.append(Published(stream, sequence, subject, data, msg_id, dict(headers or {})))
        return Ack(stream, sequence, duplicate=False)

    def on(self, subject: str) -> list[Published]:
        """Every message of this subject."""
        return [message for message in self.messages if message.subject == subject]


class MemoryTimers:
    """`Timers` that keeps what is set in `pending`, by name; nothing fires by itself."""

    def __init__(self) -> None:
        self.pending: dict[tuple[str, ...], tuple[datetime, bytes]] = {}

    async def set(self, *name: str, due_at: datetime, payload: bytes) -> None:
        self.pending[name] = (due_at, payload)

    async def cancel(self, *name: str) -> None:
        self.pending.pop(name, None)

    def take_due(self, now: datetime) -> list[tuple[tuple[str, ...], bytes]]:
        """Remove and return the timers that are due, soonest first."""
        due = sorted((at, name) for name, (at, _) in self.pending.items() if at <= now)
        return [(name, self.pending.pop(name)[1]) for _, name in due]


class MemoryKeyValue:
    """`KeyValue` as a dict."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._views: list[KvView] = []

    async def create(self, key: str, value: bytes) -> bool:
        check_key(key, value)
        if key in self._entries:
            return False
        self._put(key, value)
        return True

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        return self._entries.get(key)

    async def update(self, key: str, value: bytes, *, revision: int) -> bool:
        check_key(key, value)
        entry = self._entries.get(key)
        if entry is None or entry.revision != revision:
            return False
        self._put(key, value)
        return True

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        check_key(key)
        entry = self._entries.get(key)
        if revision is not None and (entry is None or entry.revision != revision):
            return False
        if entry is not None:
            del self._entries[key]
            self._revision += 1
            self._tell()
        return True

    @asynccontextmanager
    async def view(self) -> AsyncIterator[KvView]:
        view = KvView()
        view.replace(dict(self._entries))
        self._views.append(view)
        try:
            yield view
        finally:
            self._views.remove(view)

    def _put(self, key: str, value: bytes) -> None:
        self._revision += 1
        self._entries[key] = Entry(key, value, self._revision)
        self._tell()

    def _tell(self) -> None:
        for view in self._views:
            view.replace(dict(self._entries))


class ManualClock:
    """`Clock` that stands still until it is moved."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by


class SequentialIds:
    """`Ids` that can be foretold: `prefix` and a number from 1 on."""

    def __init__(self, prefix: str = "id") -> None:
        self._prefix = prefix
        self._last = 0

    def new(self) -> str:
        self._last += 1
        return f"{self._prefix}-{self._last}"

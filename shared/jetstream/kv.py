"""Key-value buckets: taking a key, compare-and-set, and a view of all keys that needs no round trip."""

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import Header

from shared import failpoints
from shared.ending import end
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError
from shared.jetstream.history import HistoryReader, RawMessage
from shared.jetstream.publish import Ack, BrokerRefusal, check_size, request_ack
from shared.jetstream.retry import Backoff
from shared.jetstream.tail import TailBrokenError, open_tail

_log = logging.getLogger(__name__)

_KEY: Final = re.compile(r"[A-Za-z0-9_=-]+(\.[A-Za-z0-9_=-]+)*")
_CONFLICTS: Final = frozenset({10071, 10164})
_MARKER_LIFE: Final = "3600s"  # how long a deleted key leaves a trace; a view is rebuilt in full anyway


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value; `revision` is what `update` compares with."""

    key: str
    value: bytes
    revision: int


class KeyValue(Protocol):
    """A small shared table of keys. Values are never empty: an empty one means that the key is gone.

    Every method raises PublishUnavailableError when the broker does not answer in time; a write may then
    have happened.
    """

    async def create(self, key: str, value: bytes) -> bool:
        """Take a key that nobody holds. False: somebody does."""

    async def get(self, key: str) -> Entry | None:
        """The key's newest entry."""

    async def update(self, key: str, value: bytes, *, revision: int) -> bool:
        """Change a key that is still at `revision`. False: it is not."""

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        """Give a key back; one that nobody holds is no error. False: it is not at `revision` any more."""

    def view(self) -> AbstractAsyncContextManager["KvView"]:
        """A copy of the whole table that follows its changes."""


class KvView:
    """A local copy of a bucket: complete when it is handed out, milliseconds behind from then on."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._news = asyncio.Event()

    @property
    def entries(self) -> Mapping[str, Entry]:
        """All keys, by name."""
        return MappingProxyType(self._entries)

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def __len__(self) -> int:
        return len(self._entries)

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._news.wait()

    def replace(self, entries: dict[str, Entry]) -> None:
        """Take over a complete new copy."""
        self._entries = entries
        self._tell()

    def apply(self, message: RawMessage, key: str) -> None:
        """Take over one change."""
        _apply(self._entries, message, key)
        self._tell()

    def _tell(self) -> None:
        self._news.set()  # wakes whoever waits now
        self._news = asyncio.Event()


def check_key(key: str, value: bytes | None = None) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a key: {key!r}")
    if value is not None:
        check_size(value)
        if not value:
            raise ValueError("a value must not be empty")


class JetStreamKeyValue:
    """`KeyValue` on a NATS connection; gives up after `budget` seconds."""

    def __init__(self, nc: Client, bucket: str, *, budget: float = 30.0) -> None:
        self._nc = nc
        self._bucket = bucket
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._budget = budget
        self._history = HistoryReader(nc, self._stream)
        self._traces: dict[str, int] = {}
        """Where this process deleted a key last: a guess at what `create` will find, which the broker checks."""

    @failpoints.around(lambda self, *_, **__: f"{self._bucket}.create")
    async def create(self, key: str, value: bytes) -> bool:
        check_key(key, value)
        backoff = Backoff(first=0.02, most=0.5, budget=self._budget)
        message_id = uuid.uuid4().hex
        expected = self._traces.pop(key, 0)
        while True:
            if await self._write(key, value, expected, message_id, {}):
                return True
            found = await self._newest(key)
            if found is not None and found.message_id == message_id:
                return True
            if found is not None and found.data:
                return False
            if backoff.remaining <= 0:
                raise PublishUnavailableError(f"the bucket does not settle on {key}")
            if found is None or found.sequence == expected:
                await backoff.wait()
            expected = found.sequence if found is not None else 0

    @failpoints.around(lambda self, *_, **__: f"{self._bucket}.get")
    async def get(self, key: str) -> Entry | None:
        check_key(key)
        found = await self._newest(key)
        return Entry(key, found.data, found.sequence) if found is not None and found.data else None

    @failpoints.around(lambda self, *_, **__: f"{self._bucket}.update")
    async def update(self, key: str, value: bytes, *, revision: int) -> bool:
        check_key(key, value)
        return bool(await self._change(key, value, revision, {}))

    @failpoints.around(lambda self, *_, **__: f"{self._bucket}.delete")
    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        check_key(key)
        marker = {"KV-Operation": "DEL", "Nats-TTL": _MARKER_LIFE}
        if revision is None:
            sequence = (await self._publish(key, b"", marker)).sequence
        else:
            sequence = await self._change(key, b"", revision, marker)
        if sequence:
            self._traces[key] = sequence
        return bool(sequence)

    @asynccontextmanager
    async def view(self) -> AsyncIterator[KvView]:
        view = KvView()
        complete = asyncio.Event()
        following = asyncio.create_task(self._follow(view, complete), name=f"view-{self._stream}")
        try:
            await complete.wait()
            yield view
        finally:
            await end(following)

    async def _change(self, key: str, value: bytes, revision: int, headers: dict[str, str]) -> int:
        """The sequence of the change, 0 if the key is not at `revision` any more."""
        message_id = uuid.uuid4().hex
        if sequence := await self._write(key, value, revision, message_id, headers):
            return sequence
        found = await self._newest(key)
        return found.sequence if found is not None and found.message_id == message_id else 0

    async def _write(self, key: str, value: bytes, expected: int, message_id: str, more: dict[str, str]) -> int:
        """One compare-and-set. 0: refused, perhaps because an earlier try of this very write is there."""
        headers = {
            **more,
            Header.MSG_ID.value: message_id,
            Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(expected),
        }
        try:
            return (await self._publish(key, value, headers)).sequence
        except BrokerRefusal as refusal:
            if refusal.code in _CONFLICTS:
                return 0
            raise PublishRefusedError(str(refusal)) from refusal

    async def _publish(self, key: str, value: bytes, headers: dict[str, str]) -> Ack:
        return await request_ack(self._nc, self._prefix + key, value, headers, Backoff(budget=self._budget))

    async def _newest(self, key: str) -> RawMessage | None:
        backoff = Backoff(budget=self._budget)
        while True:
            try:
                return await self._history.newest(self._prefix + key)
            except (NatsError, TimeoutError) as exc:
                if backoff.remaining <= 0 or self._nc.is_closed:
                    raise PublishUnavailableError(f"cannot read {key}: {exc!r}") from exc
            await backoff.wait()

    async def _follow(self, view: KvView, complete: asyncio.Event) -> None:
        """Keep the view current; an interruption rebuilds it in full, for deletions may be forgotten."""
        backoff = Backoff()
        while not self._nc.is_closed:
            fresh: dict[str, Entry] = {}
            caught_up = False
            try:
                async with open_tail(self._nc, self._stream, after=0) as tail:
                    async for messages in tail.batches():
                        for message in messages:
                            key = message.subject.removeprefix(self._prefix)
                            view.apply(message, key) if caught_up else _apply(fresh, message, key)
                        if tail.caught_up and not caught_up:
                            view.replace(fresh)
                            caught_up = True
                            complete.set()
                            backoff.reset()
            except (TailBrokenError, NatsError, TimeoutError) as exc:
                _log.info("Watching %s was interrupted, trying again: %r", self._stream, exc)
            except Exception:
                # Nobody would hear of a view that stands still for ever; the next one begins with the whole bucket.
                _log.exception("Watching %s failed, trying again", self._stream)
            await backoff.wait()


def _apply(entries: dict[str, Entry], message: RawMessage, key: str) -> None:
    if message.data:
        entries[key] = Entry(key, message.data, message.sequence)
    else:
        entries.pop(key, None)

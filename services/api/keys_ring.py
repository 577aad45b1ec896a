"""Whose a stored key is, without asking the database at every request, and yet soon without a revoked one."""

import asyncio
import hmac
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from services.api.auth import Permission, Principal
from services.api.errors import ApiError
from services.api.keys import fingerprint, id_of
from services.api.keys_table import KeyRecord
from shared.ending import end
from shared.ports import Clock

_log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 5.0
"""What is known is read again after this, beside the request."""
TRUST_SECONDS: Final = 20.0
"""What is known is not believed for longer than this, whatever happens: a revocation counts everywhere by then."""
_UNKNOWN_SECONDS: Final = 10.0
_MOST_KNOWN: Final = 10_000
_MOST_UNKNOWN: Final = 1_000
_NOBODY: Final = b"\0" * 32


class KeyLookup(Protocol):
    async def find(self, key_id: str) -> KeyRecord | None:
        """The key of this id. Raises psycopg.OperationalError: the database is away."""


@dataclass(slots=True)
class _Known:
    record: KeyRecord
    read_at: float


class Keyring:
    """`Authenticator` for the keys of the table.

    Genuine keys are remembered by their fingerprint, others apart from them and fewer: who shows nonsense pushes out
    nonsense. A key with a wrong secret is looked up like one with an unknown id, so that the time tells nothing.

    Args:
        on_use: told the id of a key each time that it lets somebody in.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        table: KeyLookup,
        clock: Clock,
        *,
        on_use: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._clock = clock
        self._on_use = on_use
        self._now = now
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._reading: dict[bytes, asyncio.Task[KeyRecord | None]] = {}
        self._forgotten = 0

    def recognises(self, key: bytes) -> bool:
        known = self._known.get(fingerprint(key))
        return known is not None and known.record.revoked_at is None

    async def authenticate(self, key: bytes) -> Principal | None:
        key_id = id_of(key)
        if key_id is None:
            return None
        record = await self._record(key_id, fingerprint(key))
        if record is None:
            return None
        self._refuse_ended(record)
        self._on_use(record.id)
        permissions = frozenset(cast(list[Permission], record.permissions))
        return Principal(record.team, record.name, permissions, record.id, record.operator)

    def forget(self, key_id: str) -> None:
        """Believe nothing that was read of this key until now, nor what is being read."""
        self._forgotten += 1
        for known in self._known.values():
            if known.record.id == key_id:
                known.read_at = -math.inf

    async def aclose(self) -> None:
        await end(*self._reading.values())

    def _refuse_ended(self, record: KeyRecord) -> None:
        # Only who holds the whole key learns this.
        if record.revoked_at is not None:
            raise ApiError("INVALID_API_KEY", "the API key has been revoked")
        if record.expires_at is not None and record.expires_at <= self._clock.now():
            raise ApiError("INVALID_API_KEY", "the API key has expired")

    async def _record(self, key_id: str, shown: bytes) -> KeyRecord | None:
        now = self._now()
        known = self._known.get(shown)
        if known is not None:
            self._known.move_to_end(shown)
            age = now - known.read_at
            if age >= REFRESH_SECONDS:
                reading = self._read(key_id, shown)
                if age >= TRUST_SECONDS:
                    return await asyncio.shield(reading)
            return known.record
        if now - self._unknown.get(shown, -math.inf) < _UNKNOWN_SECONDS:
            return None
        return await asyncio.shield(self._read(key_id, shown))

    def _read(self, key_id: str, shown: bytes) -> asyncio.Task[KeyRecord | None]:
        """The reading of this key that is under way, or a new one: however many ask, the database is asked once."""
        task = self._reading.get(shown)
        if task is None:
            task = asyncio.create_task(self._look_up(key_id, shown), name="key lookup")
            self._reading[shown] = task
            task.add_done_callback(lambda done: self._read_ended(shown, done))
        return task

    def _read_ended(self, shown: bytes, task: asyncio.Task[KeyRecord | None]) -> None:
        del self._reading[shown]
        if not task.cancelled() and task.exception() is not None:
            # Who waits for it is told; who goes on with what is known learns it here.
            _log.warning("A key could not be read: %s", type(task.exception()).__name__)

    async def _look_up(self, key_id: str, shown: bytes) -> KeyRecord | None:
        begun, forgotten = self._now(), self._forgotten
        record = await self._table.find(key_id)
        genuine = hmac.compare_digest(record.sha256 if record else _NOBODY, shown)
        if record is None or not genuine:
            self._known.pop(shown, None)
            _remember(self._unknown, shown, begun, _MOST_UNKNOWN)
            return None
        # What was revoked meanwhile may have been read before: it is good for this answer alone.
        read_at = begun if forgotten == self._forgotten else -math.inf
        _remember(self._known, shown, _Known(record, read_at), _MOST_KNOWN)
        return record


def _remember(memory: OrderedDict[bytes, Any], shown: bytes, what: Any, most: int) -> None:
    memory[shown] = what
    memory.move_to_end(shown)
    if len(memory) > most:
        memory.popitem(last=False)

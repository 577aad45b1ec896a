"""Turns: of all monitors one sweeps at a time, and at the next turn whichever looks first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.jetstream.kv import KeyValue
from shared.ports import Clock

_KEY: Final = "sweep.due"
# Whoever has not said by then when the next turn is has died; if not, two sweep at once, which does no harm.
_LEASE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Turns:
    """One key says when the next turn is due. Every method raises PublishUnavailableError, PublishRefusedError when the
    broker does not answer or refuses."""

    bucket: KeyValue
    clock: Clock
    every: timedelta

    async def take(self) -> bool:
        """Whether it is our turn; then nobody else has one until `again_in` says so, or for some minutes."""
        entry = await self.bucket.get(_KEY)
        now = self.clock.now()
        lease = _written(now + min(_LEASE, self.every))
        if entry is None:
            return await self.bucket.create(_KEY, lease)
        # A moment further away than that was written by a clock that was wrong, or before the setting was changed.
        if now < datetime.fromisoformat(entry.value.decode()) <= now + self.every:
            return False
        return await self.bucket.update(_KEY, lease, revision=entry.revision)

    async def again_in(self, pause: timedelta) -> None:
        """When the next turn is; `every` at most."""
        entry = await self.bucket.get(_KEY)
        if entry is not None:
            await self.bucket.update(_KEY, _written(self.clock.now() + min(pause, self.every)), revision=entry.revision)


def _written(moment: datetime) -> bytes:
    return moment.isoformat().encode()

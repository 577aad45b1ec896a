"""Whether a team's queue is held: one key in a bucket that every launcher has a copy of."""

from dataclasses import dataclass

from shared.jetstream.kv import KeyValue, KvView

_HELD = b"held"


def _key(team: str) -> str:
    return f"queue.{team}"


@dataclass(frozen=True, slots=True)
class QueueHolds:
    """Reads from a copy of the bucket; milliseconds behind."""

    view: KvView

    def is_held(self, team: str) -> bool:
        """Whether nothing of the team is to be launched now."""
        return self.view.get(_key(team)) is not None


@dataclass(frozen=True, slots=True)
class QueueSwitch:
    """Holds and lets go. Every method raises PublishUnavailableError when the broker does not answer in time."""

    bucket: KeyValue

    async def hold(self, team: str) -> bool:
        """Launch nothing of the team any more; False if that was so already."""
        return await self.bucket.create(_key(team), _HELD)

    async def let_go(self, team: str) -> bool:
        """Launch again; False if that was so already."""
        entry = await self.bucket.get(_key(team))
        return entry is not None and await self.bucket.delete(_key(team), revision=entry.revision)

    async def is_held(self, team: str) -> bool:
        return await self.bucket.get(_key(team)) is not None

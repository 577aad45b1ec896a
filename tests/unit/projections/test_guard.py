"""The guard: is this still the log that the read side was built from?"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from services.api.guard import Checkpoint, LogMismatchError, LogState, check_log

CREATED = datetime(2026, 11, 1, tzinfo=UTC)
CHECKPOINT = Checkpoint(5, "commit-5", CREATED)


@dataclass
class Probe:
    """A log of commits `commit-1`, `commit-2` … up to `last`, but for what `others` says."""

    last: int = 9
    created: datetime = CREATED
    others: dict[int, str | None] = field(default_factory=dict)
    connections: int = 0

    async def state(self) -> LogState:
        return LogState(self.created, self.last)

    async def commit_id(self, sequence: int) -> str | None:
        return self.others.get(sequence, f"commit-{sequence}")


async def test_a_log_that_went_on_is_the_same() -> None:
    assert await check_log(Probe(), CHECKPOINT) == LogState(CREATED, 9)


async def test_a_log_that_ends_at_the_checkpoint_is_the_same() -> None:
    assert (await check_log(Probe(last=5), CHECKPOINT)).last_sequence == 5


async def test_a_log_that_ends_before_the_checkpoint_lost_something() -> None:
    with pytest.raises(LogMismatchError, match="ends at 4, the read side was built up to 5"):
        await check_log(Probe(last=4), CHECKPOINT)


async def test_a_log_that_was_made_anew_is_another_one() -> None:
    with pytest.raises(LogMismatchError, match="was made at"):
        await check_log(Probe(created=CREATED + timedelta(seconds=1)), CHECKPOINT)


@pytest.mark.parametrize("found", ["commit-of-somebody-else", None])
async def test_another_commit_at_the_checkpoint_reuses_a_lost_sequence(found: str | None) -> None:
    with pytest.raises(LogMismatchError, match="at 5, the read side has commit-5 there"):
        await check_log(Probe(others={5: found}), CHECKPOINT)


async def test_before_the_first_commit_any_log_will_do() -> None:
    await check_log(Probe(last=0), replace(CHECKPOINT, sequence=0, commit_id=None))

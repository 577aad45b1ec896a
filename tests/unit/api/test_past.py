"""Moments of the past: how they are written, and what was there by then, whatever the clocks said."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from services.api.checkpoint import CheckpointWatcher
from services.api.history import History, Kept
from services.api.past import At, FutureError, Past, read_at
from shared.envelope import encode
from shared.memory import MemoryEventLog
from tests.unit.projections.histories import START, TEAM, partly_completed

NOW = datetime(2026, 11, 2, tzinfo=UTC)
COMMITS = partly_completed("orc-1")


class Clock:
    def now(self) -> datetime:
        return NOW


class Told:
    """A history in memory; counts the commits that were read of it."""

    def __init__(self, times: dict[int, datetime] | None = None) -> None:
        self.read = 0
        at = times or {}
        self._kept = [
            Kept(sequence, encode(replace(commit, recorded_at=at.get(sequence, commit.recorded_at))))
            for sequence, commit in enumerate(COMMITS, start=1)
        ]

    async def commits(
        self, team: str, orchestration_id: str, *, after: int = 0, known: int = 0
    ) -> AsyncGenerator[Kept, None]:
        if (team, orchestration_id) == (TEAM, "orc-1"):
            for kept in self._kept[after:]:
                self.read += 1
                yield kept


def past_of(told: Told, *, rows: int = len(COMMITS)) -> Past:
    checkpoint = CheckpointWatcher("nowhere")
    checkpoint.advance(rows)
    return Past(cast(History, told), MemoryEventLog(), checkpoint, Clock(), patience=0.01)


async def sequence_at(past: Past, at: At) -> int | None:
    found = await past.find(TEAM, "orc-1", at)
    return found.shown.sequence if found else None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("0", At(0, None)),
        ("4711", At(4711, None)),
        ("2026-11-01T12:00:00Z", At(None, datetime(2026, 11, 1, 12, tzinfo=UTC))),
        ("2026-11-01T14:00:00.5+02:00", At(None, datetime(2026, 11, 1, 12, 0, 0, 500_000, tzinfo=UTC))),
        ("2026-11-02T00:00:00Z", At(None, NOW)),
        ("7,2026-11-01T12:00:00Z", At(7, datetime(2026, 11, 1, 12, tzinfo=UTC))),
        ("7,2026-11-02T00:00:59Z", At(7, NOW + timedelta(seconds=59))),
    ],
)
def test_a_moment_is_a_sequence_or_a_time_or_both(text: str, at: At) -> None:
    assert read_at(text, NOW) == at


@pytest.mark.parametrize("text", ["2026-11-02T00:00:00.000001Z", "7,2026-11-02T00:01:01Z"])
def test_the_future_is_not_known(text: str) -> None:
    with pytest.raises(FutureError):
        read_at(text, NOW)


async def test_a_sequence_that_the_log_has_not_come_to_is_the_future() -> None:
    with pytest.raises(FutureError):
        await past_of(Told()).find(TEAM, "orc-1", At(len(COMMITS) + 1, None))


async def test_statistics_are_counted_as_of_the_moment() -> None:
    past = past_of(Told())
    by_sequence = await past.find(TEAM, "orc-1", At(3, None))
    assert by_sequence is not None
    assert by_sequence.time == START + timedelta(minutes=2)
    assert by_sequence.stamp == "3,2026-11-01T12:02:00.123456Z"
    later = START + timedelta(minutes=2, seconds=30)
    by_time = await past.find(TEAM, "orc-1", At(None, later))
    assert by_time is not None
    assert (by_time.shown, by_time.time) == (by_sequence.shown, later)


async def test_nothing_that_was_recorded_later_is_shown_although_clocks_differ() -> None:
    """The fourth commit was recorded by a service whose clock is ahead: nothing behind it was there before it."""
    told = Told({4: START + timedelta(minutes=10)})
    past = past_of(told)
    assert await sequence_at(past, At(None, START + timedelta(minutes=5))) == 3
    assert await sequence_at(past, At(None, START + timedelta(minutes=10))) == 11
    # Also if the fold begins with what was remembered: that of sequence 6 was recorded by then, but not all before it.
    assert await sequence_at(past, At(6, None)) == 6
    assert await sequence_at(past, At(None, START + timedelta(minutes=6))) == 3


async def test_what_was_folded_once_is_not_folded_again() -> None:
    told = Told()
    past = past_of(told)
    last = len(COMMITS)
    for sequence in (10, 10, 12, 11, last):
        assert await sequence_at(past, At(sequence, None)) == sequence
    # 1 to 10 and one further to see the end, 11, 11 to 13, 11 and 12, 13 to the last.
    assert told.read == 11 + 1 + 3 + 2 + (last - 12)


async def test_another_teams_past_is_not_there() -> None:
    past = past_of(Told())
    assert await sequence_at(past, At(5, None)) == 5
    assert await past.find("team-2", "orc-1", At(5, None)) is None
    assert await past.find(TEAM, "orc-2", At(5, None)) is None


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.api.past._REMEMBERED_TASKS", 30)
    told = Told()
    past = past_of(told)
    for sequence in range(1, len(COMMITS) + 1):
        assert await sequence_at(past, At(sequence, None)) == sequence
    points: Any = past._points
    assert len(points._points) == 3
    assert await sequence_at(past, At(2, None)) == 2

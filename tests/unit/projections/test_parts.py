"""A batch of large commits is written in several transactions."""

from services.api.term import parts
from shared.envelope import Stored
from tests.unit.projections.histories import every_event


def test_parts_are_bounded_and_hold_everything_in_order() -> None:
    batch = [Stored(sequence, commit, b"x" * 40) for sequence, commit in enumerate(every_event(), start=1)]
    found = list(parts(batch, limit=100))
    assert {len(part) for part in found} == {2}
    assert [stored for part in found for stored in part] == batch


def test_a_commit_that_is_larger_than_the_bound_stands_alone() -> None:
    small, large, last = every_event()[:3]
    batch = [Stored(1, small, b"x"), Stored(2, large, b"x" * 500), Stored(3, last, b"x")]
    assert [len(part) for part in parts(batch, limit=100)] == [1, 1, 1]


def test_an_empty_batch_has_no_parts() -> None:
    assert list(parts([])) == []

"""The archive's rows: the very bytes of the log, chained by hash."""

import hashlib

from services.api.archive import GENESIS, archive_rows, link
from shared.envelope import Stored, encode
from tests.unit.projections.histories import every_event, stored


def test_each_row_is_chained_to_the_one_before() -> None:
    rows = archive_rows("EVENTS", stored(every_event()), GENESIS)
    previous = GENESIS
    for row in rows:
        assert row.prev_sha256 == previous
        text = previous + row.sequence.to_bytes(8, "big") + row.subject.encode() + b"\0" + row.body
        assert row.sha256 == hashlib.sha256(text).digest()
        previous = row.sha256


def test_the_chain_does_not_depend_on_where_batches_end() -> None:
    log = stored(every_event())
    whole = archive_rows("EVENTS", log, GENESIS)
    first = archive_rows("EVENTS", log[:5], GENESIS)
    assert first + archive_rows("EVENTS", log[5:], first[-1].sha256) == whole


def test_the_stored_bytes_are_kept_as_they_are() -> None:
    commit = every_event()[0]
    raw = encode(commit).replace(b'{"commit_id"', b'{"new_field":1, "commit_id"')
    (row,) = archive_rows("EVENTS", [Stored(1, commit, raw)], GENESIS)
    assert row.body == raw


def test_a_change_of_anything_breaks_the_chain() -> None:
    reference = link(GENESIS, 1, "evt.a.b", b"body")
    assert link(GENESIS, 1, "evt.a.b", b"bodY") != reference
    assert link(GENESIS, 2, "evt.a.b", b"body") != reference
    assert link(GENESIS, 1, "evt.a.c", b"body") != reference
    assert link(b"\1" * 32, 1, "evt.a.b", b"body") != reference

"""A cursor is good for the list that gave it, and for no other."""

import base64
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.api.cursors import BadCursorError
from services.api.listing_cursor import make_cursor, read_cursor
from services.api.listing_plan import Wanted
from services.api.problems import InvalidRequestError

AT = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
WANTED = Wanted(statuses=("ACTIVE", "FAILED"), tags=("a", "b"), search="fix")


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def test_it_gives_back_its_place_however_the_filters_are_ordered() -> None:
    cursor = make_cursor(AT, "orc-1", "red", WANTED)
    turned = replace(WANTED, statuses=("FAILED", "ACTIVE"), tags=("b", "a", "b"))
    assert read_cursor(cursor, "red", turned) == (AT, "orc-1")


@pytest.mark.parametrize(
    ("team", "other"),
    [
        ("blue", WANTED),
        ("red", replace(WANTED, statuses=())),
        ("red", replace(WANTED, repository="https://github.com/acme/shop")),
        ("red", replace(WANTED, tags=("a",))),
        ("red", replace(WANTED, created_by="ann")),
        ("red", replace(WANTED, since=AT)),
        ("red", replace(WANTED, until=AT)),
        ("red", replace(WANTED, search="fixed")),
        ("red", replace(WANTED, sort="-updated_at")),
    ],
)
def test_on_another_list_it_is_refused_by_its_name(team: str, other: Wanted) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_cursor(make_cursor(AT, "orc-1", "red", WANTED), team, other)
    assert [problem.field for problem in refused.value.problems] == ["cursor"]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "é",
        encoded("nonsense"),
        encoded("[]"),
        encoded("7"),
        encoded("{}"),
        encoded('["2026-11-01T12:00:00+00:00", "orc-1"]'),
        encoded('["yesterday", "orc-1", "x"]'),
        encoded('["2026-11-01T12:00:00", "orc-1", "x"]'),
        encoded('["2026-11-01T12:00:00+00:00", 7, "x"]'),
        encoded('["2026-11-01T12:00:00+00:00", "\\u0000", "x"]'),
        encoded('["2026-11-01T12:00:00+00:00", "\\ud800", "x"]'),
        encoded('[7, "orc-1", "x"]'),
        encoded("[" * 300),
    ],
)
def test_what_no_page_gave_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursorError):
        read_cursor(cursor, "red", WANTED)

"""Pages of a history: whole commits where they fit, nothing twice and nothing left out."""

from collections.abc import AsyncIterator, Sequence

import pytest

from services.api.ndjson import wants_lines
from services.api.paging import Place, cut, read_place

COMMITS: list[tuple[int, list[str]]] = [
    (3, ["a", "b", "c"]),
    (7, ["d"]),
    (8, []),
    (20, ["e", "f"]),
    (21, ["g"]),
]


async def behind(place: Place) -> AsyncIterator[tuple[int, Sequence[str]]]:
    for sequence, items in COMMITS:
        if sequence > place.behind:
            yield sequence, items


async def pages(limit: int) -> list[tuple[list[str], str | None]]:
    """All pages, each with its cursor, which goes through its text as it does with a client."""
    found: list[tuple[list[str], str | None]] = []
    cursor: str | None = "0"
    while cursor is not None:
        begin = read_place(cursor)
        page = await cut(behind(begin), begin, limit)
        cursor = None if page.end is None else str(page.end)
        found.append((page.items, cursor))
    return found


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (
            1,
            [
                (["a"], "3.1"),
                (["b"], "3.2"),
                (["c"], "3"),
                (["d"], "7"),
                (["e"], "20.1"),
                (["f"], "20"),
                (["g"], None),
            ],
        ),
        (2, [(["a", "b"], "3.2"), (["c", "d"], "7"), (["e", "f"], "20"), (["g"], None)]),
        (3, [(["a", "b", "c"], "3"), (["d", "e", "f"], "20"), (["g"], None)]),
        (4, [(["a", "b", "c", "d"], "7"), (["e", "f", "g"], None)]),
        (5, [(["a", "b", "c", "d"], "7"), (["e", "f", "g"], None)]),
        (7, [(["a", "b", "c", "d", "e", "f", "g"], None)]),
        (100, [(["a", "b", "c", "d", "e", "f", "g"], None)]),
    ],
)
async def test_a_commit_is_cut_only_if_it_is_larger_than_a_page(
    limit: int, expected: list[tuple[list[str], str | None]]
) -> None:
    assert await pages(limit) == expected


async def test_a_history_without_anything_is_one_empty_page() -> None:
    page = await cut(behind(Place(21)), Place(21), 10)
    assert (page.items, page.end) == ([], None)


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1.", ".1", "1.2.3", "1,2", " 1", "1\n", "²", "9" * 19, "1." + "9" * 7]
)
def test_what_no_page_gave_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="page gave"):
        read_place(text)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/x-ndjson", True),
        ("Application/X-NDJSON ; q=0.5", True),
        ("application/json, application/x-ndjson", True),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson; q=0.00", False),
        ("application/json", False),
        ("*/*", False),
        ("application/*", False),
        ("", False),
        (";,;", False),
    ],
)
def test_lines_are_for_who_names_them(accept: str, wanted: bool) -> None:
    assert wants_lines(accept) is wanted

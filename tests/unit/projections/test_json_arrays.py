"""Rows on their way into Postgres: JSON in parameters of bounded size, without what Postgres refuses."""

import orjson

from services.api.read_side import json_arrays


def test_many_rows_are_spread_over_parameters_of_bounded_size() -> None:
    rows = [{"id": number, "view": {"text": "x" * 100}} for number in range(50)]
    arrays = list(json_arrays(rows, limit=1000))
    assert len(arrays) > 1
    assert all(len(array) <= 1100 for array in arrays)
    assert [row for array in arrays for row in orjson.loads(array)] == rows


def test_a_row_that_is_larger_than_the_bound_stands_alone() -> None:
    rows = [{"id": 1, "text": "x" * 50}, {"id": 2, "text": "x" * 500}, {"id": 3, "text": "x"}]
    assert [len(orjson.loads(array)) for array in json_arrays(rows, limit=100)] == [1, 1, 1]


def test_no_rows_make_no_parameter() -> None:
    assert list(json_arrays([])) == []


def test_nul_is_left_out_wherever_it_is_and_what_only_looks_like_it_stays() -> None:
    rows = [{"te\0xt": ["a\0b", {"deep": "\0"}], "tags": ("\0t",), "literal": "\\u0000 stays", "number": 1}]
    (array,) = json_arrays(rows)
    assert orjson.loads(array) == [
        {"text": ["ab", {"deep": ""}], "tags": ["t"], "literal": "\\u0000 stays", "number": 1}
    ]

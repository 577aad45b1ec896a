"""Bodies: JSON in UTF-8, uncompressed, with each name once."""

from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from services.api.bodies import read_json
from services.api.errors import ApiError
from services.api.problems import InvalidRequestError

JSON = {"Content-Type": "application/json"}


def request(body: bytes, headers: dict[str, str]) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


async def read(body: bytes, **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await read_json(request(body, {**JSON, **given}))


async def said_of(body: bytes) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        await read(body)
    assert refused.value.code == "INVALID_REQUEST"
    return refused.value.message


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf8"']
)
async def test_json_in_utf_8_is_read(kind: str) -> None:
    assert await read('{"a": ["ä", 1.5, {"a": null}]}'.encode(), Content_Type=kind) == {"a": ["ä", 1.5, {"a": None}]}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content_Type": "text/plain"}, "must be JSON, with Content-Type: application/json"),
        ({"Content_Type": ""}, "must be JSON, with Content-Type: application/json"),
        ({"Content_Type": "application/merge-patch+json"}, "must be JSON, with Content-Type: application/json"),
        ({"Content_Type": "application/json; charset=latin-1"}, "must be written in UTF-8"),
        ({"Content_Type": "application/json; charset=nonsense"}, "must be written in UTF-8"),
        ({"Content_Encoding": "gzip"}, "must not be compressed"),
    ],
)
async def test_another_kind_of_body_is_refused(headers: dict[str, str], said: str) -> None:
    with pytest.raises(ApiError) as refused:
        await read(b"{}", **headers)
    assert (refused.value.status, refused.value.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert said in refused.value.message


async def test_what_is_wrong_with_a_body_is_told() -> None:
    assert await said_of(b"") == "body: is missing; it must be a JSON object"
    assert await said_of(b'{"a":\n  nonsense}') == "body: is not valid JSON at line 2, column 3"
    assert await said_of(b'{"a": NaN}') == "body: is not valid JSON at line 1, column 7"
    assert await said_of(b'{"a": "\xff"}') == "body: is not valid JSON at line 1, column 1"


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 1_000 + b"]" * 1_000])
async def test_a_body_without_bottom_is_refused(body: bytes) -> None:
    assert await said_of(body) == "body: is nested too deeply"


async def test_a_name_that_comes_twice_in_one_object_is_refused() -> None:
    assert await said_of(b'{"ref": "a", "ref": "b"}') == "body: has the name 'ref' twice in one object"
    assert await said_of(b'[{"b": {"\\u0061": 1, "a": 1}}]') == "body: has the name 'a' twice in one object"
    assert await read(b'[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]


async def test_a_number_of_any_length_is_read_or_refused_at_once() -> None:
    assert await read(b'{"a": 123456789012345678901234567890}') == {"a": 1.2345678901234568e29}
    assert "is not valid JSON" in await said_of(b'{"a": ' + b"1" * 500_000 + b"}")

"""Where a key may stand in a request."""

from typing import Any

import pytest
from starlette.requests import HTTPConnection

from services.api.auth import presented_key


def connection(headers: dict[str, str], *, subprotocols: list[str] | None = None) -> HTTPConnection:
    scope: dict[str, Any] = {
        "type": "http" if subprotocols is None else "websocket",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "subprotocols": subprotocols or [],
        "query_string": b"key=k&api_key=k&access_token=k",
    }
    return HTTPConnection(scope)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"X-API-Key": ""}, None),
        ({"X-API-Key": "  "}, None),
        ({"X-API-Key": " k "}, b"k"),
        ({"X-API-Key": "\xff"}, b"\xff"),
        ({"Authorization": "Bearer k"}, b"k"),
        ({"Authorization": "bearer  k"}, b"k"),
        ({"Authorization": "Bearer"}, None),
        ({"Authorization": "Bearer "}, None),
        ({"Authorization": "Basic k"}, None),
        ({"Authorization": "k"}, None),
        ({"X-API-Key": "k", "Authorization": "Bearer other"}, b"k"),
        ({"X-API-Key": "", "Authorization": "Bearer k"}, b"k"),
        ({"Sec-WebSocket-Protocol": "bearer.k"}, None),
        ({"Cookie": "key=k"}, None),
    ],
)
def test_a_request_shows_its_key_in_one_of_two_headers(headers: dict[str, str], key: bytes | None) -> None:
    assert presented_key(connection(headers)) == key


@pytest.mark.parametrize(
    ("headers", "offered", "key"),
    [
        ({}, [], None),
        ({}, ["orchestrator.v1"], None),
        ({}, ["orchestrator.v1", "bearer.k-_"], b"k-_"),
        ({}, ["bearer."], None),
        ({"X-API-Key": "k"}, ["bearer.other"], b"k"),
        ({"Authorization": "Bearer k"}, ["bearer.other"], b"k"),
        ({"Authorization": "Basic x"}, ["bearer.k"], b"k"),
    ],
)
def test_a_websocket_may_offer_it_as_a_subprotocol(
    headers: dict[str, str], offered: list[str], key: bytes | None
) -> None:
    assert presented_key(connection(headers, subprotocols=offered)) == key

"""The form of keys, and requests to make one."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.api.auth import ALL_PERMISSIONS, Principal
from services.api.cursors import BadCursorError
from services.api.errors import ApiError
from services.api.keys import fingerprint, id_of, is_id, make_key, short_id
from services.api.keys_request import read_key
from services.api.keys_table import KeyRecord
from services.api.keys_view import key_cursor, read_key_cursor
from services.api.problems import InvalidRequestError
from shared.system import RandomIds

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ADMIN = Principal("a", "admin of a", frozenset({"admin", "orchestrations:read"}), "aaaaaaaa")
OPERATOR = Principal("default", "operator", ALL_PERMISSIONS, operator=True)


def new_id() -> str:
    return short_id(RandomIds().new())


def test_a_key_says_what_it_is_where_it_is_from_and_which_it_is() -> None:
    key = make_key("Staging-2", "abcd1234")
    assert re.fullmatch(r"cop_staging2_abcd1234_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}", key.text)
    assert id_of(key.text.encode()) == "abcd1234"
    assert key.sha256 == hashlib.sha256(key.text.encode()).digest() == fingerprint(key.text.encode())


@pytest.mark.parametrize("environment", ["", "-", "ü", "a" * 100])
def test_whatever_the_environment_is_called_the_key_has_its_form(environment: str) -> None:
    assert id_of(make_key(environment, "abcd1234").text.encode()) == "abcd1234"


def test_a_key_does_not_show_when_it_is_printed() -> None:
    key = make_key("test", "abcd1234")
    assert key.text not in repr(key)


def test_no_two_keys_are_the_same_and_ids_follow_from_what_they_are_made_of() -> None:
    assert len({make_key("test", "abcd1234").text for _ in range(100)}) == 100
    assert len({new_id() for _ in range(1000)}) == 1000
    assert all(is_id(new_id()) for _ in range(100))
    long_id = RandomIds().new()
    assert short_id(long_id) == short_id(long_id)


def test_a_typing_error_is_seen_without_asking_anybody() -> None:
    key = make_key("test", "abcd1234").text
    for place in range(len(key)):
        other = "B" if key[place] == "A" else "A"
        assert id_of((key[:place] + other + key[place + 1 :]).encode()) is None, place
    swapped = key[:30] + key[31] + key[30] + key[32:]
    assert (id_of(swapped.encode()) is None) == (swapped != key)


@pytest.mark.parametrize("change", [lambda k: k[:-1], lambda k: k + b"\n", lambda k: b" " + k, lambda k: k + k])
def test_what_is_not_quite_a_key_is_none(change: Any) -> None:
    assert id_of(change(make_key("test", "abcd1234").text.encode())) is None
    assert id_of(b"") is None
    assert id_of(b"\xff" * 73) is None


def body(**changes: Any) -> dict[str, Any]:
    return {"name": "ci", "permissions": ["orchestrations:read"], **changes}


def test_a_key_is_asked_for_in_both_spellings() -> None:
    soon = NOW + timedelta(days=1)
    for name in ("expiresAt", "expires_at"):
        wanted = read_key(body(**{name: soon.isoformat()}), ADMIN, NOW)
        assert (wanted.name, wanted.team, wanted.expires_at) == ("ci", None, soon)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"name": "line\nbreak"}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"name": None}, "name"),
        ({"permissions": []}, "permissions"),
        ({"permissions": "admin"}, "permissions"),
        ({"permissions": ["everything"]}, "permissions[0]"),
        ({"permissions": ["admin", 1]}, "permissions[1]"),
        ({"team": "Not A Team"}, "team"),
        ({"team": ""}, "team"),
        ({"team": "a\n"}, "team"),
        ({"expiresAt": "tomorrow"}, "expiresAt"),
        ({"expiresAt": NOW.isoformat()}, "expiresAt"),
        ({"expires_at": "2026-11-01T11:59:59Z"}, "expires_at"),
        ({"expiresAt": "2027-01-01T00:00:00"}, "expiresAt"),
        ({"id": "abcd1234"}, "id"),
        ({"operator": True}, "operator"),
    ],
)
def test_every_wrong_field_is_named(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_key(body(**wrong), OPERATOR, NOW)
    assert [problem.field for problem in refused.value.problems] == [field]


def test_name_and_permissions_are_needed() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_key({}, OPERATOR, NOW)
    assert {problem.field for problem in refused.value.problems} == {"name", "permissions"}
    assert refused.value.code == "MISSING_REQUIRED_FIELD"


@pytest.mark.parametrize("nonsense", [None, [], "key", 1])
def test_what_is_no_object_is_refused(nonsense: Any) -> None:
    with pytest.raises(InvalidRequestError):
        read_key(nonsense, OPERATOR, NOW)


def test_nobody_gives_more_than_they_have() -> None:
    read_key(body(permissions=["admin", "orchestrations:read"]), ADMIN, NOW)
    with pytest.raises(ApiError) as refused:
        read_key(body(permissions=["orchestrations:read", "queue:write", "agents:write"]), ADMIN, NOW)
    assert (refused.value.code, refused.value.metadata["permissions"]) == ("FORBIDDEN", ["agents:write", "queue:write"])


def test_only_the_operator_names_another_team() -> None:
    assert read_key(body(team="b"), OPERATOR, NOW).team == "b"
    assert read_key(body(team="a"), ADMIN, NOW).team == "a"
    with pytest.raises(ApiError) as refused:
        read_key(body(team="b"), ADMIN, NOW)
    assert (refused.value.code, refused.value.metadata) == ("FORBIDDEN", {"field": "team"})


def test_a_list_goes_on_behind_its_last_key() -> None:
    record = KeyRecord("abcd1234", b"", "a", "ci", [], False, None, NOW, "operator", None, None)
    assert read_key_cursor(key_cursor(record)) == (NOW, "abcd1234")


@pytest.mark.parametrize("cursor", ["", "x", "ü", "e30", "WzEsMl0", "WyIyMDI2LTExLTAxIiwiYWJjZDEyMzQiXQ", "=" * 9])
def test_what_no_page_gave_is_no_cursor(cursor: str) -> None:
    with pytest.raises(BadCursorError):
        read_key_cursor(cursor)

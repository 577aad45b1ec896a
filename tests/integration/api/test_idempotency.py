"""`Idempotency-Key`: one orchestration for a key, and one answer, whatever happens in between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import psycopg
import pytest

from services.api import bulk
from services.api.idempotency_store import Answer, Claim, IdempotencyStore
from shared.jetstream.publish import Ack, Publisher
from shared.jetstream.topology import COMMANDS
from shared.postgres.pool import session
from tests.integration.api.system import TASK, Running, order, running_api

PATH = "/api/orchestrations"
BULK = "/api/orchestrations/bulk"


@dataclass(frozen=True)
class Replicas:
    """Two processes' worth of api, each with a dispatcher, on one broker and one database."""

    one: Running
    two: Running
    database_url: str


@pytest.fixture(name="replicas")
async def _replicas(nats_url: str, database_url: str) -> AsyncIterator[Replicas]:
    async with (
        running_api(nats_url, database_url) as one,
        running_api(nats_url, database_url, prepared=True) as two,
    ):
        yield Replicas(one, two, database_url)


async def post(api: Running, key: str, body: Any, path: str = PATH) -> httpx.Response:
    return await api.http.post(path, json=body, headers={"Idempotency-Key": key})


async def names(api: Running) -> Counter[str]:
    """How many orchestrations there are of each name."""
    items = (await api.http.get(PATH, params={"limit": 100})).json()["items"]
    return Counter(item["name"] for item in items)


async def commands_sent(api: Running) -> int:
    sequence: int = (await api.runtime.nc.jsm().stream_info(COMMANDS)).state.last_seq
    return sequence


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


async def test_a_repeat_gets_the_first_answer_and_creates_nothing(replicas: Replicas) -> None:
    first = await post(replicas.one, "key", order(name="one"))
    assert first.status_code == 201
    await replicas.one.http.post(f"{PATH}/{first.json()['id']}/activate")
    for api in (replicas.one, replicas.two):
        again = await post(api, "key", order(name="one"))
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["Location"] == first.headers["Location"] == f"{PATH}/{first.json()['id']}"
        assert again.headers["Content-Type"] == first.headers["Content-Type"]
        assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert await names(replicas.two) == {"one": 1}


async def test_a_hundred_at_once_create_one_orchestration_and_get_the_same_answer(replicas: Replicas) -> None:
    both = [replicas.one, replicas.two]
    answers = await asyncio.gather(*(post(both[n % 2], "key", order(name="one")) for n in range(100)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({(answer.content, answer.headers["Location"]) for answer in answers}) == 1
    assert await names(replicas.one) == {"one": 1}


async def test_a_key_belongs_to_one_request(replicas: Replicas) -> None:
    first = await post(replicas.one, "key", order(name="one"))
    for body, path in ((order(name="two"), PATH), (order(name="one"), BULK), ({"nonsense": True}, PATH)):
        refused = error_of(await post(replicas.two, "key", body, path), 422)
        assert refused["code"] == "IDEMPOTENCY_CONFLICT"
    reordered = dict(reversed(order(name="one").items()))
    spaced = orjson.dumps(reordered, option=orjson.OPT_INDENT_2)
    headers = {"Idempotency-Key": "key", "Content-Type": "application/json"}
    same = await replicas.two.http.post(PATH, content=spaced, headers=headers)
    assert same.content == first.content
    assert await names(replicas.one) == {"one": 1}


async def test_of_two_requests_that_take_a_key_at_once_one_is_refused(replicas: Replicas) -> None:
    answers = await asyncio.gather(
        post(replicas.one, "key", order(name="one")), post(replicas.two, "key", order(name="two"))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 422]
    assert (await names(replicas.one)).total() == 1


async def test_the_same_key_of_another_team_is_another_key(nats_url: str, database_url: str) -> None:
    async with (
        running_api(nats_url, database_url) as ours,
        running_api(nats_url, database_url, prepared=True, team="blue") as theirs,
    ):
        first = await post(ours, "key", order(name="one"))
        other = await post(theirs, "key", order(name="two"))
        assert (first.status_code, other.status_code) == (201, 201)
        assert first.json()["id"] != other.json()["id"]
        same = await post(theirs, "key", order(name="two"))
        assert same.content == other.content


async def test_a_request_that_was_refused_can_be_put_right_under_its_key(api: Running) -> None:
    refused = error_of(await post(api, "key", order(repository="nonsense")), 400)
    assert refused["code"] == "INVALID_REPOSITORY"
    assert (await post(api, "key", order(name="one"))).status_code == 201


async def test_a_key_of_another_form_is_refused_by_name(api: Running) -> None:
    for value in (b"", b"a" * 256, "schlüssel".encode(), b"a\tb"):
        sent = await api.http.post(PATH, json=order(), headers=[(b"Idempotency-Key", value)])
        assert error_of(sent, 400)["metadata"]["fields"][0]["field"] == "Idempotency-Key"
    twice = await api.http.post(PATH, json=order(), headers=[(b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"a")])
    assert error_of(twice, 400)["metadata"]["fields"][0]["field"] == "Idempotency-Key"
    for key in ("a" * 255, 'with blanks, "quotes" and ~'):
        assert (await post(api, key, order())).status_code == 201


async def test_what_was_not_decided_in_time_is_answered_for_good_later(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, dispatching=False, reply_seconds=0.3) as api:
        pending = await post(api, "key", order(name="one"))
        assert pending.status_code == 202
        assert pending.headers["Retry-After"] == "1"
        assert (await post(api, "key", order(name="one"))).content == pending.content
        async with running_api(nats_url, database_url, prepared=True) as other:
            answer = await post(other, "key", order(name="one"))
            assert answer.status_code == 201
            assert answer.headers["Location"] == pending.headers["Location"]
            assert (await post(api, "key", order(name="one"))).content == answer.content
            assert await names(other) == {"one": 1}


async def test_a_key_is_free_for_something_new_when_a_day_has_passed(replicas: Replicas) -> None:
    api = replicas.one
    first = await post(api, "key", order(name="one"))
    await post(api, "other", order(name="two"))
    async with session(replicas.database_url, name="test", autocommit=True) as database:
        await database.execute("UPDATE idempotency SET created_at = created_at - interval '24 hours 30 minutes'")
        assert (await post(api, "key", order(name="one"))).content == first.content
        await database.execute("UPDATE idempotency SET created_at = created_at - interval '1 hour'")
        api.parts.idempotency._clock = _Later(timedelta(hours=25))
        new = await post(api, "key", order(name="one"))
        assert new.status_code == 201
        assert new.json()["id"] != first.json()["id"]
        left = await (await database.execute("SELECT key FROM idempotency")).fetchall()
        assert left == [("key",)], "what has expired is taken away"


async def test_who_loses_the_table_gets_the_same_orchestration_on_the_same_day(replicas: Replicas) -> None:
    noon = datetime.now(UTC).replace(hour=12)
    for api in (replicas.one, replicas.two):
        api.parts.idempotency._clock = _Fixed(noon)
    first = await post(replicas.one, "key", order(name="one"))
    async with session(replicas.database_url, name="test", autocommit=True) as database:
        await database.execute("DELETE FROM idempotency")
    assert (await post(replicas.two, "key", order(name="one"))).content == first.content
    assert await names(replicas.two) == {"one": 1}


class _Later:
    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return datetime.now(UTC) + self._by


class _Fixed:
    def __init__(self, time: datetime) -> None:
        self._time = time

    def now(self) -> datetime:
        return self._time


class DiedError(BaseException):
    """The process is gone: nothing catches it, nothing behind it runs."""


class DyingStore:
    """A store whose process dies just before, or just after, one of its calls."""

    def __init__(self, store: IdempotencyStore, *, before: str = "", after: str = "") -> None:
        self._store = store
        self._before = before
        self._after = after

    async def find(self, team: str, key: str) -> Claim | None:
        return await self._store.find(team, key)

    async def claim(self, team: str, key: str, fingerprint: bytes, plan: bytes) -> Claim:
        if self._before == "claim":
            raise DiedError
        claim = await self._store.claim(team, key, fingerprint, plan)
        if self._after == "claim":
            raise DiedError
        return claim

    async def settle(self, team: str, key: str, fingerprint: bytes, answer: Answer) -> Answer:
        if self._before == "settle":
            raise DiedError
        settled = await self._store.settle(team, key, fingerprint, answer)
        if self._after == "settle":
            raise DiedError
        return settled

    async def forget(self, team: str, key: str, fingerprint: bytes) -> None:
        await self._store.forget(team, key, fingerprint)


class DyingPublisher:
    """A publisher whose process dies when `left` messages are stored, before their decisions come."""

    def __init__(self, publisher: Publisher, *, left: int) -> None:
        self._publisher = publisher
        self._left = left

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        stream: str,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Ack:
        if self._left == 0:
            raise DiedError
        self._left -= 1
        ack = await self._publisher.publish(subject, data, stream=stream, msg_id=msg_id, headers=headers)
        if self._left == 0:
            raise DiedError
        return ack


def _store_dies(**when: str) -> Callable[[Running], None]:
    def rig(api: Running) -> None:
        idempotency = api.parts.idempotency
        idempotency._store = DyingStore(idempotency._store, **when)

    return rig


def _publisher_dies(left: int) -> Callable[[Running], None]:
    def rig(api: Running) -> None:
        commands = api.parts.commands
        commands._publisher = DyingPublisher(commands._publisher, left=left)

    return rig


DEATHS: dict[str, Callable[[Running], None]] = {
    "before the key is taken": _store_dies(before="claim"),
    "between taking the key and sending the command": _publisher_dies(0),
    "when the key is taken": _store_dies(after="claim"),
    "between sending the command and its decision": _publisher_dies(1),
    "between the decision and storing the answer": _store_dies(before="settle"),
    "between storing the answer and giving it": _store_dies(after="settle"),
}


async def test_wherever_the_process_dies_a_repeat_creates_at_most_what_is_missing(replicas: Replicas) -> None:
    for place, rig in DEATHS.items():
        store, publisher = replicas.one.parts.idempotency._store, replicas.one.parts.commands._publisher
        rig(replicas.one)
        died = await post(replicas.one, place, order(name=place, activate=True))
        assert died.status_code == 500, place
        replicas.one.parts.idempotency._store, replicas.one.parts.commands._publisher = store, publisher

        repeated = await post(replicas.two, place, order(name=place, activate=True))
        assert repeated.status_code == 201, place
        last = await post(replicas.one, place, order(name=place, activate=True))
        assert (last.status_code, last.content) == (201, repeated.content), place
    assert await names(replicas.two) == dict.fromkeys(DEATHS, 1)


async def test_a_bulk_that_died_half_way_creates_only_what_is_missing(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_BEGIN_SECONDS", 200.0)  # whatever they take here
    body = {"repositories": [f"acme/r{n}" for n in range(30)], "tasks": [TASK], "name": "one"}
    _publisher_dies(7)(replicas.one)
    await post(replicas.one, "key", body, BULK)
    answer = await post(replicas.two, "key", body, BULK)
    assert answer.status_code == 200
    assert answer.json()["created"] == 30
    assert (await post(replicas.two, "key", body, BULK)).content == answer.content
    assert await names(replicas.two) == {"one": 30}


class AwayStore(DyingStore):
    """A store whose database is away for the calls that are named."""

    def __init__(self, store: IdempotencyStore, *calls: str) -> None:
        super().__init__(store)
        self._calls = calls

    async def find(self, team: str, key: str) -> Claim | None:
        self._answer("find")
        return await super().find(team, key)

    async def claim(self, team: str, key: str, fingerprint: bytes, plan: bytes) -> Claim:
        self._answer("claim")
        return await super().claim(team, key, fingerprint, plan)

    async def settle(self, team: str, key: str, fingerprint: bytes, answer: Answer) -> Answer:
        self._answer("settle")
        return await super().settle(team, key, fingerprint, answer)

    def _answer(self, call: str) -> None:
        if call in self._calls:
            raise psycopg.OperationalError("away")


async def test_without_the_table_nothing_is_sent(api: Running) -> None:
    store, before = api.parts.idempotency._store, await commands_sent(api)
    for call in ("find", "claim"):
        api.parts.idempotency._store = AwayStore(store, call)
        refused = await post(api, "key", order(name="one"))
        assert error_of(refused, 503)["code"] == "SERVICE_UNAVAILABLE"
        assert refused.headers["Retry-After"]
    assert await commands_sent(api) == before


async def test_an_answer_that_could_not_be_stored_is_made_again_from_the_log(api: Running) -> None:
    store = api.parts.idempotency._store
    api.parts.idempotency._store = AwayStore(store, "settle")
    first = await post(api, "key", order(name="one"))
    assert first.status_code == 201
    await api.http.post(f"{PATH}/{first.json()['id']}/activate")
    api.parts.idempotency._store = store
    assert (await post(api, "key", order(name="one"))).content == first.content
    assert await names(api) == {"one": 1}

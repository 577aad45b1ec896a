"""API keys: made, shown once, used, listed, revoked everywhere."""

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import psycopg
import pytest
from nats.js.errors import NotFoundError

from services.api.keys import make_key as random_key
from services.api.keys_first import ensure_first_key
from services.api.keys_ring import Keyring
from services.api.keys_table import KeyTable
from shared.memory import ManualClock
from shared.observability.logging import JsonFormatter
from shared.postgres.migrate import migrate
from shared.postgres.pool import make_pool
from tests.integration.api.holders import holding, make_key
from tests.integration.api.system import Running, order, prepare, running_api
from tests.support.eventually import eventually
from tests.support.servers import fresh_database, postgres_server

WANTED = {"name": "ci", "permissions": ["orchestrations:read"]}


@pytest.fixture(name="second")
async def _second(api: Running, nats_url: str, database_url: str) -> AsyncIterator[Running]:
    """Another replica of the same installation."""
    async with running_api(nats_url, database_url, prepared=True, dispatching=False) as running:
        yield running


def stop_time(api: Running) -> None:
    """What is known of keys does not grow old by itself, however long the test takes."""
    keyring_of(api)._now = lambda: 0.0


def keyring_of(api: Running) -> Keyring:
    return cast(Keyring, api.parts.access.gate._authenticators[-1])


async def status_with(api: Running, key: str) -> int:
    async with holding(api, key) as client:
        return (await client.get("/api/orchestrations")).status_code


async def test_a_key_is_shown_once_and_lets_its_holder_in(api: Running) -> None:
    response = await api.http.post("/api/keys", json={**WANTED, "team": "b", "expiresAt": "2099-01-01T00:00:00+01:00"})
    assert response.status_code == 201
    made = response.json()
    assert list(made) == ["id", "key", "name", "team", "permissions", "expires_at", "created_at"]
    assert re.fullmatch(rf"cop_production_{made['id']}_[\w-]{{49}}", made["key"])
    assert made["expires_at"] == "2098-12-31T23:00:00Z"
    location = response.headers["Location"]
    shown = (await api.http.get(location, params={"team": "b"})).json()
    assert "key" not in shown
    assert shown == {
        **{name: value for name, value in made.items() if name != "key"},
        "created_by": "operator", "revoked_at": None, "last_used_at": None,
    }  # fmt: skip
    async with holding(api, made["key"]) as client:
        assert (await client.get("/api/orchestrations")).status_code == 200
        assert (await client.post("/api/orchestrations", json=order())).status_code == 403


async def test_a_revoked_key_is_refused_by_every_replica_at_once(api: Running, second: Running) -> None:
    stop_time(second)
    made = await make_key(api)
    for replica in (api, second):
        assert await status_with(replica, made["key"]) == 200
    for message in ("Revoked", "Already revoked"):
        response = await api.http.delete(f"/api/keys/{made['id']}")
        assert response.status_code == 200
        assert response.json() == {"id": made["id"], "status": "REVOKED", "message": message}

    async def refused() -> bool:
        return await status_with(second, made["key"]) == 401

    assert await status_with(api, made["key"]) == 401
    await eventually(refused, timeout=30)
    [listed] = (await api.http.get("/api/keys")).json()["items"]
    assert listed["revoked_at"] is not None


async def test_an_expired_key_is_refused(api: Running) -> None:
    expires = datetime.now(UTC) + timedelta(hours=1)
    made = (await api.http.post("/api/keys", json={**WANTED, "expiresAt": expires.isoformat()})).json()
    clock = ManualClock(expires - timedelta(microseconds=1))
    keyring_of(api)._clock = clock
    assert await status_with(api, made["key"]) == 200
    clock.advance(timedelta(microseconds=1))
    assert await status_with(api, made["key"]) == 401


async def test_a_team_manages_its_own_keys_and_gives_no_more_than_it_has(api: Running) -> None:
    admin = await make_key(api, "a", ["admin", "orchestrations:read"])
    other = await make_key(api, "b")
    async with holding(api, admin["key"]) as client:
        made = await client.post("/api/keys", json=WANTED)
        assert (made.status_code, made.json()["team"]) == (201, "a")
        for refused in ({"permissions": ["queue:write"]}, {"team": "b"}, {"permissions": ["admin", "agents:write"]}):
            answer = await client.post("/api/keys", json={**WANTED, **refused})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
        listed = (await client.get("/api/keys")).json()["items"]
        assert [(key["id"], key["created_by"]) for key in listed] == [
            (made.json()["id"], admin["id"]),
            (admin["id"], "operator"),
        ]
        for method, path in (("GET", "/api/keys"), ("GET", f"/api/keys/{other['id']}"), ("DELETE", "/api/keys/x")):
            assert (await client.request(method, path, params={"team": "b"})).status_code == 403
        assert (await client.delete(f"/api/keys/{other['id']}")).status_code == 404
    assert await status_with(api, other["key"]) == 200
    # The operator sees another team's keys only where it names the team.
    assert (await api.http.get("/api/keys")).json()["items"] == []
    assert (await api.http.delete(f"/api/keys/{other['id']}")).status_code == 404
    assert (await api.http.delete(f"/api/keys/{other['id']}", params={"team": "b"})).status_code == 200


async def test_what_is_no_key_is_not_found(api: Running) -> None:
    unknown = ("zzzzzzzz", "ZZZZZZZZ", "x", "a%00b", "0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11")
    for method, key_id in itertools.product(("GET", "DELETE"), unknown):
        answer = await api.http.request(method, f"/api/keys/{key_id}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")


async def test_keys_are_listed_page_by_page_newest_first(api: Running) -> None:
    made = [(await make_key(api))["id"] for _ in range(5)]
    seen, cursor = [], None
    for _ in range(3):
        parameters = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await api.http.get("/api/keys", params=parameters)).json()
        seen += [key["id"] for key in page["items"]]
        cursor = page.get("nextCursor")
    assert (seen, cursor) == (made[::-1], None)
    for wrong in ({"cursor": "x"}, {"limit": 0}, {"limit": 101}, {"order": "name"}, {"team": "Not A Team"}):
        assert (await api.http.get("/api/keys", params=wrong)).status_code == 400


async def test_every_wrong_field_is_named(api: Running) -> None:
    answer = await api.http.post("/api/keys", json={"permissions": ["all"], "expiresAt": "never", "key": "mine"})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert {problem["field"] for problem in error["metadata"]["fields"]} == {
        "name", "permissions[0]", "expiresAt", "key",
    }  # fmt: skip


async def test_a_repeated_request_makes_one_key_and_shows_it_once(api: Running) -> None:
    headers = {"Idempotency-Key": "first-try"}
    answers = await asyncio.gather(*(api.http.post("/api/keys", json=WANTED, headers=headers) for _ in range(10)))
    answers.append(await api.http.post("/api/keys", json=WANTED, headers=headers))
    assert {answer.status_code for answer in answers} == {201}
    keys = [answer.json().pop("key") for answer in answers]
    [shown] = [key for key in keys if key is not None]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await status_with(api, shown) == 200
    assert len((await api.http.get("/api/keys")).json()["items"]) == 1
    other = await api.http.post("/api/keys", json={**WANTED, "name": "another"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "IDEMPOTENCY_CONFLICT")


async def test_the_plan_of_a_key_that_could_do_more_is_not_carried_out_for_another(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = await make_key(api, permissions=["admin"])
    wanted = {"name": "strong", "permissions": ["admin", "queue:write"]}
    headers = {"Idempotency-Key": "of-the-team"}

    async def away(*_: Any) -> None:
        raise psycopg.OperationalError

    with monkeypatch.context() as patched:
        patched.setattr(KeyTable, "add", away)
        assert (await api.http.post("/api/keys", json=wanted, headers=headers)).status_code == 503
    async with holding(api, manager["key"]) as client:
        refused = await client.post("/api/keys", json=wanted, headers=headers)
    assert refused.status_code == 403
    assert refused.json()["error"]["metadata"]["permissions"] == ["queue:write"]
    assert (await api.http.post("/api/keys", json=wanted, headers=headers)).status_code == 201


async def test_the_last_use_is_written_apart_from_the_request(api: Running, nats_url: str, database_url: str) -> None:
    made = await make_key(api)
    async with running_api(nats_url, database_url, prepared=True, dispatching=False) as second:
        assert await status_with(second, made["key"]) == 200
    shown = (await api.http.get(f"/api/keys/{made['id']}")).json()
    assert datetime.fromisoformat(shown["last_used_at"]) >= datetime.fromisoformat(made["created_at"])


async def test_the_last_use_is_written_once_a_minute_at_most(database_url: str) -> None:
    await asyncio.to_thread(migrate, database_url)
    begun = datetime(2026, 11, 1, 12, tzinfo=UTC)
    async with make_pool(database_url, name="test") as pool:
        table = KeyTable(pool)
        await ensure_first_key(table, team="a", environment="test", say=lambda _: None)
        [first] = await table.page("a", limit=10)
        for seconds, written in ((0, 0), (59, 0), (60, 60), (61, 60), (30, 60), (120, 120)):
            await table.note_used({first.id: begun + timedelta(seconds=seconds), "unknown1": begun})
            record = await table.find(first.id)
            assert record is not None
            assert record.last_used_at == begun + timedelta(seconds=written)


async def test_without_a_key_in_the_settings_the_first_is_printed_once_over_all_replicas(
    nats_url: str, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    await prepare(nats_url, database_url)
    printed = ""

    def found() -> list[str]:
        nonlocal printed
        printed += capfd.readouterr().out
        return re.findall(r"cop_production_\w{8}_[\w-]{49}", printed)

    async with AsyncExitStack() as stack:
        api, _ = [
            await stack.enter_async_context(
                running_api(nats_url, database_url, prepared=True, orchestrator_api_key=None, team="ops")
            )
            for _ in range(2)
        ]
        await eventually(found, timeout=30)
        [key] = found()
        # It is shown before it is kept, see below.
        await eventually(lambda: api.parts.access.keys.page("ops", limit=10))
        async with holding(api, key) as client:
            made = await client.post("/api/keys", json={**WANTED, "team": "b"})
            assert (made.status_code, made.json()["team"]) == (201, "b")
            [first] = (await client.get("/api/keys")).json()["items"]
            assert (first["name"], first["team"], first["created_by"]) == ("first", "ops", "start")
            await client.delete(f"/api/keys/{first['id']}")
    # Not even when it is revoked: whoever removed it had a reason, and ORCHESTRATOR_API_KEY is always a way in.
    async with make_pool(database_url, name="test") as pool:
        await ensure_first_key(KeyTable(pool), team="ops", environment="test", say=lambda _: pytest.fail("again"))
    assert len(found()) == 1


async def test_a_first_key_that_could_not_be_kept_is_followed_by_another(database_url: str) -> None:
    """Killed between showing it and keeping it: the one that was shown counts for nothing."""
    await asyncio.to_thread(migrate, database_url)
    async with make_pool(database_url, name="test") as pool:
        table = KeyTable(pool)

        def die(_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await ensure_first_key(table, team="a", environment="test", say=die)
        assert await table.page("a", limit=10) == []
        shown: list[Any] = []
        await asyncio.gather(
            *(ensure_first_key(table, team="a", environment="test", say=shown.append) for _ in range(5))
        )
        [key] = shown
        [record] = await table.page("a", limit=10)
        assert (record.id, record.sha256, record.operator) == (key.id, key.sha256, True)


async def test_a_key_is_kept_nowhere(
    nats_url: str, database_url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every row, message, log line and answer is searched for the keys that were shown."""
    caplog.set_level(logging.DEBUG)
    answers: list[str] = []
    async with running_api(nats_url, database_url) as api:
        created = await api.http.post("/api/keys", json=WANTED, headers={"Idempotency-Key": "once"})
        key, wrong = created.json()["key"], random_key("production", created.json()["id"]).text
        for shown in (key, wrong, key[:-1]):
            for headers in ({"X-API-Key": shown}, {"Authorization": f"Bearer {shown}"}):
                async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=60, trust_env=False) as client:
                    for path in ("/api/orchestrations", "/api/keys", "/api/orchestrations/x", "/nowhere"):
                        answers.append((await client.get(path)).text)
                    answers.append((await client.post("/api/orchestrations", content=b"{")).text)
        answers.append((await api.http.post("/api/keys", json=WANTED, headers={"Idempotency-Key": "once"})).text)
        answers.append((await api.http.get("/api/keys")).text)
        answers.append((await api.http.delete(f"/api/keys/{created.json()['id']}")).text)
        messages = await everything_stored(api)
    lines = "\n".join(JsonFormatter("api").format(record) for record in caplog.records)
    rows = await asyncio.to_thread(every_row, database_url)
    written = "\n".join(capfd.readouterr())
    assert '"actor_key_id":"operator"' in lines  # the making of it was logged, and is what is searched
    assert created.json()["id"] in rows
    for place in (lines, rows, written, messages, *answers):
        for shown in (key, wrong):
            secret = shown.split("_", 3)[3]
            assert secret[:-6] not in place


async def everything_stored(api: Running) -> str:
    """Whatever is in the broker's streams."""
    manager = api.runtime.nc.jsm()
    stored = []
    for info in await manager.streams_info():
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            with suppress(NotFoundError):  # it was handled, and is gone
                stored.append(repr(await manager.get_msg(info.config.name or "", sequence)))
    return "\n".join(stored)


def every_row(dsn: str) -> str:
    """Every row of every table, as text."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [connection.execute(f'SELECT t::text FROM "{name}" AS t'.encode()).fetchall() for (name,) in tables]
    return repr(rows)


async def test_making_and_revoking_is_logged_with_who_did_it(api: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = await make_key(api, "b", ["admin"])
    async with holding(api, made["key"]) as client:
        await client.delete(f"/api/keys/{made['id']}")
    audits = [record.__dict__["audit"] for record in caplog.records if "audit" in record.__dict__]
    about = {"key_id": made["id"], "team": "b"}
    assert audits == [
        {**about, "actor": "operator", "actor_key_id": "operator"},
        {**about, "actor": "key of b", "actor_key_id": made["id"]},
    ]


async def test_without_the_database_known_keys_go_on_and_others_wait(nats_url: str) -> None:
    with postgres_server() as server, fresh_database(server) as dsn:
        async with running_api(nats_url, dsn, requests_per_minute=600) as api:
            stop_time(api)
            known, unknown = await make_key(api), await make_key(api)
            assert await status_with(api, known["key"]) == 200
            server.stop()
            try:
                async with holding(api, known["key"]) as client:
                    # Let in, and refused by what is inside.
                    answer = await client.post("/api/orchestrations", json={})
                    assert answer.status_code == 400
                    assert answer.headers["RateLimit-Limit"] == "600"
                async with holding(api, unknown["key"]) as client:
                    answer = await client.post("/api/orchestrations", json={})
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
                    assert "Retry-After" in answer.headers
            finally:
                server.start()

            async def back() -> bool:
                return await status_with(api, unknown["key"]) == 200

            await eventually(back, timeout=60)

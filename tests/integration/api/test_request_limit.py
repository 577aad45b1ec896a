"""How often a key may ask, over all replicas, and what a client is told of it."""

import asyncio
import time
from collections import Counter
from datetime import timedelta

import httpx
import psycopg
import pytest

from services.api import request_limit
from services.api.request_limit import PostgresShares, QuotaExceededError, RequestQuota, Share
from shared.postgres.migrate import migrate
from shared.postgres.pool import make_pool
from tests.integration.api.holders import holding, make_key
from tests.integration.api.system import Running, running_api

LIMIT = 40
SHOWN = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy", "RateLimit")


async def test_two_replicas_together_keep_the_limit_of_a_key(
    nats_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A replica whose database stands still for longer than this counts alone.
    monkeypatch.setattr(request_limit, "_PATIENCE_SECONDS", 60.0)
    async with (
        running_api(nats_url, database_url, requests_per_minute=LIMIT) as api,
        running_api(nats_url, database_url, requests_per_minute=LIMIT, prepared=True, dispatching=False) as second,
    ):
        made = await make_key(api)
        async with holding(api, made["key"]) as here, holding(second, made["key"]) as there:
            begun = time.monotonic()
            asked = [client.get("/api/keys") for _ in range(LIMIT) for client in (here, there)]
            answers = await asyncio.gather(*asked)
            # A machine that is slow enough for the minute to end in between gives the next one's as well.
            minutes = 1 + (time.monotonic() - begun) // 60
            served = Counter(answer.status_code for answer in answers)
            assert set(served) == {200, 429}
            assert 0.8 * LIMIT <= served[200] <= 1.1 * LIMIT * minutes
        await refused_like_everything(next(answer for answer in answers if answer.status_code == 429))
        # Another key is not held up.
        assert (await api.http.get("/api/keys")).status_code == 200


async def refused_like_everything(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert (error["code"], error["statusCode"], error["metadata"]["limit"]) == ("RATE_LIMIT_EXCEEDED", 429, LIMIT)
    assert error["metadata"]["requestId"] == answer.headers["X-Request-ID"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["RateLimit-Remaining"] == "0"
    assert answer.headers["Retry-After"] == answer.headers["RateLimit-Reset"]


async def test_every_answer_to_a_key_says_how_it_stands(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, requests_per_minute=LIMIT) as api:
        made = await make_key(api, permissions=["orchestrations:read"])
        async with holding(api, made["key"]) as client:
            asked = {
                ("GET", "/api/orchestrations"): 200,
                ("GET", "/api/orchestrations?limit=0"): 400,
                ("GET", "/api/keys"): 403,
                ("GET", "/api/orchestrations/0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11"): 404,
            }
            for used, ((method, path), status) in enumerate(asked.items(), start=1):
                answer = await client.request(method, path)
                assert answer.status_code == status
                assert answer.headers["RateLimit-Limit"] == str(LIMIT)
                assert answer.headers["RateLimit-Remaining"] == str(LIMIT - used)
                reset = answer.headers["RateLimit-Reset"]
                assert answer.headers["RateLimit"] == f'"default";r={LIMIT - used};t={reset}'
                assert answer.headers["RateLimit-Policy"] == f'"default";q={LIMIT};w=60'
        for path in ("/health/live", "/metrics", "/openapi.json", "/api/orchestrations", "/nowhere"):
            async with httpx.AsyncClient(base_url=api.url, timeout=60, trust_env=False) as stranger:
                answer = await stranger.get(path)
            assert not [name for name in SHOWN if name in answer.headers], path


async def test_an_address_that_goes_on_failing_waits(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, failed_attempts_per_minute=3) as api:
        made = await make_key(api)
        async with holding(api, made["key"]) as client:
            assert (await client.get("/api/keys")).status_code == 200
            async with holding(api, "wrong") as stranger:
                answers = [await stranger.get("/api/keys") for _ in range(5)]
            assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
            assert answers[-1].json()["error"]["code"] == "RATE_LIMIT_EXCEEDED"
            assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
            # Who is known goes on, and what is open stays open.
            for known in (client, api.http):
                assert (await known.get("/api/keys")).status_code == 200
            assert (await api.http.get("/health/live", headers={"X-API-Key": "wrong"})).status_code == 200
            await without_a_key(api)


async def without_a_key(api: Running) -> None:
    async with httpx.AsyncClient(base_url=api.url, timeout=60, trust_env=False) as stranger:
        assert (await stranger.get("/api/keys")).status_code == 401


async def test_shares_of_a_window_are_handed_out_in_turn_and_begin_again_after_it(database_url: str) -> None:
    await asyncio.to_thread(migrate, database_url)
    async with make_pool(database_url, name="test", max_size=8, wait=timedelta(seconds=60)) as pool:
        shares = PostgresShares(pool)
        taken = await asyncio.gather(*(shares.take("k", 100, 5) for _ in range(60)))
        assert sum(share.requests for share in taken) == 100
        assert max(share.granted for share in taken) == 100
        # Who waited for the one that began the window counts from when it began to wait itself.
        assert all(0 < share.seconds <= 90 for share in taken)
        assert (await shares.take("k", 100, 5)).requests == 0
        assert (await shares.take("other", 100, 5)).requests == 5
        # A limit that was lowered gives nothing more, one that was raised gives the rest.
        assert (await shares.take("k", 10, 5)).requests == 0
        assert (await shares.take("k", 104, 5)).requests == 1
        await asyncio.to_thread(end_the_window, database_url)
        again = await shares.take("k", 100, 5)
        assert (again.requests, again.granted) == (5, 5)


def end_the_window(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE request_windows SET ends_at = now()")


async def test_six_hundred_requests_write_fewer_than_sixty_times(database_url: str) -> None:
    await asyncio.to_thread(migrate, database_url)
    async with make_pool(database_url, name="test") as pool:
        shares = PostgresShares(pool)
        written = 0

        class Counting:
            async def take(self, key_id: str, limit: int, share: int) -> Share:
                nonlocal written
                written += 1
                return await shares.take(key_id, limit, share)

        quota = RequestQuota(Counting(), 600)
        served = refused = 0
        for _ in range(700):
            try:
                await quota.take("k")
                served += 1
            except QuotaExceededError:
                refused += 1
        assert (served, refused) == (600, 100)
        assert written < 60

"""What every store of idempotent requests promises."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.api.idempotency_store import Answer, Claim, IdempotencyStore, PostgresIdempotency
from shared.postgres.migrate import migrate
from shared.postgres.pool import make_pool
from tests.support.idempotency import MemoryIdempotency

ONE, OTHER = b"1" * 32, b"2" * 32
ANSWER = Answer(201, b'{"id":1}', "/things/1")


@pytest.fixture(name="store", params=["memory", "postgres"])
async def _store(request: pytest.FixtureRequest) -> AsyncIterator[IdempotencyStore]:
    if request.param == "memory":
        yield MemoryIdempotency()
        return
    address: str = request.getfixturevalue("database_url")
    await asyncio.to_thread(migrate, address)
    async with make_pool(address, name="test", wait=timedelta(minutes=1)) as pool:
        yield PostgresIdempotency(pool)


async def test_the_first_to_claim_a_key_holds_it(store: IdempotencyStore) -> None:
    assert await store.find("red", "key") is None
    assert await store.claim("red", "key", ONE, b"plan") == Claim(ONE, b"plan", None, is_new=True)
    assert await store.claim("red", "key", ONE, b"another plan") == Claim(ONE, b"plan", None)
    assert await store.claim("red", "key", OTHER, b"another plan") == Claim(ONE, b"plan", None)
    assert await store.find("red", "key") == Claim(ONE, b"plan", None)


async def test_of_many_that_claim_at_once_one_is_the_first(store: IdempotencyStore) -> None:
    claims = await asyncio.gather(*(store.claim("red", "key", ONE, b"plan %d" % n) for n in range(20)))
    assert [claim.is_new for claim in claims].count(True) == 1
    assert len({claim.plan for claim in claims}) == 1


async def test_teams_and_keys_are_apart(store: IdempotencyStore) -> None:
    await store.claim("red", "key", ONE, b"plan")
    assert await store.find("blue", "key") is None
    assert (await store.claim("blue", "key", OTHER, b"plan")).is_new
    assert (await store.claim("red", "Key", OTHER, b"plan")).is_new


async def test_the_first_answer_stays(store: IdempotencyStore) -> None:
    await store.claim("red", "key", ONE, b"plan")
    assert await store.settle("red", "key", ONE, ANSWER) == ANSWER
    assert await store.settle("red", "key", ONE, Answer(200, b"{}", None)) == ANSWER
    assert await store.find("red", "key") == Claim(ONE, None, ANSWER)
    assert await store.claim("red", "key", ONE, b"plan") == Claim(ONE, None, ANSWER)


async def test_an_answer_without_an_address_is_kept_as_it_is(store: IdempotencyStore) -> None:
    await store.claim("red", "key", ONE, b"plan")
    await store.settle("red", "key", ONE, Answer(200, b"", None))
    assert await store.find("red", "key") == Claim(ONE, None, Answer(200, b"", None))


async def test_a_key_that_was_given_back_is_free(store: IdempotencyStore) -> None:
    await store.claim("red", "key", ONE, b"plan")
    await store.forget("red", "key", OTHER)
    assert await store.find("red", "key") is not None, "it is another one's"
    await store.forget("red", "key", ONE)
    assert await store.claim("red", "key", OTHER, b"plan") == Claim(OTHER, b"plan", None, is_new=True)


async def test_a_key_with_an_answer_is_not_given_back(store: IdempotencyStore) -> None:
    await store.claim("red", "key", ONE, b"plan")
    await store.settle("red", "key", ONE, ANSWER)
    await store.forget("red", "key", ONE)
    assert await store.find("red", "key") == Claim(ONE, None, ANSWER)


async def test_who_succeeds_after_another_gave_the_key_back_has_its_answer_kept(store: IdempotencyStore) -> None:
    await store.claim("red", "key", ONE, b"plan")
    await store.forget("red", "key", ONE)
    assert await store.settle("red", "key", ONE, ANSWER) == ANSWER
    assert await store.find("red", "key") == Claim(ONE, None, ANSWER)


async def test_the_answer_of_a_request_that_lost_the_key_is_not_stored(store: IdempotencyStore) -> None:
    await store.claim("red", "key", ONE, b"plan")
    assert await store.settle("red", "key", OTHER, ANSWER) == ANSWER
    assert await store.find("red", "key") == Claim(ONE, b"plan", None)

"""What becomes of the answers to requests under a key, without servers."""

import asyncio
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel
from starlette.responses import Response

from services.api.commands import NOT_SENT, UNKNOWN
from services.api.errors import ApiError, unavailable
from services.api.idempotency import Idempotency, Requested, RequestIds, Work
from services.api.idempotency_store import Answer
from services.api.problems import InvalidRequestError, problem
from services.api.responses import Json
from shared.domain.errors import Refusal
from shared.system import RandomIds
from tests.support.eventually import eventually
from tests.support.idempotency import MemoryIdempotency

ONE = Requested("red", "key", b"1" * 32)
OTHER = Requested("red", "key", b"2" * 32)


class Day:
    def __init__(self, day: int = 1) -> None:
        self.day = day

    def now(self) -> datetime:
        return datetime(2030, 1, self.day, tzinfo=UTC)


class Made(BaseModel):
    thing_id: str


class Route:
    """A route that makes one thing; `answers` are what its runs lead to, the last one again and again."""

    def __init__(self, *answers: Response | Exception, store: MemoryIdempotency | None = None) -> None:
        self.store = store or MemoryIdempotency()
        self.clock = Day()
        self.idempotency = Idempotency(self.store, self.clock, RandomIds())
        self.answers = list(answers)
        self.planned = 0
        self.run_for: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, requested: Requested = ONE, *, store_answer: bool = True) -> tuple[Answer, bool]:
        work = Work(Made, self._plan, self._carry_out, store_answer)
        given = await self.idempotency.answer(requested, work)
        return given.answer, given.replayed

    async def _plan(self, ids: RequestIds) -> Made:
        self.planned += 1
        return Made(thing_id=ids.new("thing"))

    async def _carry_out(self, made: Made) -> Response:
        await self.open.wait()
        self.run_for.append(made.thing_id)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def created(text: str = "one") -> Response:
    return Json({"made": text}, 201, {"Location": "/things/1"})


async def test_the_first_answer_is_everybodys() -> None:
    route = Route(created("first"), created("second"))
    first, replayed = await route.ask()
    assert (first, replayed) == (Answer(201, b'{"made":"first"}', "/things/1"), False)
    assert await route.ask() == (first, True)
    assert (route.planned, len(route.run_for)) == (1, 1)


async def test_requests_that_come_together_share_one_run() -> None:
    route = Route(created())
    answers = await asyncio.gather(*(route.ask() for _ in range(20)))
    assert len(route.run_for) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 19


async def test_what_was_begun_goes_on_when_the_first_to_ask_goes_away() -> None:
    route = Route(created())
    route.open.clear()
    first, second = asyncio.create_task(route.ask()), asyncio.create_task(route.ask())
    await eventually(lambda: route.planned)
    first.cancel()
    route.open.set()
    assert (await second)[0].status == 201
    assert len(route.run_for) == 1


async def test_another_process_with_the_same_plan_gives_what_was_stored_first() -> None:
    store = MemoryIdempotency()
    one, two = Route(created("one"), store=store), Route(created("two"), store=store)
    answers = await asyncio.gather(one.ask(), two.ask())
    assert answers[0][0] == answers[1][0]
    assert set(one.run_for + two.run_for) == {one.run_for[0]}


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("INVALID_STATE_TRANSITION", "it has ended"),
        InvalidRequestError([problem("title", "is too long")]),
        ApiError("ORCHESTRATION_NOT_FOUND", "there is none"),
    ],
)
async def test_a_refusal_gives_the_key_back_also_for_another_request(refusal: Exception) -> None:
    route = Route(refusal, created())
    with pytest.raises(type(refusal)):
        await route.ask()
    assert route.store.claims == {}
    assert (await route.ask(OTHER))[0].status == 201


@pytest.mark.parametrize("failure", [unavailable("away", outcome=UNKNOWN), RuntimeError("a bug"), Json({}, 202)])
async def test_what_is_not_decided_is_carried_out_again_with_the_same_plan(failure: Exception | Response) -> None:
    route = Route(failure, created())
    if isinstance(failure, Exception):
        with pytest.raises(type(failure)):
            await route.ask()
    else:
        assert (await route.ask())[0].status == 202
    answer, replayed = await route.ask()
    assert (answer.status, replayed) == (201, True)
    assert route.planned == 1
    assert route.run_for[0] == route.run_for[1]


async def test_a_repeat_that_sends_nothing_does_not_say_that_nothing_was_sent() -> None:
    route = Route(unavailable("away", outcome=NOT_SENT))
    for outcome in (NOT_SENT, UNKNOWN):
        with pytest.raises(ApiError) as caught:
            await route.ask()
        assert caught.value.metadata["outcome"] == outcome


async def test_an_answer_with_a_secret_is_made_again_each_time() -> None:
    route = Route(created())
    first, _ = await route.ask(store_answer=False)
    assert await route.ask(store_answer=False) == (first, True)
    assert len(route.run_for) == 2
    assert route.run_for[0] == route.run_for[1]
    assert all(claim.answer is None for claim in route.store.claims.values())


async def test_ids_differ_by_team_key_request_and_day() -> None:
    route = Route(created())
    asked = [ONE, Requested("blue", "key", ONE.fingerprint), Requested("red", "key 2", ONE.fingerprint)]
    for requested in asked:
        await route.ask(requested)
    route.store.claims.clear()
    await route.ask(OTHER)
    route.store.claims.clear()
    route.clock.day = 2
    await route.ask(ONE)
    assert len(set(route.run_for)) == len(route.run_for) == 5
    route.store.claims.clear()
    route.clock.day = 1
    await route.ask(ONE)
    assert route.run_for[5] == route.run_for[0]


async def test_closing_leaves_nothing_running() -> None:
    route = Route(created())
    route.open.clear()
    asked = asyncio.create_task(route.ask())
    await eventually(lambda: route.planned)
    await route.idempotency.aclose()
    await asyncio.gather(asked, return_exceptions=True)
    assert asked.cancelled()

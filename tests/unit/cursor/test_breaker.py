"""A provider that fails is left alone, and one call at a time finds out whether it is well again."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from shared.cursor.breaker import Breaker, Call, is_outage
from shared.cursor.errors import ProviderError
from shared.cursor.factory import connect
from shared.cursor.provider import Provider
from tests.unit.cursor.scripted import AGENT_ID, KEY, REQUEST, RUN_ID, Broken, Script, Step, created, error, found
from tests.unit.cursor.test_http import Limiter

FAILED = ProviderError("internal_error", "oops", status=500, retryable=True)
UNANSWERED = ProviderError("timeout", "no answer", retryable=True, outcome_known=False)
RESET = ProviderError("network_error", "reset", retryable=True, outcome_known=False)
THROTTLED = ProviderError("rate_limit_exceeded", "slow down", status=429, retryable=True)
MISSING = ProviderError("agent_not_found", "no such agent", status=404)
GARBLED = ProviderError("bad_response", "not JSON", retryable=True)
UNKNOWN_WAY = ProviderError("not_implemented", "no", status=501)


class Clocked(Breaker):
    """A breaker of 30 s on a clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 1000.0
        super().__init__(30.0, now=lambda: self.time, chance=random.Random(1))

    def meets(self, outcome: ProviderError | None) -> None:
        """A call that ends like this at once."""
        try:
            with self.call():
                if outcome is not None:
                    raise outcome
        except ProviderError as raised:
            if raised is not outcome:
                raise

    def fail(self, times: int = 5) -> "Clocked":
        for _ in range(times):
            self.meets(FAILED)
        return self

    def leaves(self) -> AbstractContextManager[Call]:
        """A call that is under way from now on."""
        call = self.call()
        call.__enter__()
        return call

    def refuses(self) -> float | None:
        """Seconds after which a call is asked to come again, None if it would be let through."""
        try:
            self.check()
        except ProviderError as raised:
            refused = raised
        else:
            return None
        assert (refused.code, refused.status) == ("provider_unavailable", None)
        assert refused.retryable
        assert refused.outcome_known
        return refused.retry_after


def ends(call: AbstractContextManager[Call], outcome: BaseException | None = None) -> None:
    """As at the end of its with statement."""
    assert not call.__exit__(type(outcome) if outcome else None, outcome, None)


# Opening


@pytest.mark.parametrize("failure", [FAILED, UNANSWERED, RESET], ids=lambda failure: failure.code)
def test_the_fifth_failure_in_a_row_opens_it(failure: ProviderError) -> None:
    breaker = Clocked()
    for _ in range(5):
        assert breaker.refuses() is None
        breaker.meets(failure)
    assert breaker.refuses() is not None
    with pytest.raises(ProviderError, match="provider_unavailable"):
        breaker.meets(None)


@pytest.mark.parametrize(
    "outcome", [None, THROTTLED, MISSING, GARBLED, UNKNOWN_WAY], ids=lambda o: o.code if o else "success"
)
def test_any_answer_in_between_begins_the_count_anew(outcome: ProviderError | None) -> None:
    breaker = Clocked().fail(4)
    breaker.meets(outcome)
    breaker.fail(4)
    assert not breaker.is_open
    breaker.fail(1)
    assert breaker.is_open


def test_calls_that_were_given_up_are_no_news() -> None:
    breaker = Clocked().fail(4)
    for _ in range(9):
        ends(breaker.leaves(), asyncio.CancelledError())
    assert not breaker.is_open
    breaker.fail(1)
    assert breaker.is_open


def test_failures_of_calls_that_ran_side_by_side_count_as_in_a_row() -> None:
    breaker = Clocked()
    for call in [breaker.leaves() for _ in range(5)]:
        ends(call, UNANSWERED)
    assert breaker.is_open


# Open


def test_who_is_refused_is_told_to_come_when_it_is_worth_asking_again_and_not_all_at_once() -> None:
    breaker = Clocked().fail()
    breaker.time += 10
    asked = [breaker.refuses() or 0.0 for _ in range(50)]
    assert all(20 <= seconds < 27.5 for seconds in asked)
    assert max(asked) - min(asked) > 4
    assert breaker.wait == 20


def test_late_failures_while_it_is_open_do_not_put_off_the_trial() -> None:
    breaker = Clocked()
    late = [breaker.leaves() for _ in range(20)]
    breaker.fail()
    for call in late:
        breaker.time += 1.5
        ends(call, UNANSWERED)
    assert breaker.wait == 0
    assert breaker.refuses() is None


def test_a_late_answer_closes_it() -> None:
    breaker = Clocked()
    late = breaker.leaves()
    breaker.fail()
    ends(late, MISSING)
    assert not breaker.is_open
    assert breaker.refuses() is None


def test_what_left_before_it_opened_cannot_open_it_again_once_it_has_closed() -> None:
    breaker = Clocked()
    late = [breaker.leaves() for _ in range(20)]
    breaker.fail()
    breaker.time += 30
    breaker.meets(None)
    for call in late:
        ends(call, UNANSWERED)
    assert not breaker.is_open
    breaker.fail(4)
    assert not breaker.is_open
    breaker.fail(1)
    assert breaker.is_open


# The trial


def test_after_thirty_seconds_one_call_is_let_through_and_its_answer_closes_it() -> None:
    breaker = Clocked().fail()
    breaker.time += 29.9
    assert breaker.refuses() is not None
    breaker.time += 0.1
    trial = breaker.leaves()
    assert (breaker.is_open, breaker.refuses() is not None) == (True, True)
    ends(trial)
    assert (breaker.is_open, breaker.refuses()) == (False, None)
    breaker.fail(4)
    assert not breaker.is_open, "the count begins anew"


def test_who_is_refused_for_a_trial_comes_again_soon() -> None:
    breaker = Clocked().fail()
    breaker.time += 30
    trial = breaker.leaves()
    assert breaker.wait == 7.5
    assert all(7.5 <= (breaker.refuses() or 0.0) < 15 for _ in range(50))
    ends(trial)


def test_a_trial_that_fails_leaves_it_open_for_as_long_again() -> None:
    breaker = Clocked().fail()
    for _ in range(3):
        breaker.time += 30
        trial = breaker.leaves()
        breaker.time += 12
        ends(trial, UNANSWERED)
        assert breaker.wait == 30


def test_a_trial_that_is_throttled_or_refused_closes_it() -> None:
    for outcome in (THROTTLED, MISSING):
        breaker = Clocked().fail()
        breaker.time += 30
        breaker.meets(outcome)
        assert not breaker.is_open


@pytest.mark.parametrize("end", [asyncio.CancelledError(), GeneratorExit(), RuntimeError("a defect")], ids=repr)
def test_a_trial_that_was_given_up_makes_room_for_the_next_at_once(end: BaseException) -> None:
    breaker = Clocked().fail()
    breaker.time += 30
    ends(breaker.leaves(), end)
    assert (breaker.is_open, breaker.refuses()) == (True, None)
    breaker.meets(None)
    assert not breaker.is_open


def test_a_trial_that_takes_very_long_makes_room_for_the_next_whatever_becomes_of_it() -> None:
    breaker = Clocked().fail()
    breaker.time += 30
    first = breaker.leaves()
    breaker.time += 30
    second = breaker.leaves()
    assert breaker.refuses() is not None
    breaker.time += 5
    ends(first, UNANSWERED)
    assert breaker.refuses() is not None, "the second is under way"
    ends(second)
    assert not breaker.is_open


def test_a_trial_that_is_overtaken_by_a_late_answer_counts_as_any_call() -> None:
    breaker = Clocked()
    late = breaker.leaves()
    breaker.fail()
    breaker.time += 30
    trial = breaker.leaves()
    ends(late)
    ends(trial, FAILED)
    assert not breaker.is_open


def test_it_tells_once_that_it_has_opened_and_once_that_it_has_closed(caplog: pytest.LogCaptureFixture) -> None:
    breaker = Clocked()
    late = [breaker.leaves() for _ in range(3)]
    with caplog.at_level(logging.INFO):
        breaker.fail()
        for call in late:
            ends(call, FAILED)
        for _ in range(3):
            breaker.refuses()
            breaker.time += 30
            breaker.meets(FAILED)
        breaker.time += 30
        breaker.meets(None)
        breaker.meets(None)
    assert [record.getMessage().split(" ", 2)[2] for record in caplog.records] == [
        "failed 5 times in a row and is left alone for 30 s at a time: internal_error: oops",
        "answers again",
    ]


def test_what_a_5xx_says_is_not_supported_is_an_answer() -> None:
    assert [is_outage(e) for e in (FAILED, UNANSWERED, RESET)] == [True] * 3
    assert [is_outage(e) for e in (THROTTLED, MISSING, GARBLED, UNKNOWN_WAY)] == [False] * 4


# Around every call


def provider(breaker: Breaker, script: Script, limiter: Limiter | None = None) -> Provider:
    transport = httpx.MockTransport(script)
    url = "https://api.cursor.example"
    return connect("v1", url, KEY, breaker=breaker, limiter=limiter, transport=transport, sleep=script.sleep)


async def ends_as(call: Callable[[], object], code: str) -> None:
    with pytest.raises(ProviderError) as caught:
        await call()  # type: ignore[misc]
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        (error(503, "upstream_error"), "upstream_error"),
        (httpx.ReadTimeout(""), "timeout"),
        (httpx.ConnectError("refused"), "network_error"),
    ],
    ids=["503", "timeout", "no connection"],
)
async def test_the_tries_of_all_calls_count_and_what_is_refused_neither_leaves_nor_takes_a_share_of_the_limit(
    failing: Step, code: str
) -> None:
    script, limiter = Script(*[failing] * 5), Limiter()
    client = provider(Clocked(), script, limiter)
    await ends_as(lambda: client.get(AGENT_ID, RUN_ID), code)
    await ends_as(lambda: client.create(REQUEST), code)
    await ends_as(lambda: client.get(AGENT_ID, RUN_ID), "provider_unavailable")  # after its first try
    for call in (
        lambda: client.create(REQUEST),
        lambda: client.stop(AGENT_ID, RUN_ID),
        lambda: client.follow_up(AGENT_ID, "Go on", after_run=None),
        lambda: client.delete(AGENT_ID),
        lambda: client.repositories(),
        lambda: anext(client.stream(AGENT_ID, RUN_ID)),
    ):
        await ends_as(call, "provider_unavailable")
    assert len(script.requests) == len(limiter.acquired) == 5


async def test_a_stream_that_opens_closes_it_and_one_that_breaks_off_proves_nothing() -> None:
    first = b'id: 1\nevent: status\ndata: {"status": "RUNNING"}\n\n'
    broken = httpx.Response(
        200, headers={"Content-Type": "text/event-stream"}, stream=Broken(first, httpx.ReadError("reset"))
    )
    breaker = Clocked().fail()
    breaker.time += 30
    stream = provider(breaker, Script(broken)).stream(AGENT_ID, RUN_ID)
    await anext(stream)
    assert not breaker.is_open
    breaker.fail(4)
    await ends_as(lambda: anext(stream), "network_error")
    assert not breaker.is_open


async def test_a_stream_that_does_not_open_is_a_call_that_failed() -> None:
    breaker = Clocked().fail(3)
    client = provider(breaker, Script(error(503, "upstream_error"), httpx.ReadTimeout("")))
    await ends_as(lambda: anext(client.stream(AGENT_ID, RUN_ID)), "upstream_error")
    assert not breaker.is_open
    await ends_as(lambda: anext(client.stream(AGENT_ID, RUN_ID)), "timeout")
    assert breaker.is_open


async def test_a_call_that_is_cancelled_does_not_keep_the_others_waiting_for_ever() -> None:
    breaker, reached = Clocked().fail(), asyncio.Event()

    class Hanging(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if not reached.is_set():
                reached.set()
                await asyncio.Event().wait()
            return found("v1")

    client = connect("v1", "https://api.cursor.example", KEY, breaker=breaker, transport=Hanging())
    breaker.time += 30
    trial = asyncio.create_task(client.get(AGENT_ID, RUN_ID))
    await reached.wait()
    await ends_as(lambda: client.get(AGENT_ID, RUN_ID), "provider_unavailable")
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    await client.get(AGENT_ID, RUN_ID)
    assert not breaker.is_open


async def test_an_answer_that_cannot_be_read_is_an_answer() -> None:
    breaker = Clocked().fail(4)
    script = Script(httpx.Response(200, content=b"<html>"), created("v1"))
    client = provider(breaker, script)
    await ends_as(lambda: client.create(REQUEST), "bad_response")
    breaker.fail(4)
    await client.create(REQUEST)
    assert not breaker.is_open

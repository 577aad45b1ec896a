"""Streams make an end seen at once, and prove nothing by themselves."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from services.monitor import streams as streams_module
from services.monitor.streams import Streams
from shared.command_handler import Decided
from shared.cursor.errors import ProviderError
from shared.cursor.provider import StreamEvent
from shared.domain.events import AgentStatus, AgentStatusChanged, TaskStatus
from shared.ports import LogUnavailableError
from tests.support.eventually import eventually
from tests.unit.dispatcher.scripted import THROTTLED, UNAVAILABLE, StreamStep, snapshot
from tests.unit.monitor.follower import Monitor, monitor


class Sleeps:
    """Stands for the module's `asyncio`: sleeps are noted and take no time, until `most` of them."""

    def __init__(self, most: int = 1000) -> None:
        self.seconds: list[float] = []
        self.most = most

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) >= self.most:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleeps]:
    noted = Sleeps()
    monkeypatch.setattr(streams_module, "asyncio", noted)
    return noted  # type: ignore[return-value]


def event(kind: str, event_id: str | None = None) -> StreamEvent:
    return StreamEvent(event_id, kind, {})


STATUS = event("status")


async def follow(m: Monitor) -> None:
    m.streams.open(await m.watched(), await m.attempt())


@pytest.mark.parametrize("end", ["result", "done"])
async def test_the_end_of_a_run_is_seen_by_its_stream_and_read_from_the_provider(end: str) -> None:
    async with monitor() as m:
        m.show(AgentStatus.FINISHED, summary="Done.")
        m.provider.streams = [[STATUS, event("assistant", "1"), event(end, "2")]]
        await follow(m)
        await eventually(lambda: not m.streams._open)
        task = await m.task()
        assert task.status is TaskStatus.COMPLETED
        assert task.result is not None
        assert task.result.summary == "Done."
        assert m.provider.closed_streams == 1
        sources = [e.source for e in await m.w.events() if isinstance(e, AgentStatusChanged)]
        assert sources == ["stream"]


@pytest.mark.parametrize("word", ["FINISHED", "ERROR", "CANCELLED", "EXPIRED"])
async def test_a_stream_that_begins_with_the_end_of_the_run_is_as_good(word: str) -> None:
    async with monitor() as m:
        m.show(AgentStatus.FINISHED)
        m.provider.streams = [[StreamEvent(None, "status", {"runId": "run-1", "status": word})]]
        await follow(m)
        await eventually(lambda: not m.streams._open)
        assert (await m.task()).status is TaskStatus.COMPLETED


async def test_a_dead_stream_proves_nothing_and_is_opened_again_after_the_last_event(sleeps: Sleeps) -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        sleeps.most = 4
        m.provider.streams = [
            [STATUS, event("assistant", "1"), event("assistant", "2")],
            [STATUS, UNAVAILABLE],
            [STATUS, event("heartbeat", "2")],
            [STATUS, event("tool_call", "3"), UNAVAILABLE],
        ]
        await follow(m)
        await eventually(lambda: len(sleeps.seconds) == 4)
        assert m.provider.resumed_after == [None, "2", "2", "2"]
        assert (await m.task()).status is TaskStatus.PROCESSING
        assert m.provider.reads == []  # which would cost a call each time


async def test_an_end_that_the_provider_does_not_confirm_is_none_and_left_to_the_polls(sleeps: Sleeps) -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        m.provider.streams = [[event("result", "9"), event("done", "9")]]
        await follow(m)
        await eventually(lambda: not m.streams._open)
        assert len(m.provider.reads) == 5
        assert sleeps.seconds == [0.5, 1.0, 2.0, 4.0]
        assert (await m.task()).status is TaskStatus.PROCESSING
        await m.poll()
        assert m.streams._open == {}  # there is nothing more to hear


async def test_an_end_is_looked_for_again_where_the_provider_shows_it_late_or_does_not_answer(sleeps: Sleeps) -> None:
    async with monitor() as m:
        m.provider.gets = [snapshot(status=AgentStatus.RUNNING), THROTTLED, snapshot(status=AgentStatus.FINISHED)]
        m.provider.streams = [[event("done", "9")]]
        await follow(m)
        await eventually(lambda: not m.streams._open)
        assert sleeps.seconds == [0.5, 7.0]
        assert (await m.task()).status is TaskStatus.COMPLETED


@pytest.mark.parametrize(
    "stream",
    [
        [],
        [UNAVAILABLE],
        [STATUS],
        [STATUS, event("heartbeat")],
        [STATUS, ProviderError("stream_unavailable", "warming up", retryable=True)],
        [STATUS, event("assistant", "7")],
    ],
)
async def test_a_stream_that_does_not_stay_open_is_opened_ever_more_rarely(
    sleeps: Sleeps, stream: list[StreamEvent | ProviderError]
) -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        sleeps.most = 12
        m.provider.streams = [list(stream) for _ in range(12)]
        await follow(m)
        await eventually(lambda: len(sleeps.seconds) == 12)
        assert 0.25 <= sleeps.seconds[0] < 0.5
        assert 15 <= sleeps.seconds[-1] < 30
        assert sum(sleeps.seconds) > 75  # so that an hour of it is two or three calls a minute
        assert m.provider.reads == []


async def test_a_stream_that_was_open_for_long_is_opened_again_soon(sleeps: Sleeps) -> None:
    async with monitor() as m:
        sleeps.most = 8
        seconds = 0.0
        m.streams.now = lambda: seconds

        async def half_a_minute() -> None:
            nonlocal seconds
            seconds += 30

        m.provider.streams = [[UNAVAILABLE] for _ in range(6)]
        m.provider.streams += [[event("assistant", "1"), half_a_minute], []]
        await follow(m)
        await eventually(lambda: len(sleeps.seconds) == 8)
        assert sleeps.seconds[5] >= 8
        assert sleeps.seconds[6] < 0.5
        assert 0.5 <= sleeps.seconds[7] < 1


async def test_a_stream_that_has_to_wait_is_not_opened_earlier(sleeps: Sleeps) -> None:
    async with monitor() as m:
        sleeps.most = 2
        refusals = [THROTTLED, None]

        async def permission() -> None:
            if (refusal := refusals.pop(0)) is not None:
                raise refusal

        m.streams.permission = permission
        m.provider.streams = [[THROTTLED]]
        await follow(m)
        await eventually(lambda: len(sleeps.seconds) == 2)
        assert 7.25 <= sleeps.seconds[0] < 7.5
        assert 7.5 <= sleeps.seconds[1] < 8
        assert m.provider.resumed_after == [None]


async def test_streams_that_broke_together_do_not_come_back_together(sleeps: Sleeps) -> None:
    pauses = set()
    for seed in range(20):
        async with monitor() as m:
            m.streams.chance = random.Random(seed)
            sleeps.seconds, sleeps.most = [], 1
            m.provider.streams = [[UNAVAILABLE]]
            await follow(m)
            await eventually(lambda: sleeps.seconds)
            pauses.add(sleeps.seconds[0])
    assert len(pauses) == 20


async def test_a_stream_that_has_expired_is_not_opened_again_and_the_run_is_read_instead() -> None:
    async with monitor() as m:
        m.provider.streams = [[ProviderError("stream_expired", "gone", status=410)]]
        m.show(AgentStatus.RUNNING)
        await follow(m)
        await eventually(lambda: not m.streams._open)
        assert len(m.provider.reads) == 1
        assert (await m.task()).status is TaskStatus.PROCESSING
        await m.poll()
        assert m.streams._open == {}


@pytest.mark.parametrize("code", ["agent_not_found", "run_not_found"])
async def test_a_stream_of_a_run_that_is_gone_is_left_to_the_polls(code: str) -> None:
    async with monitor() as m:
        m.provider.streams = [[ProviderError(code, "gone")]]
        await follow(m)
        await eventually(lambda: not m.streams._open)
        assert (await m.task()).status is TaskStatus.PROCESSING
        assert m.provider.reads == []


async def test_an_id_that_the_provider_does_not_know_any_more_is_not_asked_for_again(sleeps: Sleeps) -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        sleeps.most = 3
        m.provider.streams = [[event("assistant", "1")], [ProviderError("invalid_last_event_id", "no")], []]
        await follow(m)
        await eventually(lambda: len(sleeps.seconds) == 3)
        assert m.provider.resumed_after == [None, "1", None]


async def test_a_stream_ends_when_the_attempt_has_ended_otherwise(sleeps: Sleeps) -> None:
    async with monitor() as m:
        m.show(AgentStatus.FAILED)
        await m.observer.look(await m.watched(), "poll")
        m.provider.streams = [[STATUS]]
        m.streams.open(await m.watched(), await m.attempt())
        await eventually(lambda: not m.streams._open)
        assert m.provider.closed_streams == 1


@pytest.mark.parametrize("is_log_away", [False, True])
async def test_a_stream_that_lives_on_is_left_within_a_minute_when_the_attempt_has_ended_otherwise(
    is_log_away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with monitor() as m:
        seconds, outages = 0.0, [LogUnavailableError()] if is_log_away else []
        m.streams.now = lambda: seconds
        look_up = m.observer.handler.load

        async def load(*which: str) -> Decided:
            if outages:
                raise outages.pop()
            return await look_up(*which)

        async def end_otherwise() -> None:
            m.show(AgentStatus.FAILED)
            await m.observer.look(await m.watched(), "poll")
            monkeypatch.setattr(m.observer.handler, "load", load)

        async def half_a_minute() -> None:
            nonlocal seconds
            seconds += 30

        signs_of_life: list[StreamStep] = [half_a_minute, event("heartbeat")]
        m.provider.streams = [[STATUS, end_otherwise, *signs_of_life * 10]]
        await follow(m)
        await eventually(lambda: not m.streams._open)
        assert seconds == (120 if is_log_away else 60)
        assert m.provider.resumed_after == [None]


async def test_a_run_is_followed_once() -> None:
    async with monitor() as m:
        for _ in range(5):
            await follow(m)
        await eventually(lambda: m.provider.resumed_after)
        assert m.provider.resumed_after == [None]


class Claimed:
    """`Claims` by which another process follows every stream, until it leaves."""

    def __init__(self) -> None:
        self.by_another = True
        self.asked: list[str] = []

    @asynccontextmanager
    async def held(self, attempt_id: str) -> AsyncIterator[bool]:
        self.asked.append(attempt_id)
        yield not self.by_another


async def test_a_run_that_another_process_follows_is_left_to_it_until_that_is_gone() -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        m.streams.claims = claims = Claimed()
        for deliveries in (1, 2, 3):
            await m.poll(deliveries=deliveries)
            await eventually(lambda: not m.streams._open)
        assert claims.asked == [(await m.attempt()).attempt_id] * 3
        assert m.provider.resumed_after == []
        claims.by_another = False
        await m.poll(deliveries=4)
        await eventually(lambda: m.provider.resumed_after == [None])


async def test_what_is_over_is_remembered_for_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "_MOST_OVER", 10)
    async with monitor() as m:
        for number in range(50):
            m.streams.note_over(f"attempt-{number}")
        assert list(m.streams._over) == [f"attempt-{number}" for number in range(40, 50)]


async def test_no_more_streams_than_the_limit_are_open() -> None:
    async with monitor() as m:
        few = Streams(m.provider, m.observer, limit=0)
        few.open(await m.watched(), await m.attempt())
        await asyncio.sleep(0)
        assert m.provider.resumed_after == []


async def test_v0_has_nothing_to_follow() -> None:
    async with monitor("v0") as m:
        await follow(m)
        await asyncio.sleep(0)
        assert m.provider.resumed_after == []


async def test_every_stream_is_closed_on_stop() -> None:
    async with monitor() as m:
        await follow(m)
        await eventually(lambda: m.provider.resumed_after)
        await m.streams.aclose()
        assert m.provider.closed_streams == 1
        assert m.streams._open == {}


async def test_a_poll_opens_the_stream_and_opens_it_again_when_it_broke_for_good() -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        m.provider.streams = [[ProviderError("run_not_found", "not there yet", status=404)]]
        assert await m.poll(deliveries=1) is not None
        await eventually(lambda: not m.streams._open)
        assert await m.poll(deliveries=2) is not None
        await eventually(lambda: len(m.provider.resumed_after) == 2)


async def test_an_error_of_our_own_leaves_the_stream_and_not_the_process(caplog: pytest.LogCaptureFixture) -> None:
    async with monitor() as m:

        async def fail() -> None:
            raise RuntimeError("a defect")

        m.provider.streams = [[fail]]
        await follow(m)
        await eventually(lambda: not m.streams._open)
        assert "a defect" in caplog.text
        assert (await m.task()).status is TaskStatus.PROCESSING

"""Streams make an end seen at once, and prove nothing by themselves."""

import asyncio
from collections.abc import Iterator

import pytest

from services.monitor import streams as streams_module
from services.monitor.streams import Streams
from shared.cursor.errors import ProviderError
from shared.cursor.provider import StreamEvent
from shared.domain.events import AgentStatus, AgentStatusChanged, TaskStatus
from tests.support.eventually import eventually
from tests.unit.dispatcher.scripted import UNAVAILABLE
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


async def test_an_end_that_the_provider_does_not_confirm_is_none(sleeps: Sleeps) -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        sleeps.most = 3
        m.provider.streams = [[event("result", "9"), event("done", "9")]] * 3
        await follow(m)
        await eventually(lambda: len(sleeps.seconds) == 3)
        assert (await m.task()).status is TaskStatus.PROCESSING


@pytest.mark.parametrize(
    "stream",
    [
        [],
        [UNAVAILABLE],
        [STATUS],
        [STATUS, event("heartbeat")],
        [STATUS, ProviderError("stream_unavailable", "warming up", retryable=True)],
        [STATUS, event("done", "7")],
    ],
)
async def test_a_stream_that_brings_nothing_new_is_opened_ever_more_rarely(
    sleeps: Sleeps, stream: list[StreamEvent | ProviderError]
) -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        sleeps.most = 12
        m.provider.streams = [list(stream) for _ in range(12)]
        await follow(m)
        await eventually(lambda: len(sleeps.seconds) == 12)
        assert sleeps.seconds[0] == 0.5
        assert sleeps.seconds[-1] == 30.0
        assert sum(sleeps.seconds) > 100


async def test_a_stream_that_brings_something_new_is_opened_again_soon(sleeps: Sleeps) -> None:
    async with monitor() as m:
        m.show(AgentStatus.RUNNING)
        sleeps.most = 8
        m.provider.streams = []
        for _ in range(6):
            m.provider.streams.append([UNAVAILABLE])
        m.provider.streams += [[event("assistant", "1")], []]
        await follow(m)
        await eventually(lambda: len(sleeps.seconds) == 8)
        assert sleeps.seconds[5] > 10
        assert sleeps.seconds[6] == 0.5


@pytest.mark.parametrize("code", ["stream_expired", "agent_not_found", "run_not_found"])
async def test_a_stream_that_is_gone_is_left_to_the_polls(code: str) -> None:
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


async def test_a_run_is_followed_once() -> None:
    async with monitor() as m:
        for _ in range(5):
            await follow(m)
        await eventually(lambda: m.provider.resumed_after)
        assert m.provider.resumed_after == [None]


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
        m.provider.streams = [[ProviderError("stream_expired", "gone", status=410)]]
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

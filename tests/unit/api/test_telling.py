"""Telling one client: what comes, signs of life, and every end."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from services.api.changes import AgentProgress, Change
from services.api.errors import ApiError
from services.api.listener import Cut
from services.api.sse import SseChannel
from services.api.telling import DELETED, ENDED, Ending, Pace, Permit, tell
from shared.domain import commands as cmd
from tests.support.eventually import eventually
from tests.unit.api.live_world import TEAM, World, running_world


@dataclass
class Told:
    """A channel that remembers."""

    changes: list[Change] = field(default_factory=list)
    progress: list[AgentProgress] = field(default_factory=list)
    beats: int = 0
    ending: Ending | None = None

    async def tell(self, news: Change | AgentProgress) -> None:
        if isinstance(news, AgentProgress):
            self.progress.append(news)
        else:
            self.changes.append(news)

    async def beat(self) -> None:
        self.beats += 1

    async def end(self, ending: Ending) -> None:
        self.ending = ending

    @property
    def kinds(self) -> list[str]:
        return [orjson.loads(message)["type"] for change in self.changes for message in change.messages]


class Key:
    """A key that can be revoked, and whose check can fail or hang."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hangs = False
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


def pace(**changes: float) -> Pace:
    return Pace(**({"heartbeat": 5, "idle_after_end": 30, "check": 5, "unchecked": 5} | changes))


async def told(
    world: World,
    times: Pace,
    *,
    after: int | None = None,
    key: Key | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Told:
    """Everything that a client is told of `o`, once the stream has ended; by `now` its key is looked at."""
    channel = Told()
    listener = await world.hub.join(TEAM, "o", after=after)
    async with asyncio.timeout(30):
        await tell(listener, channel, Permit((key or Key()).check, times, now=now), times)
    return channel


async def test_a_stream_closes_when_nothing_comes_for_a_while_after_the_end() -> None:
    async with running_world() as world:
        await world.whole_life("o")
        for after, kinds in ((None, ["status"]), (5, [])):
            channel = await told(world, pace(idle_after_end=0.02), after=after)
            assert channel.kinds == kinds
            assert channel.ending is ENDED


async def test_a_quiet_stream_shows_that_it_lives() -> None:
    async with running_world() as world:
        await world.create("o")
        channel, listener = Told(), await world.hub.join(TEAM, "o")
        times = pace(heartbeat=0.01)
        telling = asyncio.create_task(tell(listener, channel, Permit(Key().check, times), times))
        await eventually(lambda: channel.beats > 3)
        world.hub.close()
        await telling


async def test_a_stream_shows_that_it_lives_while_it_waits_for_the_log() -> None:
    async with running_world() as world:
        await world.whole_life("o")
        channel, listener = Told(), await world.hub.join(TEAM, "o", after=1)
        world.log.held = asyncio.Event()
        times = pace(heartbeat=0.01, idle_after_end=0.01)
        telling = asyncio.create_task(tell(listener, channel, Permit(Key().check, times), times))
        await eventually(lambda: channel.beats > 3)
        assert channel.kinds == []
        world.log.held.set()
        await telling
        assert [change.sequence for change in channel.changes] == [2, 3, 4, 5]


async def test_a_deleted_orchestration_is_the_last_thing_that_is_told() -> None:
    async with running_world() as world:
        await world.create("o")
        listening = asyncio.create_task(told(world, pace()))
        await eventually(lambda: world.hub.listeners == 1)
        await world.do("o", cmd.DeleteOrchestration())
        channel = await listening
        assert channel.kinds[0] == "status"
        assert channel.kinds[-1] == "orchestration_deleted"
        assert channel.ending is DELETED


async def test_who_is_cut_off_is_told_where_to_go_on() -> None:
    for reason, code in ((Cut.SLOW, 1013), (Cut.STOPPING, 1012), (Cut.BROKEN, 1013)):
        async with running_world() as world:
            await world.create("o")
            channel, listener = Told(), await world.hub.join(TEAM, "o")
            telling = asyncio.create_task(tell(listener, channel, Permit(Key().check, pace()), pace()))
            await eventually(lambda: channel.changes)  # noqa: B023 - called before the next round
            listener.cut(reason)
            await telling
            assert channel.ending is not None
            assert channel.ending.code == code
            assert channel.ending.message == {"type": "resume", "reason": reason.value, "after": 1}


async def test_nothing_is_said_to_a_client_that_is_gone() -> None:
    async with running_world() as world:
        await world.create("o")
        channel, listener = Told(), await world.hub.join(TEAM, "o")
        listener.close()
        await tell(listener, channel, Permit(Key().check, pace()), pace())
        assert channel.ending is None


async def test_a_stream_ends_soon_after_its_key_is_refused() -> None:
    for code, closed in (("INVALID_API_KEY", 3000), ("FORBIDDEN", 3003)):
        async with running_world() as world:
            await world.create("o")
            key = Key()
            listening = asyncio.create_task(told(world, pace(heartbeat=0.01, check=0.05, unchecked=3600), key=key))
            await eventually(lambda: key.checks > 2)  # noqa: B023 - called before the next round
            assert not listening.done()
            key.error = ApiError(code, "no longer")
            ending = (await listening).ending
            assert ending is not None
            assert ending.code == closed
            assert ending.message is not None
            assert ending.message["type"] == "error"
            assert ending.message["error"]["code"] == code


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_check_that_tells_nothing_ends_the_stream_only_when_that_lasts(
    hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.telling._CHECK_SECONDS", 0.01)
    async with running_world() as world:
        await world.create("o")
        key = Key()
        key.hangs = hangs
        key.error = ApiError("SERVICE_UNAVAILABLE", "the database does not answer")
        times = pace(heartbeat=0.01, check=1, unchecked=3)
        ending = (await told(world, times, key=key, now=itertools.count().__next__)).ending
        assert key.checks == 4, "one after each second, and the first after three was the last"
        assert ending is not None
        assert ending.message == {"type": "resume", "reason": "unchecked", "after": 1}


async def test_only_the_last_event_of_a_commit_carries_its_id() -> None:
    async with running_world() as world:
        await world.create("o")
        listener = await world.hub.join(TEAM, "o", after=1)
        await world.do("o", cmd.ActivateOrchestration())
        change = await listener.next(30)
        assert change is not None
        written: list[bytes] = []

        async def send(message: Any) -> None:
            written.append(message["body"])

        await SseChannel(send).tell(change)
        *events, rest = b"".join(written).split(b"\n\n")
        assert rest == b""
        assert [event.startswith(b"id: 2\n") for event in events] == [False, True]
        bodies = [orjson.loads(event.partition(b"data: ")[2]) for event in events]
        assert [body.get("more") for body in bodies] == [True, None]
        assert {body["id"] for body in bodies} == {2}

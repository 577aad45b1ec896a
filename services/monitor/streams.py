"""Streams: where the provider tells of a run as it goes (v1), its end is seen at once and not by the next poll.

A stream proves nothing: when it tells of an end, the agent is read. One that breaks is opened again, ever more rarely
where that does not help; one that stays away costs only the time until the next poll.
"""

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from services.monitor.claims import Claims, Unshared
from services.monitor.observer import Observer
from services.monitor.progress import Doing, Telling
from shared import failpoints
from shared.cursor.answers import END_WORDS
from shared.cursor.errors import ProviderError
from shared.cursor.provider import Provider, StreamEvent
from shared.cursor.refusals import AGENT_NOT_FOUND, RUN_NOT_FOUND, STREAM_EXPIRED
from shared.domain.state import Attempt
from shared.ending import end
from shared.messages import Watched
from shared.observability.logging import log_context
from shared.ports import LogUnavailableError

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# Proxies close streams of some age. One that ended earlier is no better than none, whatever it brought: opening it
# again and again would use up the calls that all agents share.
_LONG_LIFE_SECONDS = 30.0
# A stream that lives on says nothing of an attempt that has ended otherwise: that is looked up so often.
_LOOK_UP_SECONDS = 60.0
# After so many looks that do not confirm what a stream told, the poll is trusted to see the end.
_LOOKS = 5
_MOST_OVER = 10_000
_ENDS = frozenset({"result", "done"})
_GONE = frozenset({AGENT_NOT_FOUND, RUN_NOT_FOUND})


async def _no_limit() -> None:
    return


class _Pauses:
    """How long to wait before a stream is opened again, at random: what broke many at once must not bring all back
    at once."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._next = _FIRST_PAUSE_SECONDS

    def after(self, lived: float, asked: float | None = None) -> float:
        """`lived`: how long the last one was open; `asked`: what the provider, or our own limit, asks for."""
        if lived >= _LONG_LIFE_SECONDS:
            self._next = _FIRST_PAUSE_SECONDS
        pause = self._next * (1 + self._chance.random()) / 2
        self._next = min(self._next * 2, _LONGEST_PAUSE_SECONDS)
        return (asked or 0.0) + pause


@dataclass(slots=True)
class Streams:
    """The open streams of this process.

    Args:
        claims: tell whether another process follows a stream.
        permission: waited for before a stream is opened; ProviderError where that would take too long.
        telling: told what agents are at, where somebody wants to know.
        limit: how many at most; agents beyond it are polled only.
    """

    provider: Provider
    observer: Observer
    claims: Claims = field(default_factory=Unshared)
    permission: Callable[[], Awaitable[None]] = _no_limit
    telling: Telling | None = None
    limit: int = 500
    chance: random.Random = field(default_factory=random.Random)
    now: Callable[[], float] = time.monotonic
    _open: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _over: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Attempts whose stream has told everything, or will tell nothing any more."""

    def open(self, watched: Watched, attempt: Attempt) -> None:
        """Follow the run of the attempt, unless that is being done or there is nothing to follow."""
        if self.provider.version != "v1" or attempt.agent_id is None or attempt.run_id is None:
            return
        if watched.attempt_id in self._open or watched.attempt_id in self._over or len(self._open) >= self.limit:
            return
        task = asyncio.create_task(
            self._follow(watched, attempt.agent_id, attempt.run_id), name=f"stream:{watched.attempt_id}"
        )
        self._open[watched.attempt_id] = task
        task.add_done_callback(lambda done: self._closed(watched, done))

    async def aclose(self) -> None:
        """Leave every stream; the polls go on elsewhere."""
        await end(*self._open.values())

    def _closed(self, watched: Watched, task: asyncio.Task[None]) -> None:
        self._open.pop(watched.attempt_id, None)
        if self.telling is not None:
            self.telling.forget(watched.attempt_id)
        if not task.cancelled() and (error := task.exception()):
            _log.warning("Left the stream of an agent, polls go on: %r", error, exc_info=error)

    async def _follow(self, watched: Watched, agent_id: str, run_id: str) -> None:
        with (
            failpoints.scope("monitor-streams"),
            log_context(orchestration=watched.orchestration_id, attempt=watched.attempt_id),
        ):
            async with self.claims.held(watched.attempt_id) as is_ours:
                if is_ours:
                    await _Following(self, watched, agent_id, run_id).run()

    def note_over(self, attempt_id: str) -> None:
        """The stream of this attempt is not to be opened again."""
        if self.telling is not None:
            self.telling.forget(attempt_id)
        self._over[attempt_id] = None
        if len(self._over) > _MOST_OVER:
            self._over.popitem(last=False)


class _Following:
    """One run that is followed."""

    def __init__(self, streams: Streams, watched: Watched, agent_id: str, run_id: str) -> None:
        self._streams = streams
        self._watched = watched
        self._agent_id = agent_id
        self._run_id = run_id
        self._position: str | None = None
        self._doing = Doing()
        self._pauses = _Pauses(streams.chance)
        self._looked_up_at = streams.now()

    async def run(self) -> None:
        """Until the attempt has ended, or there is nothing more to hear."""
        while True:
            begun, asked = self._streams.now(), None
            try:
                if await self._listen():
                    return await self._confirm(_LOOKS)
            except ProviderError as error:
                if error.code == STREAM_EXPIRED:
                    return await self._confirm(1)
                if error.code in _GONE:
                    return None
                if error.code == "invalid_last_event_id":
                    self._position = None
                asked = error.retry_after
                _log.debug("The stream of %s broke off: %s", self._agent_id, error)
            if not (await self._streams.observer.attempt(self._watched)).is_active:
                return None
            await asyncio.sleep(self._pauses.after(self._streams.now() - begun, asked))

    async def _listen(self) -> bool:
        """Take what the stream brings; whether that is the end of the run, and not only of the stream."""
        await self._streams.permission()
        stream = self._streams.provider.stream(self._agent_id, self._run_id, after=self._position)
        async with aclosing(stream) as events:
            async for event in events:
                self._position = event.id or self._position
                if _is_end(event):
                    return True
                if self._doing.take(event) and self._streams.telling is not None:
                    self._streams.telling.note(self._watched, self._doing)
                if not await self._is_wanted():
                    return False
        return False

    async def _is_wanted(self) -> bool:
        """Whether the attempt still goes on, as far as is known. Else a stream that never tells the end, which a poll
        has seen meanwhile, would take its place among the open ones for as long as the provider keeps it alive."""
        if self._streams.now() - self._looked_up_at < _LOOK_UP_SECONDS:
            return True
        self._looked_up_at = self._streams.now()
        try:
            return (await self._streams.observer.attempt(self._watched)).is_active
        except LogUnavailableError:
            return True

    async def _confirm(self, looks: int) -> None:
        """The stream has nothing more to tell: the agent is read, at growing pauses until it shows its end and
        what came of it."""
        self._streams.note_over(self._watched.attempt_id)
        pause = _FIRST_PAUSE_SECONDS
        for left in reversed(range(looks)):
            try:
                if (await self._streams.observer.look(self._watched, "stream")).is_agent_over:
                    return
            except ProviderError as error:
                _log.info("Told of an end by the stream, but could not ask: %s", error)
                pause = max(pause, error.retry_after or 0.0)
            if left:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        _log.info("The stream is over, but the agent does not show all of its end yet; left to the poll")


def _is_end(event: StreamEvent) -> bool:
    """Whether the run is over by what the event says."""
    return event.kind in _ENDS or (event.kind == "status" and event.data.get("status") in END_WORDS)

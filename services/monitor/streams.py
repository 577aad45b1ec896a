"""Streams: where the provider tells of a run as it goes (v1), its end is seen at once and not by the next poll.

A stream proves nothing: whatever ends it, the agent is read. One that breaks is opened again; one that stays away
costs only the time until the next poll.
"""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, field

from services.monitor.observer import Observer
from shared import failpoints
from shared.cursor.errors import ProviderError
from shared.cursor.provider import Provider
from shared.domain.state import Attempt
from shared.messages import Watched
from shared.observability.logging import log_context

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_ENDS = frozenset({"result", "done"})
_GONE = frozenset({"stream_expired", "agent_not_found", "run_not_found"})


@dataclass(slots=True)
class Streams:
    """The open streams of this process. `limit`: how many at most; agents beyond it are polled only."""

    provider: Provider
    observer: Observer
    limit: int = 500
    _open: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def open(self, watched: Watched, attempt: Attempt) -> None:
        """Follow the run of the attempt, unless that is being done or there is nothing to follow."""
        if self.provider.version != "v1" or attempt.agent_id is None or attempt.run_id is None:
            return
        if watched.attempt_id in self._open or len(self._open) >= self.limit:
            return
        task = asyncio.create_task(
            self._follow(watched, attempt.agent_id, attempt.run_id), name=f"stream:{watched.attempt_id}"
        )
        self._open[watched.attempt_id] = task
        task.add_done_callback(lambda done: self._closed(watched, done))

    async def aclose(self) -> None:
        """Leave every stream; the polls go on elsewhere."""
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _closed(self, watched: Watched, task: asyncio.Task[None]) -> None:
        self._open.pop(watched.attempt_id, None)
        if not task.cancelled() and (error := task.exception()):
            _log.warning("Left the stream of an agent, polls go on: %r", error, exc_info=error)

    async def _follow(self, watched: Watched, agent_id: str, run_id: str) -> None:
        with (
            failpoints.scope("monitor-streams"),
            log_context(orchestration=watched.orchestration_id, attempt=watched.attempt_id),
        ):
            position: str | None = None
            pause = _FIRST_PAUSE_SECONDS
            while True:
                try:
                    async with aclosing(self.provider.stream(agent_id, run_id, after=position)) as events:
                        async for event in events:
                            if event.id not in (None, position):
                                # Only what is new is a sign of life: every new stream begins with the status.
                                position, pause = event.id, _FIRST_PAUSE_SECONDS
                            if event.kind in _ENDS:
                                break
                    if not (await self.observer.look(watched, "stream")).is_active:
                        return
                except ProviderError as error:
                    if error.code in _GONE:
                        return
                    if error.code == "invalid_last_event_id":
                        position = None
                    _log.debug("The stream of %s broke off: %s", agent_id, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

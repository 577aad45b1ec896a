"""Progress: what an agent is at by its stream. Told to those who look on now, and kept nowhere."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from services.monitor.hidden import without_secrets
from shared import failpoints
from shared.cursor.provider import StreamEvent
from shared.jetstream.topology import progress_subject
from shared.messages import Progress, Watched
from shared.ports import Clock

_log = logging.getLogger(__name__)

_MOST_CHARACTERS: Final = 200
_BUFFER_CHARACTERS: Final = 2000
"""More than is shown, so that what is shown does not begin in the middle of a secret."""
_EVERY_SECONDS: Final = 1.0
_GATHER_SECONDS: Final = 0.1
"""Of a stream that is opened late much comes at once, and only the last of it is news."""
_WORDS: Final = frozenset({"assistant", "thinking"})
_TELLING: Final = ("command", "path", "file", "file_path", "target_file", "query", "pattern", "url")
"""Arguments of a tool that tell what it is about, the most telling first."""

Tell = Callable[[Watched, Progress], Awaitable[None]]


class Doing:
    """What one agent is at: the tool that it uses, or used last since it said something, and its last words."""

    def __init__(self) -> None:
        self._tool: str | None = None
        self._said = ""
        self._kind: str | None = None

    def take(self, event: StreamEvent) -> bool:
        """Take in an event of its stream; whether that changes anything."""
        if event.kind == "tool_call":
            return self._take_tool(event.data)
        text = event.data.get("text")
        if event.kind not in _WORDS or not isinstance(text, str) or not text:
            return False
        # Words may come in pieces; what was said before something else was done is over.
        self._said = (self._said + text if self._kind == event.kind else text)[-_BUFFER_CHARACTERS:]
        self._kind, self._tool = event.kind, None
        return True

    def _take_tool(self, data: Mapping[str, object]) -> bool:
        name = data.get("name")
        if not isinstance(name, str) or not name:
            return False
        before, self._tool, self._kind = self._tool, _described(name, data.get("args")), None
        return self._tool != before

    def progress(self, attempt_id: str, at: str) -> Progress:
        """As it is told: short, on one line, and without what looks like a secret."""
        tool = _cut(self._tool) if self._tool else None
        return Progress(attempt_id=attempt_id, tool=tool, text=_last(self._said) or None, at=at)


def _described(name: str, args: object) -> str:
    """The tool with what it is about, as far as that is short enough to say."""
    given = args if isinstance(args, dict) else {}
    about = next((given[key] for key in _TELLING if isinstance(given.get(key), str)), "")
    return f"{name} {about}"[:_BUFFER_CHARACTERS]


def _plain(text: str) -> str:
    """On one line, without secrets and without characters that do something to a terminal."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return without_secrets(" ".join(printable.split()))


def _cut(text: str) -> str:
    shown = _plain(text)
    return shown if len(shown) <= _MOST_CHARACTERS else shown[: _MOST_CHARACTERS - 1] + "…"


def _last(text: str) -> str:
    shown = _plain(text)
    return shown if len(shown) <= _MOST_CHARACTERS else "…" + shown[-_MOST_CHARACTERS + 1 :]


class Telling:
    """At most one message a second about each agent, and that the newest.

    Args:
        tell: sends one; whatever it cannot send is lost.
    """

    def __init__(
        self, tell: Tell, clock: Clock, *, every: float = _EVERY_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._every = every
        self._now = now
        self._news: dict[str, tuple[Watched, Doing]] = {}
        self._told: dict[str, float] = {}
        self._has_news = asyncio.Event()

    def note(self, watched: Watched, doing: Doing) -> None:
        """The agent is at something else."""
        self._news[watched.attempt_id] = watched, doing
        self._has_news.set()

    def forget(self, attempt_id: str) -> None:
        """Nothing more is to be told of it."""
        self._news.pop(attempt_id, None)

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self._has_news.wait()
            await asyncio.sleep(min(_GATHER_SECONDS, self._every))
            await self._tell_due()
            if not self._news:
                self._has_news.clear()

    async def _tell_due(self) -> None:
        now = self._now()
        self._told = {attempt_id: told for attempt_id, told in self._told.items() if now - told < self._every}
        for attempt_id in [attempt_id for attempt_id in self._news if attempt_id not in self._told]:
            if (news := self._news.pop(attempt_id, None)) is not None:
                watched, doing = news
                self._told[attempt_id] = now
                await self._tell(watched, doing.progress(attempt_id, self._clock.now().isoformat()))


def telling_on(nc: Client) -> Tell:
    """By a message of the broker that is kept nowhere, for every api process that follows the orchestration."""

    @failpoints.around("tell")
    async def tell(watched: Watched, progress: Progress) -> None:
        if not nc.is_connected:
            return  # it would be sent when it is no news any more
        try:
            await nc.publish(progress_subject(watched.team, watched.orchestration_id), progress.encode())
        except NatsError as exc:
            _log.debug("Progress of an agent is not told: %r", exc)

    return tell

"""The stream of one run: server-sent events, resumable, made up while read so that nothing is stored."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse

from deploy.local.simulator.agents import Run
from deploy.local.simulator.board import Board
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.connection import drop
from deploy.local.simulator.content import number
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.settings import SimulatorSettings

# A stream that is to be cut breaks after so many frames: those of the first two events, and something on the way.
_CUT_AFTER = 5
# A run spends up to a tenth of its time booting; events keep to the rest.
_WORK_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run at `share` of its working time."""

    share: float
    kind: str
    data: dict[str, object]
    update: dict[str, object]


def script(run: Run) -> list[Event]:
    """What happens in every run, in order; the first event has sequence number 1."""
    plan = f'I have to work on "{run.title}". First I read what is there.'
    return [
        _says("thinking", 0.05, plan),
        _calls(0.15, "call-1", "read_file", {"path": "README.md"}, None),
        _calls(0.25, "call-1", "read_file", {"path": "README.md"}, {"success": {"path": "README.md"}}),
        _says("assistant", 0.4, f'I start on "{run.title}".'),
        _calls(0.5, "call-2", "run_terminal_cmd", {"command": "make test"}, None),
        _calls(0.8, "call-2", "run_terminal_cmd", {"command": "make test"}, {"success": {"exitCode": 0}}),
        _says("assistant", 0.95, "The tests pass; I am wrapping up."),
    ]


def _says(kind: str, share: float, text: str) -> Event:
    word = "text-delta" if kind == "assistant" else "thinking-delta"
    return Event(share, kind, {"text": text}, {"type": word, "text": text})


def _calls(share: float, call_id: str, name: str, args: dict[str, object], result: dict[str, object] | None) -> Event:
    status = "running" if result is None else "completed"
    data: dict[str, object] = {"callId": call_id, "name": name, "status": status, "args": args}
    if result is not None:
        data["result"] = result
    word = "tool-call-started" if result is None else "tool-call-completed"
    return Event(share, "tool_call", data, {"type": word, "callId": call_id})


def _frame(kind: str, data: object, event_id: str | None = None) -> bytes:
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}event: {kind}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


class RunStreams:
    """The open streams. A stream sleeps until its next event, its heartbeat or a move of its run."""

    def __init__(self, clock: Clock, board: Board, settings: SimulatorSettings) -> None:
        self._clock = clock
        self._board = board
        self._heartbeat = settings.heartbeat_seconds
        self._retention = settings.stream_retention_seconds
        self._open: set[asyncio.Event] = set()
        self._closing = False

    def response(
        self, request: Request, run: Run, result: Callable[[], dict[str, object]], last_seen: str | None
    ) -> StreamingResponse:
        """The stream from after the event `last_seen`, or from the beginning.

        Raises:
            ApiError: `stream_expired` when it is too late, `invalid_last_event_id` for an event of another run.
        """
        if self._is_over(run) or self._strikes(run, "stream_expired"):
            raise ApiError("stream_expired")
        seen = _sequence(run, last_seen)
        if self._strikes(run, "stream_unavailable"):
            frames = _unavailable()
        elif self._strikes(run, "stream_silent"):
            frames = self._nothing(run)
        elif self._strikes(run, "stream_cut"):
            frames = _cut(request, self._frames(run, result, seen))
        else:
            frames = self._frames(run, result, seen)
        headers = {
            "Cache-Control": "no-cache",
            "X-Cursor-Stream-Retention-Seconds": str(round(self._retention)),
        }
        return StreamingResponse(frames, headers=headers, media_type="text/event-stream")

    def _is_over(self, run: Run) -> bool:
        return run.ended is not None and self._clock.elapsed() > run.ended + self._retention

    def _strikes(self, run: Run, name: str) -> bool:
        return self._board.strikes(name, "v1", run.subject) is not None

    def close(self) -> None:
        """End every stream, so that a server that stops need not wait for its readers."""
        self._closing = True
        for wake in self._open:
            wake.set()

    async def _frames(self, run: Run, result: Callable[[], dict[str, object]], seen: int) -> AsyncIterator[bytes]:
        wake = asyncio.Event()
        run.watchers.add(wake)
        self._open.add(wake)
        try:
            async for frame in self._follow(run, seen, wake):
                yield frame
            if run.ended is not None:
                last = len(script(run)) + 1
                if seen < last:
                    yield _frame("result", result(), _event_id(run, last))
                yield _frame("done", {}, _event_id(run, last))
        finally:
            run.watchers.discard(wake)
            self._open.discard(wake)

    async def _nothing(self, run: Run) -> AsyncIterator[bytes]:
        """A stream that is open and says nothing but how it began, not even that it lives."""
        wake = asyncio.Event()
        self._open.add(wake)
        try:
            yield _frame("status", {"runId": run.id, "status": run.word})
            await wake.wait()
        finally:
            self._open.discard(wake)

    async def _follow(self, run: Run, seen: int, wake: asyncio.Event) -> AsyncIterator[bytes]:
        """Everything before the result: returns when the run has ended or the streams are closed."""
        events = script(run)
        told = run.word
        yield _frame("status", {"runId": run.id, "status": told})
        heartbeat = self._clock.elapsed() + 2 * self._heartbeat
        while not self._closing:
            wake.clear()
            if run.word != told and run.ended is None:
                told = run.word
                yield _frame("status", {"runId": run.id, "status": told})
            while seen < len(events) and self._happened(run, events[seen]):
                seen += 1
                for frame in _both_forms(run, seen, events[seen - 1]):
                    yield frame
            if run.ended is not None:
                return
            if self._clock.elapsed() >= heartbeat:
                heartbeat += self._heartbeat
                yield _frame("heartbeat", {})
            next_event = _due(run, events[seen]) if seen < len(events) else None
            await self._sleep_until(min(heartbeat, next_event or heartbeat), wake)

    def _happened(self, run: Run, event: Event) -> bool:
        due = _due(run, event)
        return due is not None and due <= (self._clock.elapsed() if run.ended is None else run.ended)

    async def _sleep_until(self, moment: float, wake: asyncio.Event) -> None:
        timer = self._clock.call_later(max(0.0, moment - self._clock.elapsed()), wake.set)
        try:
            await wake.wait()
        finally:
            timer.cancel()


async def _unavailable() -> AsyncIterator[bytes]:
    error = ApiError("stream_unavailable")
    yield _frame("error", {"code": error.code, "message": error.message})


async def _cut(request: Request, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, until the connection breaks."""
    left = _CUT_AFTER
    async for frame in frames:
        yield frame
        left -= 1
        if not left:
            break
    await drop(request)


def _due(run: Run, event: Event) -> float | None:
    """When the event happens, on the clock; None as long as the run has not started to work."""
    if run.started is None:
        return None
    return run.started + event.share * _WORK_SHARE * run.behaviour.run_seconds


def _both_forms(run: Run, sequence: int, event: Event) -> tuple[bytes, bytes]:
    """Each event comes twice under one id: simple, and as the richer update for the vendor's own client."""
    event_id = _event_id(run, sequence)
    return _frame(event.kind, event.data, event_id), _frame("interaction_update", event.update, event_id)


def _event_id(run: Run, sequence: int) -> str:
    return f"{_tag(run)}-{sequence}"


def _tag(run: Run) -> int:
    return 10**12 + number("stream", run.id) % 10**12


def _sequence(run: Run, event_id: str | None) -> int:
    if event_id is None:
        return 0
    tag, _, sequence = event_id.partition("-")
    known = range(1, len(script(run)) + 2)
    if tag == str(_tag(run)) and sequence.isdecimal() and len(sequence) <= 2 and int(sequence) in known:
        return int(sequence)
    raise ApiError("invalid_last_event_id")

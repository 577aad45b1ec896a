"""The stream of a run: its events as they come, and every way in which it can end."""

from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cursor.errors import ProviderError
from shared.cursor.provider import StreamEvent
from tests.unit.cursor.scripted import AGENT_ID, RUN_ID, UNHURRIED, Broken, Script, Step, answer, error, provider

STATUS = b'event: status\ndata: {"runId":"run-1","status":"RUNNING"}\n\n'
SAID = b'id: 17-0\nevent: assistant\ndata: {"text":"Hello"}\n\n'
DONE = b"id: 18-0\nevent: done\ndata: {}\n\n"


def sse(*frames: bytes, failure: Exception | None = None) -> httpx.Response:
    content = b"".join(frames)
    stream = httpx.ByteStream(content) if failure is None else Broken(content, failure)
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=stream)


async def streamed(step: Step, *, after: str | None = None) -> tuple[list[StreamEvent], ProviderError | None]:
    """The events that came, and the error that ended them, if one did."""
    client = provider("v1", Script(step))
    events = []
    try:
        async for event in client.stream(AGENT_ID, RUN_ID, after=after):
            events.append(event)
    except ProviderError as failure:
        return events, failure
    return events, None


async def test_events_come_in_order_until_done() -> None:
    events, failure = await streamed(sse(STATUS, SAID, DONE, SAID))

    assert failure is None
    assert events == [
        StreamEvent(None, "status", {"runId": "run-1", "status": "RUNNING"}),
        StreamEvent("17-0", "assistant", {"text": "Hello"}),
        StreamEvent("18-0", "done", {}),
    ]


async def test_a_stream_that_closes_without_done_just_ends() -> None:
    events, failure = await streamed(sse(STATUS, SAID, b'id: 18-0\nevent: assistant\ndata: {"te'))

    assert [event.kind for event in events] == ["status", "assistant"]
    assert failure is None


async def test_comments_and_events_without_data_are_left_out() -> None:
    events, failure = await streamed(sse(b": hello\n\n", SAID, b"\n\n", b"event: heartbeat\n\n", DONE))

    assert [event.kind for event in events] == ["assistant", "done"]
    assert failure is None


async def test_a_stream_is_resumed_behind_an_event() -> None:
    script = Script(sse(DONE), sse(DONE))
    client = provider("v1", script)

    assert [event.kind async for event in client.stream(AGENT_ID, RUN_ID)] == ["done"]
    assert [event.kind async for event in client.stream(AGENT_ID, RUN_ID, after="17-0")] == ["done"]

    first, second = script.requests
    assert first.url.path == f"/v1/agents/{AGENT_ID}/runs/{RUN_ID}/stream"
    assert first.headers["accept"] == "text/event-stream"
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "17-0"
    # Heartbeats come after 30 s of silence, so a live stream never looks dead.
    assert 45 < first.extensions["timeout"]["read"] <= 90  # a few heartbeats: silence for longer is the end of it


@pytest.mark.parametrize("after", ["17\r\nX-Evil: 1", "прив", "\0"])
async def test_an_id_that_cannot_be_sent_is_refused(after: str) -> None:
    events, failure = await streamed(AssertionError("nothing is to be sent"), after=after)

    assert events == []
    assert failure is not None
    assert failure.code == "invalid_last_event_id"


@pytest.mark.parametrize(
    ("step", "code", "retryable"),
    [
        (error(410, "stream_expired"), "stream_expired", False),
        (httpx.Response(410, content=b"gone"), "stream_expired", False),
        (answer({"error": "Gone", "message": "the retention has elapsed"}, 410), "stream_expired", False),
        (error(400, "invalid_last_event_id"), "invalid_last_event_id", False),
        (error(404, "run_not_found"), "run_not_found", False),
        (error(429, "rate_limit_exceeded"), "rate_limit_exceeded", True),
        (error(503, "stream_unavailable"), "stream_unavailable", True),
        (httpx.ReadTimeout(""), "timeout", True),
        (httpx.ConnectError("refused"), "network_error", True),
        (answer({"no": "stream"}), "bad_response", True),
    ],
)
async def test_a_stream_that_does_not_begin_is_an_error(step: Step, code: str, retryable: bool) -> None:
    events, failure = await streamed(step)

    assert events == []
    assert failure is not None
    assert (failure.code, failure.retryable, failure.outcome_known) == (code, retryable, True)


@pytest.mark.parametrize(
    ("data", "code", "retryable"),
    [
        (b'{"code":"stream_unavailable","message":"warming up"}', "stream_unavailable", True),
        (b'{"error":{"code":"internal_error","message":"oops"}}', "internal_error", True),
        (b'{"code":"client_cancelled","message":"bye"}', "client_cancelled", False),
        (b'{"error":"some text"}', "unknown", False),
        (b"{}", "unknown", False),
        (b"[]", "bad_response", True),
    ],
)
async def test_an_error_event_ends_the_stream_with_what_it_says(data: bytes, code: str, retryable: bool) -> None:
    events, failure = await streamed(sse(STATUS, b"event: error\ndata: " + data + b"\n\n"))

    assert [event.kind for event in events] == ["status"]
    assert failure is not None
    assert (failure.code, failure.retryable) == (code, retryable)


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (httpx.ReadError("reset"), "network_error"),
        (httpx.ReadTimeout(""), "timeout"),
        (OSError(5, "io"), "network_error"),
    ],
)
async def test_a_stream_that_breaks_keeps_what_came_before(broken: Exception, code: str) -> None:
    events, failure = await streamed(sse(STATUS, SAID, failure=broken))

    assert [event.kind for event in events] == ["status", "assistant"]
    assert failure is not None
    assert failure.code == code


@pytest.mark.parametrize("data", [b"no json", b"[1]", b'"text"', b"{", b"null"])
async def test_an_event_that_makes_no_sense_is_a_bad_response(data: bytes) -> None:
    events, failure = await streamed(sse(SAID, b"event: assistant\ndata: " + data + b"\n\n"))

    assert len(events) == 1
    assert failure is not None
    assert failure.code == "bad_response"


class Endless(httpx.AsyncByteStream):
    """Frames without end, or one frame without end."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self.sent = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.sent < 64 * 1024 * 1024:
            self.sent += len(self._frame)
            yield self._frame

    async def aclose(self) -> None:
        self.closed = True


def endless(stream: Endless) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=stream)


async def test_one_event_may_not_be_longer_than_five_mebibytes() -> None:
    stream = Endless(b"data: " + b"x" * 65_536 + b"\n")

    events, failure = await streamed(endless(stream))

    assert events == []
    assert failure is not None
    assert failure.code == "bad_response"
    assert stream.sent < 6 * 1024 * 1024


async def test_a_packed_stream_is_not_unpacked_for_nobody_asked_for_it() -> None:
    script = Script(httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Endless(b"data: {}\n\n")))

    with pytest.raises(ProviderError) as caught:
        await anext(provider("v1", script).stream(AGENT_ID, RUN_ID))

    assert caught.value.code == "bad_response"
    assert script.requests[0].headers["accept-encoding"] == "identity"


async def test_a_long_stream_of_short_events_has_no_limit_and_can_be_left_at_any_time() -> None:
    frame = b'event: assistant\ndata: {"text":"' + b"x" * 1_000_000 + b'"}\n\n'
    stream = Endless(frame)
    events = provider("v1", Script(endless(stream))).stream(AGENT_ID, RUN_ID)

    for _ in range(20):
        await anext(events)
    await events.aclose()

    assert stream.sent >= 20 * 1_000_000
    assert stream.closed


@UNHURRIED
@given(
    content=st.binary() | st.lists(st.sampled_from([STATUS, SAID, DONE, b"\r", b"data:", b"id: \0\n"])).map(b"".join)
)
async def test_no_stream_leads_to_anything_but_events_or_a_provider_error(content: bytes) -> None:
    events, _ = await streamed(sse(content))

    assert all(isinstance(event.data, dict) for event in events)


async def test_a_stream_is_observed_once_when_it_begins_or_fails_to() -> None:
    seen: list[tuple[str, int | str]] = []
    steps = Script(sse(SAID, failure=httpx.ReadError("")), error(410, "stream_expired"), httpx.ReadTimeout(""))
    client = provider("v1", steps, observe=lambda endpoint, status, _: seen.append((endpoint, status)))

    for _ in range(3):
        with pytest.raises(ProviderError):
            async for _event in client.stream(AGENT_ID, RUN_ID):
                pass

    assert seen == [("stream", 200), ("stream", 410), ("stream", "timeout")]

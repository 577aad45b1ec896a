"""The stream of one run."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from starlette.requests import Request

from deploy.local.simulator import SimulatorSettings, create_app
from deploy.local.simulator.agents import NewAgent
from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import (
    FOREVER,
    QUICK,
    create_v1,
    json_of,
    refusal,
    run_ended,
    run_path,
    run_when,
    simulator,
)

# A second form of other events, under their ids.
MIRROR = "interaction_update"


async def test_a_stream_follows_a_run_from_its_status_to_done() -> None:
    async with simulator(duration_seconds=0.4) as client:
        created = await create_v1(client, autoCreatePR=True)
        events = await _read(client, created)
        run = json_of(await client.get(run_path(created)))

        assert events[0].event == "status"
        assert events[0].json() == {"runId": created["run"]["id"], "status": events[0].json()["status"]}
        kinds = [event.event for event in events]
        assert {"thinking", "tool_call", "assistant"} <= set(kinds[1:-2])
        assert kinds[-2:] == ["result", "done"]
        assert events[-2].id == events[-1].id
        assert events[-2].json() == {
            "runId": run["id"],
            "status": "FINISHED",
            "text": run["result"],
            "durationMs": run["durationMs"],
            "git": run["git"],
        }
        assert events[-1].json() == {}


async def test_events_are_spread_over_the_run_and_each_comes_in_both_forms_under_one_id() -> None:
    clock = HandClock()
    async with _listening(clock, "Slow [[sim:slow=100]]") as heard:
        await clock.move(100)
    events = [(at, frame.splitlines()) for at, frame in heard if frame.startswith("id: ")]
    happened = [at for at, lines in events if lines[1] != f"event: {MIRROR}"][:-2]
    assert len(happened) >= 5
    assert happened == sorted(set(happened))
    assert happened[0] > 1
    assert happened[-1] < 100
    ids = [lines[0] for _, lines in events]
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == len(ids) / 2
    assert {lines[1] for _, lines in events[1:-2:2]} == {f"event: {MIRROR}"}


async def test_status_and_heartbeat_have_no_id() -> None:
    async with simulator(heartbeat_seconds=0.02) as client:
        created = await create_v1(client, FOREVER)
        seen = set()
        stream = aconnect_sse(client, "GET", f"{run_path(created)}/stream")
        async with asyncio.timeout(30), stream as source:
            raw = ""
            async for chunk in source.response.aiter_text():
                raw += chunk
                if raw.count("event: heartbeat") >= 3:
                    break
        for frame in raw.split("\n\n"):
            if "event: heartbeat" in frame or "event: status" in frame:
                seen.add(frame.splitlines()[0])
        assert seen == {"event: heartbeat", "event: status"}


async def test_the_status_is_told_at_first_and_again_when_the_run_begins_to_work() -> None:
    clock = HandClock()
    async with _listening(clock, FOREVER) as heard:
        await clock.move(2)
    told = [(at, json.loads(frame.partition("data: ")[2])["status"]) for at, frame in heard]
    assert told == [(0, "CREATING"), (1, "RUNNING")]


async def test_heartbeats_come_every_fifteen_seconds_after_the_first_thirty() -> None:
    clock = HandClock()
    async with _listening(clock, FOREVER) as heard:
        await clock.move(70)
    assert [at for at, frame in heard if "event: heartbeat" in frame] == [30, 45, 60]


@pytest.mark.parametrize("position", [0, 3, -2])
async def test_a_stream_resumes_after_the_event_that_was_seen_last(position: int) -> None:
    async with simulator(duration_seconds=0) as client:
        created = await create_v1(client)
        await run_ended(client, created)
        whole = [event for event in await _read(client, created) if event.event != MIRROR]
        with_id = whole[1:]
        resumed = await _read(client, created, after=with_id[position].id)
        rest = [event for event in resumed if event.event != MIRROR]
        assert rest[0].event == "status"
        expected = with_id[position:][1:] if position >= 0 else [whole[-1]]
        assert [(event.event, event.id) for event in rest[1:]] == [(event.event, event.id) for event in expected]


async def test_an_event_id_of_another_run_or_of_none_is_refused() -> None:
    async with simulator(duration_seconds=0) as client:
        mine, other = await create_v1(client, "Mine"), await create_v1(client, "Other")
        await run_ended(client, other)
        foreign = (await _read(client, other))[1].id
        for bad in (foreign, "x", f"{foreign.partition('-')[0]}-0"):
            response = await client.get(f"{run_path(mine)}/stream", headers={"Last-Event-ID": bad})
            refusal(response, 400, "invalid_last_event_id")


async def test_a_cancelled_run_ends_its_open_stream_early() -> None:
    async with simulator(cancel_seconds=0.05) as client:
        created = await create_v1(client, FOREVER)
        kinds: list[str] = []
        async for event in _events(client, created):
            if not kinds:
                await client.post(f"{run_path(created)}/cancel")
            kinds.append(event.event)
            last = event if event.event == "result" else None
            if last is not None:
                assert last.json()["status"] == "CANCELLED"
        assert kinds[-2:] == ["result", "done"]
        assert "assistant" not in kinds


async def test_a_run_that_failed_has_a_result_without_text() -> None:
    async with simulator(duration_seconds=0) as client:
        created = await create_v1(client, "[[sim:fail]]")
        await run_when(client, created, "ERROR")
        result = (await _read(client, created))[-2].json()
        assert result["status"] == "ERROR"
        assert {"text", "git"}.isdisjoint(result)


async def test_a_stream_ends_when_its_agent_is_deleted() -> None:
    async with simulator() as client:
        created = await create_v1(client, FOREVER)
        kinds: list[str] = []
        async for event in _events(client, created):
            if not kinds:
                await client.delete(f"/v1/agents/{created['agent']['id']}")
            kinds.append(event.event)
        assert kinds[-1] == "done"


@asynccontextmanager
async def _listening(clock: HandClock, prompt: str) -> AsyncIterator[list[tuple[float, str]]]:
    """Each frame of the stream of a run with this prompt, with the time of the clock at which it came."""
    simulator = create_app(SimulatorSettings(**QUICK), clock).state.simulator
    run = simulator.store.create(NewAgent(prompt, ()), simulator.store.subject(prompt, ())).latest
    stream = simulator.streams.response(Request({"type": "http"}), run, dict, None)
    heard: list[tuple[float, str]] = []

    async def listen() -> None:
        async for frame in stream.body_iterator:
            heard.append((clock.elapsed(), frame.decode()))

    listening = asyncio.create_task(listen())
    yield heard
    simulator.streams.close()
    await listening


async def _events(client: httpx.AsyncClient, created: dict[str, Any], after: str | None = None) -> Any:
    headers = {} if after is None else {"Last-Event-ID": after}
    async with aconnect_sse(client, "GET", f"{run_path(created)}/stream", headers=headers) as source:
        assert source.response.headers["x-cursor-stream-retention-seconds"].isdecimal()
        async for event in source.aiter_sse():
            json.loads(event.data)
            yield event


async def _read(client: httpx.AsyncClient, created: dict[str, Any], after: str | None = None) -> list[ServerSentEvent]:
    """The whole stream, to its end."""
    return [event async for event in _events(client, created, after)]

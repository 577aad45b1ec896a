"""Streams that break, are not there yet or not any more, by switch and by marker."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import (
    BY,
    FOREVER,
    create_v1,
    faults,
    in_process,
    json_of,
    on,
    refusal,
    run_ended,
    run_path,
    struck,
)


@BY
async def test_a_stream_can_be_unavailable_at_first(client: httpx.AsyncClient, by_marker: bool) -> None:
    marker, switches = on(by_marker, "stream_unavailable", 2, count=2)
    await faults(client, **switches)
    created = await create_v1(client, f"Warm up {marker}")
    await run_ended(client, created)
    for _ in range(2):
        [only] = await _read(client, created)
        assert only.event == "error"
        assert only.json()["code"] == "stream_unavailable"
    assert (await _read(client, created))[-1].event == "done"


@BY
async def test_a_stream_can_be_expired(client: httpx.AsyncClient, by_marker: bool) -> None:
    marker, switches = on(by_marker, "stream_expired")
    await faults(client, **switches)
    created = await create_v1(client, f"Gone {marker}")
    refusal(await client.get(f"{run_path(created)}/stream"), 410, "stream_expired")


async def test_a_stream_is_kept_for_a_while_after_the_end_of_its_run() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=10, stream_retention_seconds=60) as client:
        created = await create_v1(client)
        await clock.move(70)
        kept = await client.get(f"{run_path(created)}/stream")
        assert kept.headers["x-cursor-stream-retention-seconds"] == "60"
        assert "event: done" in kept.text
        await clock.move(0.1)
        refusal(await client.get(f"{run_path(created)}/stream"), 410, "stream_expired")


@BY
async def test_a_stream_can_be_cut_in_the_middle_and_resumed(client: httpx.AsyncClient, by_marker: bool) -> None:
    marker, switches = on(by_marker, "stream_cut", 1, count=1)
    await faults(client, **switches)
    created = await create_v1(client, f"Cut {marker}")
    await run_ended(client, created)
    seen: list[ServerSentEvent] = []
    with pytest.raises(httpx.HTTPError):
        await _collect(seen, _events(client, created))
    assert 2 <= len(seen) < 6
    rest = await _read(client, created, after=seen[-1].id)
    assert rest[-1].event == "done"
    assert seen[-1].id not in {event.id for event in rest[1:] if event.id}


@BY
async def test_a_stream_can_say_nothing_at_all_while_its_run_goes_on(
    client: httpx.AsyncClient, by_marker: bool
) -> None:
    marker, switches = on(by_marker, "stream_silent")
    await faults(client, **switches)
    created = await create_v1(client, f"Dead {marker}")
    events = _events(client, created)
    assert (await anext(events)).event == "status"
    assert (await run_ended(client, created))["status"] == "FINISHED"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(events), 0.2)
    assert (await struck(client))["stream_silent"] == 1


async def test_a_cancelled_reader_leaves_no_stream_behind(client: httpx.AsyncClient) -> None:
    created = await create_v1(client, f"Left {FOREVER} [[sim:stream_silent]]")
    with pytest.raises(httpx.ReadTimeout):
        await _read(client, created, timeout=0.05)
    assert json_of(await client.get("/v1/me"))


async def _events(
    client: httpx.AsyncClient, created: dict[str, Any], after: str | None = None, timeout: float = 30
) -> AsyncIterator[ServerSentEvent]:
    headers = {} if after is None else {"Last-Event-ID": after}
    url = f"{run_path(created)}/stream"
    async with aconnect_sse(client, "GET", url, headers=headers, timeout=httpx.Timeout(30, read=timeout)) as source:
        async for event in source.aiter_sse():
            yield event


async def _collect(into: list[ServerSentEvent], events: AsyncIterator[ServerSentEvent]) -> None:
    """So that what came before the stream broke is kept."""
    async for event in events:
        into.append(event)


async def _read(
    client: httpx.AsyncClient, created: dict[str, Any], after: str | None = None, timeout: float = 30
) -> list[ServerSentEvent]:
    return [event async for event in _events(client, created, after, timeout)]

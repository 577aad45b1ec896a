"""The log and the events of an orchestration over HTTP."""

import asyncio
import socket
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest

from services.api.log_lines import Level
from services.api.ndjson import Lines
from services.api.paging import Place
from services.api.routes.history import _chunks, _lines, _Wanted
from shared.domain.events import AgentStatus
from shared.envelope import Commit, RecordedEvent, encode
from shared.jetstream.topology import EVENTS
from shared.views import View
from tests.integration.api.life import ODD, TASKS, live
from tests.integration.api.system import KEY, Running
from tests.integration.api.test_orchestrations import NOWHERE, error_of
from tests.support.eventually import eventually
from tests.support.orchestrations import record, start, status_changed

NDJSON = {"Accept": "application/x-ndjson"}


async def all_pages(api: Running, path: str, **params: Any) -> list[View]:
    items: list[View] = []
    cursor: str | None = None
    while True:
        response = await api.http.get(path, params=params | ({"cursor": cursor} if cursor else {}))
        assert response.status_code == 200, response.text
        page = response.json()
        assert len(page["items"]) <= params.get("limit", 100)
        items += page["items"]
        cursor = page.get("nextCursor")
        if cursor is None:
            return items


async def all_lines(api: Running, path: str, **params: Any) -> list[View]:
    response = await api.http.get(path, params=params, headers=NDJSON)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert response.text == "" or response.text.endswith("\n")
    return [orjson.loads(line) for line in response.text.splitlines()]


async def lived(api: Running, **fields: Any) -> View:
    """An orchestration with a whole life behind it; whoever reads afterwards sees all of it."""
    created = await api.create(tasks=TASKS, failurePolicy="continue", **fields)
    async for sequence in live(api.dispatcher, created):
        await api.parts.reader.wait_visible("default", created["id"], sequence)
    return created


async def test_the_log_of_a_life_in_pages_and_in_lines(api: Running) -> None:
    created = await lived(api, metadata=ODD, model="gpt-99")
    path = f"/api/orchestrations/{created['id']}/logs"
    lines = await all_lines(api, path)
    assert lines[0]["message"] == "created by operator: 2 tasks on https://github.com/acme/shop at main"
    assert (lines[1]["level"], lines[1]["event"]) == ("warning", "orchestration.created")
    assert "gpt-99" in lines[1]["message"]
    assert [line["sequence"] for line in lines] == sorted(line["sequence"] for line in lines)
    for limit in (2, 7, 500):
        assert await all_pages(api, path, limit=limit) == lines
    events = {event["type"] for event in await all_pages(api, path.replace("/logs", "/events"))}
    assert {line["event"] for line in lines} == events

    for level, kept in (("info", 3), ("warning", 2), ("error", 1)):
        expected = [line for line in lines if line["level"] in ("error", "warning", "info")[:kept]]
        assert await all_lines(api, path, level=level) == expected
        assert await all_pages(api, path, level=level, limit=2) == expected
    one, two = (task["id"] for task in created["tasks"])
    for task, task_id in ((one, one), ("Add validation", one), ("0", one), ("1", two), ("Write more tests", two)):
        expected = [line for line in lines if line["task_id"] == task_id]
        assert expected
        assert await all_lines(api, path, task=task) == expected
    assert "Write tests" in {line["task_title"] for line in await all_lines(api, path, task=two)}
    both = [line for line in lines if line["task_id"] == one and line["level"] != "info"]
    assert both
    assert await all_pages(api, path, task="0", level="warning", limit=1) == both

    middle = lines[len(lines) // 2]["sequence"]
    behind = [line for line in lines if line["sequence"] > middle]
    assert await all_lines(api, path, after=middle) == behind
    assert await all_pages(api, path, after=middle, limit=500) == behind
    assert await all_lines(api, path, after=10**17) == []


async def test_events_come_in_pages_of_whole_commits(api: Running) -> None:
    created = await lived(api)
    path = f"/api/orchestrations/{created['id']}/events"
    events = await all_pages(api, path)
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    assert set(events[0]) == {
        "sequence", "version", "id", "type", "occurred_at", "actor", "command_id", "correlation_id", "data",
    }  # fmt: skip
    assert (events[0]["type"], events[0]["actor"]) == ("orchestration.created", "operator")
    for limit in (2, 500):
        assert await all_pages(api, path, limit=limit) == events
    page = (await api.http.get(path, params={"limit": 5})).json()
    inside = page["items"][-1]["sequence"]
    assert [event["sequence"] for event in events].count(inside) == [
        event["sequence"] for event in page["items"]
    ].count(inside)
    last = events[-1]["sequence"]
    assert (await api.http.get(path, params={"after": last})).json() == {"items": []}
    behind = await all_pages(api, path, after=inside)
    assert behind == [event for event in events if event["sequence"] > inside]


async def test_wrong_parameters_are_named(api: Running) -> None:
    created = await api.create()
    for rest, query, field in (
        ("events", "limit=0", "limit"),
        ("events", "limit=501", "limit"),
        ("events", "after=-1", "after"),
        ("events", "after=x", "after"),
        ("events", f"after={10**18}", "after"),
        ("events", "cursor=x", "cursor"),
        ("events", "cursor=", "cursor"),
        ("events", "cursor=1&after=1", "after"),
        ("events", "level=info", "level"),
        ("logs", "level=debug", "level"),
        ("logs", "level=", "level"),
        ("logs", "task=Nothing", "task"),
        ("logs", "task=1", "task"),
        ("logs", "task=", "task"),
        ("logs", "task=%C2%B2", "task"),
        ("logs", "limit=501", "limit"),
        ("logs", "cursor=1.x", "cursor"),
        ("logs", "follow=true", "follow"),
    ):
        response = await api.http.get(f"/api/orchestrations/{created['id']}/{rest}?{query}")
        fields = error_of(response, 400)["metadata"]["fields"]
        assert [problem["field"] for problem in fields] == [field], query
    limited = await api.http.get(f"/api/orchestrations/{created['id']}/logs?limit=5", headers=NDJSON)
    assert error_of(limited, 400)["metadata"]["fields"][0]["field"] == "limit"
    for rest in ("events", "logs"):
        nowhere = await api.http.get(f"/api/orchestrations/{NOWHERE}/{rest}", headers=NDJSON)
        assert error_of(nowhere, 404)["code"] == "ORCHESTRATION_NOT_FOUND"


LONG = 3_000
_GROW = """
INSERT INTO event_archive
SELECT %(stream)s, n, 'commit-' || n, %(team)s, %(aggregate)s, n, n, 'subject', '{}',
       convert_to(replace(%(body)s, '"version":99', '"version":' || n), 'UTF8'), sha256(''), sha256(''), now()
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n"""


async def with_long_history(api: Running, dsn: str) -> str:
    """An orchestration whose archive tells of LONG changes of an agent's status; its id."""
    created = await api.create(tasks=[TASKS[0] | {"title": "A long title " + "x" * 180}], activate=True)
    task_id = created["tasks"][0]["id"]
    await api.dispatcher.decide(created["id"], start(task_id))
    last = await api.dispatcher.decide(created["id"], record(task_id))
    assert last.state is not None
    await eventually(lambda: archived(dsn) == last.sequence, timeout=30)
    now = datetime.now(UTC)
    event = RecordedEvent("an-event", now, status_changed(task_id, AgentStatus.RUNNING))
    commit = Commit("a-commit", "a-command", "a-cause", "monitor", "default", created["id"], 99, now, (event,))
    values = {
        "stream": EVENTS,
        "team": "default",
        "aggregate": created["id"],
        "body": encode(commit).decode(),
        "first": last.state.version + 1,
        "last": last.state.version + LONG,
    }
    with psycopg.connect(dsn) as connection:
        connection.execute(_GROW, values)
    return str(created["id"])


def archived(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT coalesce(max(seq), 0) FROM event_archive").fetchone()
    return int(row[0]) if row else 0


async def test_a_long_log_is_streamed_in_constant_memory(api: Running, database_url: str) -> None:
    orchestration_id = await with_long_history(api, database_url)
    path = f"/api/orchestrations/{orchestration_id}/logs"
    lines = await all_lines(api, path)
    assert len(lines) == LONG + 5

    # Everything but the network: what is held in memory is what one page of commits needs.
    size = 0
    wanted = _Wanted(Level.INFO, None)
    shown = await api.parts.reader.exists("default", orchestration_id)
    assert shown is not None
    tracemalloc.start()
    try:
        async for chunk in _chunks(_lines(api.parts, "default", shown, Place(0), wanted), Place(0)):
            size += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 2_000_000
    assert peak < 1_000_000


async def test_who_leaves_early_is_not_read_for_any_longer(
    api: Running, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestration_id = await with_long_history(api, database_url)
    reads = reading = 0
    archived_page = api.parts.history._archived

    async def counted(*place: Any) -> Any:
        nonlocal reads, reading
        reads, reading = reads + 1, reading + 1
        try:
            return await archived_page(*place)
        finally:
            reading -= 1

    answered = asyncio.Event()
    answer = Lines.__call__

    async def noted(lines: Lines, *asgi: Any) -> None:
        try:
            await answer(lines, *asgi)
        finally:
            answered.set()

    monkeypatch.setattr(api.parts.history, "_archived", counted)
    monkeypatch.setattr(Lines, "__call__", noted)
    host, port = api.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        await asyncio.to_thread(client.connect, (host, int(port)))
        head = f"GET /api/orchestrations/{orchestration_id}/logs HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\n"
        client.sendall(f"{head}Accept: application/x-ndjson\r\n\r\n".encode())
        assert (await asyncio.to_thread(client.recv, 15)).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(30):
        await answered.wait()
    assert 0 < reads < LONG // 64
    assert reading == 0

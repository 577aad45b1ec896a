"""Live updates over WebSocket: the event stream's messages, and an answer to everything that can be wrong."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from services.api import telling
from shared.domain import commands as cmd
from tests.integration.api.holders import make_key
from tests.integration.api.live_clients import Seen, follow_sse, follow_websocket, news, websocket
from tests.integration.api.system import KEY, Running, running_api
from tests.integration.api.test_stream import run_task, tasks
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOTHING = "00000000-0000-4000-8000-000000000000"


async def frames(connection: ClientConnection) -> tuple[list[dict[str, Any]], int, str]:
    """Everything until the server closes, heartbeats apart; the code and the reason of the close."""
    found = []
    async with asyncio.timeout(30):
        with suppress(ConnectionClosedError):
            async for frame in connection:
                found.append(json.loads(frame))
    assert connection.close_code is not None
    told = [message for message in found if message["type"] != "heartbeat"]
    return told, connection.close_code, connection.close_reason or ""


async def refusal(api: Running, orchestration_id: str, query: str = "", **options: Any) -> tuple[int, dict[str, Any]]:
    """The status and the error of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with websocket(api.url, orchestration_id, query, **options):
            pass
    response = refused.value.response
    error: dict[str, Any] = json.loads(response.body)["error"]
    assert response.headers["X-Request-ID"] == error["metadata"]["requestId"]
    assert error["statusCode"] == response.status_code
    return response.status_code, error


async def test_a_websocket_tells_what_the_event_stream_tells(shared_api: Running) -> None:
    created = await shared_api.create(tasks=tasks(2))
    told, streamed = Seen(), Seen()
    async with asyncio.TaskGroup() as group:
        group.create_task(follow_websocket(shared_api.url, created["id"], told))
        group.create_task(follow_sse(shared_api.url, created["id"], streamed))
        await eventually(lambda: told.messages and streamed.messages)
        await shared_api.http.post(f"/api/orchestrations/{created['id']}/activate")
        for task in created["tasks"]:
            await run_task(shared_api, created["id"], task)
    assert told.messages == streamed.messages
    assert told.messages[0]["type"] == "status"
    assert told.messages[-1]["data"]["statistics"]["completedTasks"] == 2
    assert told.connections == streamed.connections == 1


async def test_a_websocket_begins_with_the_state_as_it_is(shared_api: Running) -> None:
    created = await shared_api.create()
    async with websocket(shared_api.url, created["id"]) as connection:
        first = await news(connection)
        assert first["type"] == "status"
        assert first["data"]["orchestration"] == {k: v for k, v in created.items() if k != "tasks"}
        await shared_api.http.post(f"/api/orchestrations/{created['id']}/activate")
        second = await news(connection)
        assert (second["type"], second["more"]) == ("task_updated", True)
        third = await news(connection)
        assert (third["type"], third["id"]) == ("orchestration_updated", second["id"])
        assert "more" not in third
    async with websocket(shared_api.url, created["id"], f"?after={first['id']}") as connection:
        assert [await news(connection) for _ in range(2)] == [second, third]


async def test_what_is_refused_is_answered_before_the_upgrade(shared_api: Running) -> None:
    mine = (await shared_api.create())["id"]
    for orchestration_id, query, key, status, code in (
        (mine, "", None, 401, "UNAUTHORIZED"),
        (mine, "", "somebody-elses-key", 401, "INVALID_API_KEY"),
        (mine, "?after=x", KEY, 400, "INVALID_REQUEST"),
        (mine, "?after=999999999", KEY, 400, "INVALID_REQUEST"),
        (NOTHING, "", KEY, 404, "ORCHESTRATION_NOT_FOUND"),
        ("not-an-id", "", KEY, 404, "ORCHESTRATION_NOT_FOUND"),
        (f"{mine}/else", "", KEY, 404, "NOT_FOUND"),
    ):
        found, error = await refusal(shared_api, orchestration_id, query, key=key)
        assert (found, error["code"]) == (status, code)
    await eventually(lambda: shared_api.parts.hub.listeners == 0)


async def test_a_crash_is_an_error_like_any_other(shared_api: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("nobody foresaw this")

    mine = (await shared_api.create())["id"]
    monkeypatch.setattr(shared_api.parts.hub, "join", crash)
    assert (await refusal(shared_api, mine))[0] == 500


async def test_a_browser_offers_its_key_as_a_subprotocol_and_is_not_told_it_back(shared_api: Running) -> None:
    mine = (await shared_api.create())["id"]
    offered: Any = ["orchestrator.v1", f"bearer.{KEY}"]
    async with websocket(shared_api.url, mine, key=None, subprotocols=offered) as connection:
        assert (await news(connection))["type"] == "status"
        assert connection.subprotocol == "orchestrator.v1"
        assert connection.response is not None
        assert KEY not in str(connection.response.headers)
        assert connection.response.headers["X-Request-ID"]


async def test_a_client_that_sends_something_is_sent_away(shared_api: Running) -> None:
    mine = (await shared_api.create())["id"]
    for sent, code in (("hello", 1003), (b"hello", 1003), ("x" * 5000, 1009)):
        async with websocket(shared_api.url, mine) as connection:
            await connection.send(sent)
            assert (await frames(connection))[1] == code
    await eventually(lambda: shared_api.parts.hub.listeners == 0)


async def test_a_client_that_goes_leaves_nothing_behind(shared_api: Running) -> None:
    mine = (await shared_api.create())["id"]
    async with websocket(shared_api.url, mine) as connection:
        await connection.recv()
        await eventually(lambda: shared_api.parts.hub.listeners == 1)
    await eventually(lambda: shared_api.parts.hub.listeners == 0)


async def test_stopping_sends_clients_away_with_a_hint(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url) as api:
        mine = (await api.create())["id"]
        async with websocket(api.url, mine) as connection:
            first = await news(connection)
            api.parts.hub.close()
            found, code, _ = await frames(connection)
        assert found == [{"type": "resume", "reason": "stopping", "after": first["id"]}]
        assert code == 1012
        assert (await refusal(api, mine))[0] == 503


async def test_deleting_ends_both_kinds_of_stream(shared_api: Running) -> None:
    mine = (await shared_api.create())["id"]
    async with (
        websocket(shared_api.url, mine) as connection,
        shared_api.http.stream("GET", f"/api/orchestrations/{mine}/stream") as response,
    ):
        await connection.recv()
        await shared_api.dispatcher.decide(mine, cmd.DeleteOrchestration())
        found, code, reason = await frames(connection)
        text = (await response.aread()).decode()
    assert found[-1]["type"] == "orchestration_deleted"
    assert found[-1]["data"] == {"id": mine, "status": "DELETED"}
    assert (code, "deleted" in reason) == (1000, True)
    assert f'"id":"{mine}","status":"DELETED"' in text.split("data: ")[-1]
    assert (await refusal(shared_api, mine))[0] == 404


async def test_a_quiet_websocket_has_a_heartbeat_and_ends_after_the_end(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, heartbeat_seconds=0.05, idle_after_end_seconds=0.5) as api:
        created = await api.create(activate=True)
        async with websocket(api.url, created["id"]) as connection:
            while json.loads(await connection.recv()) != {"type": "heartbeat"}:
                pass
            await run_task(api, created["id"], created["tasks"][0])
            found, code, _ = await frames(connection)
    assert found[-1]["type"] == "orchestration_completed"
    assert code == 1000


async def test_a_key_that_may_not_read_or_is_another_teams_is_refused(shared_api: Running) -> None:
    mine = (await shared_api.create())["id"]
    for team, permission, status, code in (
        ("default", "queue:write", 403, "FORBIDDEN"),
        ("others", "orchestrations:read", 404, "ORCHESTRATION_NOT_FOUND"),
    ):
        made = await make_key(shared_api, team, [permission])
        found, error = await refusal(shared_api, mine, key=made["key"])
        assert (found, error["code"]) == (status, code)


async def test_open_streams_end_when_their_key_is_revoked(
    nats_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Or a database that stands still for so long would end the stream as one whose key cannot be checked.
    monkeypatch.setattr(telling, "_CHECK_SECONDS", 60.0)
    async with running_api(nats_url, database_url, check_key_seconds=0.2, heartbeat_seconds=0.1) as api:
        mine = (await api.create())["id"]
        made = await make_key(api, permissions=["orchestrations:read"])
        path, headers = f"/api/orchestrations/{mine}/stream", {"X-API-Key": made["key"]}
        async with (
            websocket(api.url, mine, key=made["key"]) as connection,
            api.http.stream("GET", path, headers=headers) as response,
            websocket(api.url, mine) as another,
        ):
            for one in (connection, another):
                assert (await news(one))["type"] == "status"
            assert (await api.http.delete(f"/api/keys/{made['id']}")).is_success
            found, code, _ = await frames(connection)
            text = (await response.aread()).decode()
            assert json.loads(await another.recv())["type"] == "heartbeat"
    assert found[-1]["error"]["code"] == "INVALID_API_KEY"
    assert code == 3000
    assert "event: error" in text


async def test_one_stream_more_than_there_may_be_is_refused(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, max_streams=2, max_streams_per_team=1) as api:
        mine = (await api.create())["id"]
        async with websocket(api.url, mine) as connection:
            await connection.recv()
            assert (await refusal(api, mine))[1]["code"] == "RATE_LIMIT_EXCEEDED"
            answer = await api.http.get(f"/api/orchestrations/{mine}/stream")
            assert answer.status_code == 429
            assert answer.headers["Retry-After"]
        await eventually(lambda: api.parts.hub.listeners == 0)
        async with websocket(api.url, mine) as connection:
            await connection.recv()

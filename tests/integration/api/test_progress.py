"""What the monitor tells of agents reaches who follows, by SSE and by WebSocket, and nobody else."""

from typing import Any

import pytest

from shared.domain import commands as cmd
from shared.domain.events import AgentStatus
from shared.domain.ids import derive_id
from shared.jetstream.topology import progress_subject
from shared.messages import Progress
from tests.integration.api.live_clients import news, websocket
from tests.integration.api.system import Running
from tests.integration.api.test_stream import stream

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT = "2026-11-26T12:00:00+00:00"


async def at_work(api: Running) -> tuple[str, dict[str, Any]]:
    """An orchestration whose agent runs, and what is told of it."""
    created = await api.create(activate=True)
    task = created["tasks"][0]
    attempt, agent = derive_id("attempt", task["id"], 1), f"bc-{task['id']}"
    start = cmd.StartAttempt(attempt_id=attempt, agent_id=agent, api_version="v1", branch_name="b")
    await api.dispatcher.decide(created["id"], start)
    record = cmd.RecordAgent(
        attempt_id=attempt, agent_id=agent, status=AgentStatus.RUNNING, provider_status="RUNNING", run_id="run-1"
    )
    await api.dispatcher.decide(created["id"], record)
    told = {"taskId": task["id"], "attemptId": attempt, "agentId": agent, "tool": "ls .", "text": "Hm.", "at": AT}
    return created["id"], {"type": "agent_progress", "data": told}


async def tell(api: Running, orchestration_id: str, body: bytes, team: str = "default") -> None:
    await api.runtime.nc.publish(progress_subject(team, orchestration_id), body)


def progress(message: dict[str, Any], **change: str) -> bytes:
    data = {**message["data"], **change}
    return Progress(data["attemptId"], data["tool"], data["text"], data["at"]).encode()


async def test_who_follows_is_told_what_the_agent_is_at(shared_api: Running) -> None:
    orchestration_id, message = await at_work(shared_api)
    async with (
        stream(shared_api, orchestration_id) as events,
        websocket(shared_api.url, orchestration_id) as connection,
    ):
        status = await anext(events)
        assert (await news(connection))["type"] == "status"
        await tell(shared_api, orchestration_id, progress(message))
        event = await anext(events)
        assert event.json() == message
        assert event.id == status.id  # the library's last one: this message has none
        assert await news(connection) == message


async def test_what_is_no_progress_or_of_others_is_passed_over(shared_api: Running) -> None:
    orchestration_id, message = await at_work(shared_api)
    another, of_another = await at_work(shared_api)
    async with stream(shared_api, orchestration_id) as events, stream(shared_api, another) as events_of_another:
        await anext(events)
        await anext(events_of_another)
        await tell(shared_api, orchestration_id, b"what is this")
        await tell(shared_api, orchestration_id, progress(message, text="Of another team."), team="blue")
        await tell(shared_api, orchestration_id, progress(of_another))
        await tell(shared_api, another, progress(of_another))
        # By now all of it has been heard, and would have been shown before anything newer took its place.
        assert (await anext(events_of_another)).json() == of_another
        await tell(shared_api, orchestration_id, progress(message))
        assert (await anext(events)).json() == message

"""The queue of a team over HTTP: what waits and why, holding it, and what could not be handled."""

from functools import partial

import orjson
import pytest

from shared.domain.commands import NoteWaiting
from shared.jetstream.kv import JetStreamKeyValue
from shared.jetstream.topology import CONTROLS, DEAD, EVENTS, QUEUE, dead_subject, queue_subject
from shared.messages import Ticket
from shared.queue_control import QueueHolds
from tests.integration.api.system import TASK, Running
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def park(api: Running, data: bytes, *, stream: str = QUEUE, subject: str = "") -> None:
    """As a consumer does with what it cannot handle."""
    headers = {"Dead-Subject": subject, "Dead-Reason": "it could not be handled"}
    await api.runtime.nc.jetstream().publish(dead_subject(stream, "consumer"), data, headers=headers)


def _shows(holds: QueueHolds, held: bool) -> bool:
    """Whether a launcher's copy has heard of it."""
    return holds.is_held("default") is held


async def parked(api: Running) -> int:
    return (await api.runtime.nc.jetstream().stream_info(DEAD)).state.messages


async def test_the_stats_count_what_waits_by_what_it_waits_for(shared_api: Running) -> None:
    tasks = [{**TASK, "title": "One", "priority": "high"}, {**TASK, "title": "Two"}]
    created = await shared_api.create(tasks=tasks, activate=True)
    answer = await shared_api.http.get("/api/queue/stats")
    assert answer.status_code == 200
    assert answer.json() == {
        "held": False,
        "running": 0,
        "waiting": 2,
        "waiting_by_priority": {"high": 1, "medium": 1, "low": 0},
        "waiting_for": {"slot": 1, "turn": 1},
        "failed": 0,
    }
    attempt_id = created["tasks"][0]["attempts"][0]["id"]
    await shared_api.dispatcher.decide(created["id"], NoteWaiting(attempt_id=attempt_id, reason="rate_limit"))

    async def shown() -> bool:
        found = (await shared_api.http.get("/api/queue/stats")).json()["waiting_for"]
        return bool(found == {"rate_limit": 1, "turn": 1})

    await eventually(shown)
    await shared_api.http.post(f"/api/orchestrations/{created['id']}/cancel")
    assert (await shared_api.http.get("/api/queue/stats")).json()["waiting"] == 0


async def test_a_hold_reaches_every_launcher_and_is_lifted_again(shared_api: Running) -> None:
    async with JetStreamKeyValue(shared_api.runtime.nc, CONTROLS).view() as view:
        holds = QueueHolds(view)
        for path, message, status, held in (
            ("pause", "Paused", "PAUSED", True),
            ("pause", "Already paused", "PAUSED", True),
            ("resume", "Resumed", "ACTIVE", False),
            ("resume", "Already active", "ACTIVE", False),
        ):
            answer = await shared_api.http.post(f"/api/queue/{path}")
            assert (answer.status_code, answer.json()) == (
                200,
                {"id": "default", "status": status, "message": message},
            )
            assert (await shared_api.http.get("/api/queue/stats")).json()["held"] is held
            await eventually(partial(_shows, holds, held))
        assert not holds.is_held("others")


async def test_what_could_not_be_handled_is_put_back_for_the_own_team_alone(shared_api: Running) -> None:
    mine, foreign = Ticket("default", "orc-1", "attempt-1"), Ticket("others", "orc-2", "attempt-2")
    await park(shared_api, mine.encode(), subject=queue_subject("high", "attempt-1"))
    await park(shared_api, foreign.encode(), subject=queue_subject("high", "attempt-2"))
    await park(shared_api, b"no JSON at all", subject="queue.high.x")
    await park(shared_api, orjson.dumps({"team": "default"}), stream=EVENTS, subject="evt.default.x")
    assert (await shared_api.http.get("/api/queue/stats")).json()["failed"] == 2
    answer = await shared_api.http.post("/api/queue/retry-failed")
    assert answer.json()["message"] == "1 message is handled again; 1 can only be cleared"
    message = await shared_api.runtime.nc.jetstream().get_last_msg(QUEUE, queue_subject("high", "attempt-1"))
    assert Ticket.decode(message.data or b"") == mine
    assert await parked(shared_api) == 3
    assert (await shared_api.http.post("/api/queue/clear-failed")).json()["message"] == "1 message is thrown away"
    assert await parked(shared_api) == 2
    assert (await shared_api.http.get("/api/queue/stats")).json()["failed"] == 0


async def test_what_is_in_the_queue_already_is_not_put_there_twice(shared_api: Running) -> None:
    ticket, subject = Ticket("default", "orc-3", "attempt-3"), queue_subject("low", "attempt-3")
    await shared_api.runtime.nc.jetstream().publish(subject, ticket.encode())
    await park(shared_api, ticket.encode(), subject=subject)
    assert (await shared_api.http.post("/api/queue/retry-failed")).json()["message"] == "1 message is handled again"
    assert (await shared_api.http.get("/api/queue/stats")).json()["failed"] == 0

"""The main job on the whole system: orchestrations go from creation to their end, on both versions of the API."""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.receiver import webhook_receiver
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

THREE = [task("First"), task("Second"), task("Third")]


async def _run(system: RunningSystem, tasks: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    orchestration_id = await system.create(tasks, activate=True, **fields)
    return await system.until_ended(orchestration_id)


async def test_v1_runs_every_kind_of_orchestration_to_its_end_with_one_agent_an_attempt() -> None:
    async with running_system() as system, webhook_receiver() as receiver:
        await _three_tasks_complete(system, receiver.url)
        await eventually(lambda: receiver.bodies)
        notification = receiver.bodies[0]
        assert notification["event"] == "orchestration.completed"
        assert notification["statistics"]["completed_tasks"] == 3
        await _a_failed_agent_is_retried(system)
        await _fail_fast_ends_failed_with_its_reason(system)
        await _continue_ends_partial_completed(system)
        await _a_client_that_follows_the_stream_sees_every_change_and_resumes_where_it_was(system)
        stats = await system.simulator()
        assert stats["create_conflicts"] == 0
        assert stats["running"] == 0
        assert stats["webhooks"]["sent"] == 0


async def test_v0_learns_of_every_end_by_signed_webhooks() -> None:
    never = {"POLL_FIRST_SECONDS": "600", "POLL_INTERVAL_SECONDS": "600"}
    async with running_system(CURSOR_API_VERSION="v0", **never) as system:
        await _three_tasks_complete(system, None)
        await _a_failed_agent_is_retried(system)

        async def all_are_taken() -> None:
            stats = await system.simulator()
            assert stats["webhooks"]["delivered"] == stats["creates"] == 5

        await eventually(all_are_taken)  # what is done about one may be seen before its sender has the answer


@pytest.mark.long
async def test_without_its_webhooks_v0_ends_the_same_by_polling() -> None:
    async with running_system(CURSOR_API_VERSION="v0", APP_URL="http://127.0.0.1:9") as system:
        await _three_tasks_complete(system, None)
        stats = await system.simulator()
        assert (stats["creates"], stats["webhooks"]["delivered"]) == (3, 0)


async def _three_tasks_complete(system: RunningSystem, receiver_url: str | None) -> None:
    ended = await _run(system, THREE, **({"webhookUrl": receiver_url} if receiver_url else {}))
    assert ended["orchestration"]["status"] == "COMPLETED"
    assert ended["orchestration"]["summary"] == "All 3 tasks completed successfully"
    assert ended["statistics"]["completedTasks"] == 3
    assert ended["statistics"]["progress"] == 100
    assert ended["statistics"]["totalCost"] > 0
    for one in ended["tasks"]:
        assert one["status"] == "COMPLETED"
        assert one["result_branch"].startswith("cursor/")
        assert one["result_pr_url"].startswith("https://github.com/acme/shop/pull/")
        assert len(one["attempts"]) == 1
    # In sequential mode the next agent starts only when the one before has ended.
    ends = [datetime.fromisoformat(one["completed_at"]) for one in ended["tasks"]]
    starts = [datetime.fromisoformat(one["started_at"]) for one in ended["tasks"]]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


async def _a_failed_agent_is_retried(system: RunningSystem) -> None:
    ended = await _run(system, [task("Flaky", "[[sim:fail=1]]")])
    assert ended["orchestration"]["status"] == "COMPLETED"
    (flaky,) = ended["tasks"]
    assert flaky["retry_count"] == 1
    assert [attempt["error_code"] for attempt in flaky["attempts"]] == ["AGENT_FAILED", None]


async def _fail_fast_ends_failed_with_its_reason(system: RunningSystem) -> None:
    broken = {**task("Broken", "[[sim:fail]]"), "maxRetries": 1}
    ended = await _run(system, [broken, task("Never")])
    assert ended["orchestration"]["status"] == "FAILED"
    assert "Broken" in ended["orchestration"]["error_message"]
    assert [one["status"] for one in ended["tasks"]] == ["FAILED", "CANCELLED"]
    assert len(ended["tasks"][0]["attempts"]) == 2


async def _continue_ends_partial_completed(system: RunningSystem) -> None:
    broken = {**task("Broken but tolerated", "[[sim:fail]]"), "maxRetries": 0}
    ended = await _run(system, [broken, task("Next")], failurePolicy="continue")
    assert ended["orchestration"]["status"] == "PARTIAL_COMPLETED"
    assert ended["orchestration"]["summary"] == "1/2 tasks completed"


async def _a_client_that_follows_the_stream_sees_every_change_and_resumes_where_it_was(system: RunningSystem) -> None:
    orchestration_id = await system.create(THREE)

    async def activate() -> None:
        assert (await system.api.post(f"/api/orchestrations/{orchestration_id}/activate")).status_code == 200

    # Not before the stream is open: nobody could tell what it has missed.
    first = await _read_stream(system, orchestration_id, None, stop_after=4, after_first=activate)
    rest = await _read_stream(system, orchestration_id, first[-1][0])
    assert first[0][1]["type"] == "status"
    assert rest[-1][1]["type"] == "orchestration_completed"
    sequences = [sequence for sequence, _ in first + rest]
    assert sequences == sorted(set(sequences))
    history = await system.api.get(f"/api/orchestrations/{orchestration_id}/events")
    committed = sorted({event["sequence"] for event in history.json()["items"]})
    assert sequences == [sequence for sequence in committed if sequence >= sequences[0]]


async def _read_stream(
    system: RunningSystem,
    orchestration_id: str,
    last_id: int | None,
    *,
    stop_after: int | None = None,
    after_first: Callable[[], Awaitable[None]] | None = None,
) -> list[tuple[int, dict[str, Any]]]:
    """The last message of each commit with its sequence, until the end or so many commits."""
    headers = {"Last-Event-ID": str(last_id)} if last_id is not None else {}
    seen: list[tuple[int, dict[str, Any]]] = []
    sequence: int | None = None
    url = f"/api/orchestrations/{orchestration_id}/stream"
    async with system.api.stream("GET", url, headers=headers, timeout=60) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                sequence = int(line[4:])
            elif line.startswith("data: ") and sequence is not None:
                seen.append((sequence, json.loads(line[6:])))
                sequence = None
                if len(seen) == 1 and after_first is not None:
                    await after_first()
                if len(seen) == stop_after or seen[-1][1]["type"] == "orchestration_completed":
                    break
    return seen

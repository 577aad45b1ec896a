"""Models, and what attempts have cost."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.command_handler import CommandHandler
from shared.domain.commands import AnyCommand
from shared.domain.events import AgentStatus
from shared.domain.models import KNOWN_WITHOUT_PROVIDER
from shared.jetstream.event_log import JetStreamEventLog
from shared.memory import ManualClock
from shared.system import RandomIds
from tests.integration.api.system import TASK, Running
from tests.support.orchestrations import attempt_id, finish, observe, record, start

pytestmark = pytest.mark.asyncio(loop_scope="module")

COSTS = "/api/costs"


async def costs(api: Running, **params: Any) -> dict[str, Any]:
    response = await api.http.get(COSTS, params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def decide(api: Running, orchestration_id: str, *commands: AnyCommand) -> None:
    for command in commands:
        decided = await api.dispatcher.decide(orchestration_id, command)
        await api.parts.reader.wait_visible("default", orchestration_id, decided.sequence)


async def spend(api: Running, repository: str, dollars: float, *, failed: float | None = None) -> str:
    """An orchestration whose task cost so much, and before that another attempt that failed. Gives its id."""
    task = {**TASK, "maxRetries": 0}
    created = await api.create(repository=repository, tasks=[task], activate=True)
    one = created["tasks"][0]["id"]
    number = 1
    if failed is not None:
        await decide(api, created["id"], start(one), record(one))
        await decide(api, created["id"], observe(one, AgentStatus.FAILED, cost=failed, duration_ms=30_000))
        retried = await api.http.post(f"/api/tasks/{one}/retry")
        assert retried.status_code == 200, retried.text
        number = 2
    await decide(api, created["id"], start(one, number), record(one, number), finish(one, number, cost=dollars))
    (shown,) = (await api.http.get(f"/api/orchestrations/{created['id']}/tasks")).json()["items"]
    assert shown["attempts"][-1]["id"] == attempt_id(one, number)
    assert shown["status"] == "COMPLETED"
    return str(created["id"])


async def test_costs_are_summed_over_failed_attempts_too_and_outlive_their_orchestration(
    shared_api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = shared_api
    clock = ManualClock(datetime(2026, 11, 15, 12, tzinfo=UTC))  # the month is not to end in between
    handler = CommandHandler(JetStreamEventLog(api.runtime.nc), clock, RandomIds())
    monkeypatch.setattr(api.dispatcher, "handler", handler)
    assert (await costs(api))["total"] == {"cost": 0.0, "attempts": 0, "failed_attempts": 0, "duration": 0}
    first = await spend(api, "acme/shop", 0.25, failed=0.1)
    clock.advance(timedelta(minutes=5))
    second = await spend(api, "acme/site", 0.2)
    total = {"cost": 0.55, "attempts": 3, "failed_attempts": 1, "duration": 150_000}
    whole = await costs(api)
    assert whole == {
        "currency": "USD", "since": None, "until": None, "group_by": None, "total": total, "items": [],
    }  # fmt: skip
    by_repository = await costs(api, groupBy="repository")
    assert by_repository["total"] == total
    assert by_repository["items"] == [
        {
            "key": "https://github.com/acme/shop",
            "cost": 0.35,
            "attempts": 2,
            "failed_attempts": 1,
            "duration": 90_000,
        },
        {
            "key": "https://github.com/acme/site",
            "cost": 0.2,
            "attempts": 1,
            "failed_attempts": 0,
            "duration": 60_000,
        },
    ]
    for group, keys in (("team", ["default"]), ("model", ["auto"]), ("orchestration", sorted([first, second]))):
        assert [item["key"] for item in (await costs(api, groupBy=group))["items"]] == keys
    (month,) = (await costs(api, groupBy="month"))["items"]
    ended = (await api.http.get(f"/api/orchestrations/{second}")).json()["orchestration"]["completed_at"]
    assert month == {"key": ended[:7], **total}
    assert (await costs(api, until=ended))["total"]["cost"] == 0.35
    assert (await costs(api, since=ended))["total"]["cost"] == 0.2
    pages = [await costs(api, groupBy="orchestration", limit=1)]
    pages.append(await costs(api, groupBy="orchestration", limit=1, cursor=pages[0]["nextCursor"]))
    assert [item["key"] for page in pages for item in page["items"]] == sorted([first, second])
    assert "nextCursor" not in pages[1]
    assert (await api.http.delete(f"/api/orchestrations/{first}")).status_code == 200
    assert (await costs(api))["total"] == total


async def test_what_is_wrong_in_a_question_for_costs_is_named(shared_api: Running) -> None:
    cursor = "WyJtb250aCIsbnVsbCxudWxsLCIyMDI2LTExIl0"  # of a page by month
    wrong: list[tuple[dict[str, str], str]] = [
        ({"groupBy": "day"}, "groupBy"),
        ({"group_by": "month"}, "group_by"),
        ({"since": "2026-01-01"}, "since"),
        ({"limit": "0"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": cursor, "groupBy": "team"}, "cursor"),
        ({"cursor": cursor, "groupBy": "month", "since": "2026-01-01T00:00:00Z"}, "cursor"),
    ]
    for params, field in wrong:
        response = await shared_api.http.get(COSTS, params=params)
        assert response.status_code == 400, params
        assert [named["field"] for named in response.json()["error"]["metadata"]["fields"]] == [field]
    assert (await costs(shared_api, groupBy="month", cursor=cursor))["group_by"] == "month"


async def test_without_the_provider_the_models_are_those_that_have_always_been_there(shared_api: Running) -> None:
    models = (await shared_api.http.get("/api/models")).json()
    assert models["source"] == "fallback"
    assert models["items"][0] == {"id": KNOWN_WITHOUT_PROVIDER[0], "display_name": KNOWN_WITHOUT_PROVIDER[0],
                                  "aliases": []}  # fmt: skip
    assert [model["id"] for model in models["items"]] == list(KNOWN_WITHOUT_PROVIDER)

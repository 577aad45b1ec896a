"""Deliveries over HTTP: what became of each notification, and once more on demand."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.local.nats import NatsServer
from deploy.local.postgres import PostgresServer
from services.api.deliveries import Deliveries
from services.notifier.notification import Notification
from services.notifier.outcome import Kind, Outcome
from services.notifier.records import PostgresRecords, Verdict
from shared.jetstream.publish import Ack
from shared.jetstream.topology import DELIVERIES
from shared.memory import MemoryPublisher
from shared.postgres.pool import make_pool
from tests.integration.api.system import Running, running_api
from tests.support.servers import fresh_database, nats_server

BEGIN = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECRET_URL = "https://hooks.example.com/SECRET-TOKEN"


@pytest.fixture(scope="module", name="nats_module")
def _nats() -> Iterator[NatsServer]:
    with nats_server() as server:
        yield server


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres) as address:
        yield address


@pytest.fixture(name="api")
async def _api(nats_module: NatsServer, dsn: str) -> Any:
    async with running_api(nats_module.url, dsn) as running:
        yield running


def notification(name: str, *, team: str = "default", orchestration: str = "orch-1", day: int = 0) -> Notification:
    return Notification(
        delivery_id=name,
        team=team,
        orchestration_id=orchestration,
        event_type="orchestration.completed",
        event_id=f"event-{name}",
        sequence=1,
        occurred_at=BEGIN + timedelta(days=day),
        url=SECRET_URL,
    )


async def tried(dsn: str, told: Notification, *outcomes: tuple[str, Outcome]) -> None:
    """The notifier's tries at it, each with the status that it led to."""
    async with make_pool(dsn, name="test") as pool:
        records = PostgresRecords(pool)
        for number, (status, outcome) in enumerate(outcomes):
            now = told.occurred_at + timedelta(minutes=number)
            made = await records.begin(told, "webhook", now)
            error = f"WEBHOOK_DELIVERY_FAILED: {outcome.detail}" if status == "FAILED" else None
            next_at = now + timedelta(minutes=1) if status == "PENDING" else None
            ended = now + timedelta(milliseconds=120)
            await records.end(made, Verdict(outcome, 120, ended, status, next_at, error))


NO = ("PENDING", Outcome(Kind.REJECTED, "answered 500"))
GIVEN_UP = ("FAILED", Outcome(Kind.REJECTED, "answered 500"))
DONE = ("DELIVERED", Outcome(Kind.DELIVERED, "answered 200"))


async def test_a_delivery_is_shown_with_all_its_tries(api: Running, dsn: str) -> None:
    await tried(dsn, notification("shown"), NO, DONE)
    answer = await api.http.get("/api/webhook-deliveries/shown")
    assert answer.status_code == 200
    assert "SECRET-TOKEN" not in answer.text
    body = answer.json()
    attempts = body.pop("attempts")
    assert body == {
        "id": "shown",
        "orchestration_id": "orch-1",
        "channel": "webhook",
        "event": "orchestration.completed",
        "host": "hooks.example.com",
        "status": "DELIVERED",
        "tries": 2,
        "occurred_at": "2026-11-01T12:00:00Z",
        "updated_at": "2026-11-01T12:01:00.120000Z",
        "next_try_at": None,
        "error": None,
    }
    assert [(made["number"], made["outcome"], made["detail"]) for made in attempts] == [
        (2, "delivered", "answered 200"),
        (1, "rejected", "answered 500"),
    ]


async def test_they_are_listed_newest_first_page_by_page(api: Running, dsn: str) -> None:
    for day in range(5):
        await tried(dsn, notification(f"paged-{day}", orchestration="paged", day=day), DONE if day % 2 else GIVEN_UP)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await api.http.get("/api/webhook-deliveries", params={"orchestration": "paged", "limit": 2, **cursor})
        page = answer.json()
        seen += [item["id"] for item in page["items"]]
        if "nextCursor" not in page:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert seen == [f"paged-{day}" for day in (4, 3, 2, 1, 0)]
    failed = await api.http.get("/api/webhook-deliveries", params={"orchestration": "paged", "status": "FAILED"})
    assert [item["id"] for item in failed.json()["items"]] == ["paged-4", "paged-2", "paged-0"]


@pytest.mark.parametrize("query", [{"status": "LOST"}, {"cursor": "x"}, {"limit": "0"}, {"host": "x"}])
async def test_what_a_list_does_not_take_is_named(api: Running, query: dict[str, str]) -> None:
    answer = await api.http.get("/api/webhook-deliveries", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["metadata"]["fields"][0]["field"] == next(iter(query))


async def test_another_team_s_are_not_found(api: Running, dsn: str) -> None:
    await tried(dsn, notification("foreign", team="others"), GIVEN_UP)
    assert (await api.http.get("/api/webhook-deliveries/foreign")).status_code == 404
    assert (await api.http.post("/api/webhook-deliveries/foreign/redeliver")).status_code == 404
    listed = (await api.http.get("/api/webhook-deliveries", params={"limit": 100})).json()["items"]
    assert "foreign" not in [item["id"] for item in listed]


async def test_one_that_was_given_up_is_sent_once_more_however_many_ask(api: Running, dsn: str) -> None:
    await tried(dsn, notification("again"), GIVEN_UP)
    stream = api.runtime.nc.jetstream()
    before = (await stream.stream_info(DELIVERIES)).state.messages
    answers = await asyncio.gather(*(api.http.post("/api/webhook-deliveries/again/redeliver") for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    accepted = next(answer for answer in answers if answer.status_code == 202)
    assert accepted.headers["Location"] == "/api/webhook-deliveries/again"
    assert accepted.json()["status"] == "PENDING"
    assert (await stream.stream_info(DELIVERIES)).state.messages == before + 1
    message = await stream.get_last_msg(DELIVERIES, "deliver.webhook")
    again = Notification.decode(message.data or b"")
    assert again.redelivered_at is not None
    assert again.model_copy(update={"redelivered_at": None}) == notification("again")
    assert (await api.http.get("/api/webhook-deliveries/again")).json()["status"] == "PENDING"


async def test_one_that_is_sent_before_that_is_written_down_does_not_stay_pending(api: Running, dsn: str) -> None:
    """The notifier may be through with it in the moment between the broker's ack and the row."""
    told = notification("quick")
    await tried(dsn, told, GIVEN_UP)

    class QuickNotifier(MemoryPublisher):
        async def publish(self, *args: Any, **kwargs: Any) -> Ack:
            ack = await super().publish(*args, **kwargs)
            await tried(dsn, told, DONE)
            return ack

    quick = QuickNotifier()
    async with make_pool(dsn, name="test") as pool:
        assert await Deliveries(pool, quick).redeliver("default", "quick", BEGIN)
        assert (await api.http.get("/api/webhook-deliveries/quick")).json()["status"] == "DELIVERED"
        assert await Deliveries(pool, quick).redeliver("default", "quick", BEGIN)
    assert len(quick.messages) == 2


async def test_one_that_is_still_being_tried_needs_no_second(api: Running, dsn: str) -> None:
    await tried(dsn, notification("tried"), NO)
    answer = await api.http.post("/api/webhook-deliveries/tried/redeliver")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "INVALID_STATE_TRANSITION"


async def test_one_whose_outcome_could_not_be_written_down_can_be_asked_for_again(api: Running, dsn: str) -> None:
    async with make_pool(dsn, name="test") as pool:
        records = PostgresRecords(pool)
        await records.begin(notification("forgotten"), "webhook", BEGIN)
        await records.begin(notification("begun"), "webhook", datetime.now(UTC))
    assert (await api.http.post("/api/webhook-deliveries/begun/redeliver")).status_code == 409
    assert (await api.http.post("/api/webhook-deliveries/forgotten/redeliver")).status_code == 202
    assert (await api.http.post("/api/webhook-deliveries/forgotten/redeliver")).status_code == 409


@pytest.mark.parametrize("delivery_id", ["nowhere", "x" * 200, "%00"])
async def test_what_does_not_exist_is_not_found(api: Running, delivery_id: str) -> None:
    assert (await api.http.get(f"/api/webhook-deliveries/{delivery_id}")).status_code == 404
    assert (await api.http.post(f"/api/webhook-deliveries/{delivery_id}/redeliver")).status_code == 404

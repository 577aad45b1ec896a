"""A webhook is a hint: it makes us look, whatever it says and however often it comes."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest

from services.monitor.receipts import read_hint
from shared.cursor.errors import ProviderError
from shared.domain.events import AgentStatus, AgentStatusChanged, TaskStatus
from shared.domain.state import Phase
from shared.jetstream.consumer import Later, Poison
from shared.messages import LOG_LAG, Receipt
from tests.unit.dispatcher.scripted import GONE, THROTTLED, UNANSWERED, UNAVAILABLE
from tests.unit.dispatcher.world import ORCHESTRATION, TEAM, delivery
from tests.unit.monitor.follower import monitor

PRESENT: dict[str, Any] = {
    "event": "statusChange",
    "timestamp": "2026-11-01T12:00:00Z",
    "id": "bc_provider-1",
    "status": "FINISHED",
    "source": {"repository": "https://github.com/acme/shop", "ref": "main"},
    "target": {"url": "https://cursor.com/agents?id=bc_provider-1"},
}
OLDER: dict[str, Any] = {"event": "agent.finished", "agentId": "bc_provider-1", "status": "FINISHED"}


def json_of(body: dict[str, Any]) -> str:
    return orjson.dumps(body).decode()


@pytest.mark.parametrize("body", [PRESENT, OLDER])
async def test_both_forms_of_a_receipt_make_us_look_and_what_is_read_counts(body: dict[str, Any]) -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.FINISHED, summary="Done.")
        assert await m.receive(body) is None
        task = await m.task()
        assert task.status is TaskStatus.COMPLETED
        assert task.result is not None
        assert task.result.summary == "Done."
        changes = [event.source for event in await m.w.events() if isinstance(event, AgentStatusChanged)]
        assert changes == ["webhook"]


async def test_a_receipt_that_lies_changes_nothing_and_is_left_to_the_poll_after_a_few_looks() -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.RUNNING)
        pauses = [await m.receive(PRESENT, deliveries=deliveries) for deliveries in range(1, 6)]
        assert pauses == [1.0, 2.0, 3.0, 4.0, None]
        assert (await m.task()).status is TaskStatus.PROCESSING
        assert len(m.provider.reads) == 5


@pytest.mark.parametrize("word", ["FINISHED", "ERROR", "FAILED"])
async def test_a_receipt_that_is_early_is_confirmed_by_a_later_look(word: str) -> None:
    told = {**PRESENT, "status": word}
    async with monitor("v0") as m:
        m.show(AgentStatus.RUNNING)
        assert await m.receive(told, deliveries=1) is not None
        m.show(AgentStatus.FINISHED)
        assert await m.receive(told, deliveries=2) is None
        assert (await m.task()).status is TaskStatus.COMPLETED


@pytest.mark.parametrize("word", ["RUNNING", "CREATING", "SLEEPING"])
async def test_a_receipt_of_no_end_is_done_with_after_one_look(word: str) -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.RUNNING)
        assert await m.receive({**PRESENT, "status": word}) is None


async def test_a_receipt_that_overtakes_the_reply_to_the_create_makes_the_agent_known() -> None:
    async with monitor("v0", launched=False) as m:
        assert (await m.attempt()).phase is Phase.STARTED
        m.show(AgentStatus.FINISHED)
        assert await m.receive({**PRESENT, "id": "bc_theirs"}) is None
        assert m.provider.reads == [("bc_theirs", None)]
        assert (await m.task()).status is TaskStatus.COMPLETED
        assert await m.w.known_agents() == ["bc_theirs"]


@pytest.mark.parametrize("seed", range(100))
async def test_an_agent_that_ended_before_its_create_was_answered_ends_its_attempt_once(seed: int) -> None:
    chance = random.Random(seed)
    end = chance.choice([AgentStatus.FINISHED, AgentStatus.FAILED])
    told = {**chance.choice([PRESENT, OLDER]), "status": "FINISHED" if end is AgentStatus.FINISHED else "ERROR"}
    pauses: list[float | None] = []
    async with monitor("v0", queued=True) as m:

        async def told_early() -> None:
            for _ in range(chance.randint(1, 3)):
                pauses.append(await m.receive(told))

        m.show(AgentStatus.RUNNING if chance.random() < 0.3 else end)
        m.provider.after_create = [told_early]
        if chance.random() < 0.3:
            m.provider.after_create = [_both(told_early, UNANSWERED)]
        await m.w.launch()
        m.show(end)
        for deliveries, pause in enumerate(pauses, start=2):
            if pause is not None:
                assert await m.receive(told, deliveries=deliveries) is None
        await m.poll()

        task = await m.task()
        assert task.status is (TaskStatus.COMPLETED if end is AgentStatus.FINISHED else TaskStatus.FAILED)
        assert await m.w.known_agents() == ["bc_provider-1"]
        assert len(m.provider.agents) == 1
        events = [event.type for event in await m.w.events()]
        assert events.count("task.completed") + events.count("task.failed") == 1


def _both(step: Callable[[], Awaitable[None]], error: ProviderError) -> Callable[[], Awaitable[None]]:
    async def both() -> None:
        await step()
        raise error

    return both


async def test_a_receipt_without_an_id_before_the_create_is_known_waits_for_it() -> None:
    async with monitor("v0", launched=False) as m:
        assert await m.receive({"status": "FINISHED"}) == 1.0
        assert m.provider.reads == []
        assert (await m.attempt()).phase is Phase.STARTED


async def test_a_receipt_that_names_another_agent_is_not_followed_to_it() -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.RUNNING)
        await m.receive({**PRESENT, "id": "bc_somebody_elses"})
        assert {agent_id for agent_id, _ in m.provider.reads} == {(await m.attempt()).agent_id}


async def test_a_hundred_copies_change_as_much_as_one() -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.FINISHED)
        async with asyncio.TaskGroup() as group:
            copies = [group.create_task(m.receive(PRESENT)) for _ in range(100)]
        assert {copy.result() for copy in copies} == {None}
        assert [event.type for event in await m.w.events()].count("task.completed") == 1


async def test_receipts_after_the_end_change_nothing_and_ask_nobody() -> None:
    async with monitor("v0") as m:
        m.show(AgentStatus.FINISHED)
        await m.receive(PRESENT)
        before, reads = await m.w.events(), len(m.provider.reads)
        for word in ("FINISHED", "ERROR", "RUNNING"):
            assert await m.receive({**PRESENT, "status": word}) is None
        assert await m.w.events() == before
        assert len(m.provider.reads) == reads


@pytest.mark.parametrize("deliveries", [1, 2, 6, 100, 5_000])
async def test_a_receipt_waits_for_a_provider_that_does_not_answer(deliveries: int) -> None:
    async with monitor("v0") as m:
        m.provider.gets = [UNAVAILABLE]
        pause = await m.receive(PRESENT, deliveries=deliveries)
        assert pause == min(2.0 ** min(deliveries, 20), 60.0)
        assert (await m.task()).status is TaskStatus.PROCESSING


async def test_a_receipt_waits_as_long_as_the_provider_asks_for() -> None:
    async with monitor("v0") as m:
        m.provider.gets = [THROTTLED]
        assert await m.receive(PRESENT) == 7.0


async def test_a_receipt_of_a_deleted_agent_is_done_with_after_the_deadline() -> None:
    async with monitor("v0", timeout_minutes=1) as m:
        m.provider.gets = [GONE]
        assert await m.receive(PRESENT) is not None
        m.w.clock.advance(timedelta(minutes=2))
        m.provider.stop_error = GONE
        assert await m.receive(PRESENT, deliveries=2) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"status":null}',
        b'{"status":["FINISHED"]}',
        b'{"id":"bc_1"}',
        b'{"status":"FINISHED"',
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_change_of_status_is_poison(body: bytes) -> None:
    async with monitor("v0") as m:
        with pytest.raises(Poison):
            await m.receive(body)
        assert m.provider.reads == []


@pytest.mark.parametrize(
    "change",
    [
        {"body": 7},
        {"body": None},
        {"team": None},
        {"attempt_id": ["a"]},
        {"attempt_id": "no-such-attempt"},
        {"orchestration_id": "orc-unknown"},
    ],
)
async def test_a_receipt_that_is_none_or_of_nobody_is_poison(change: dict[str, Any]) -> None:
    async with monitor("v0") as m:
        m.w.clock.advance(LOG_LAG)
        attempt = await m.attempt()
        good = Receipt(TEAM, ORCHESTRATION, attempt.attempt_id, "2026-11-01T12:00:00Z", {}, json_of(PRESENT))
        body = orjson.dumps({**orjson.loads(good.encode()), **change})
        with pytest.raises(Poison):
            await m.receipts.on_receipt(delivery(body))


async def test_a_receipt_of_an_attempt_that_a_replica_of_the_log_does_not_show_yet_comes_again_for_a_minute() -> None:
    async with monitor("v0") as m:
        early = Receipt(TEAM, ORCHESTRATION, "not-yet-shown", "2026-11-01T12:00:00Z", {}, json_of(PRESENT)).encode()
        for deliveries in range(1, 60):
            with pytest.raises(Later):
                await m.receipts.on_receipt(delivery(early, deliveries=deliveries))
            m.w.clock.advance(timedelta(seconds=1))
        m.w.clock.advance(timedelta(seconds=1))
        with pytest.raises(Poison):
            await m.receipts.on_receipt(delivery(early, deliveries=60))
        assert m.provider.reads == []


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (PRESENT, ("bc_provider-1", "FINISHED")),
        (OLDER, ("bc_provider-1", "FINISHED")),
        ({"status": "ERROR"}, (None, "ERROR")),
        ({"status": "ERROR", "id": 7}, (None, "ERROR")),
        ({"status": "ERROR", "id": "", "agentId": "bc_2"}, ("bc_2", "ERROR")),
    ],
)
def test_the_hint_of_a_body_is_the_agents_id_and_its_status(body: dict[str, Any], hint: tuple[str | None, str]) -> None:
    assert read_hint(orjson.dumps(body)) == hint

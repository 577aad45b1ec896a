"""Asking for an orchestration as it was: byte for byte what was answered then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from services.api.queries import Queries
from shared.domain import commands as cmd
from tests.integration.api.life import ODD, TASKS, live
from tests.integration.api.system import Running, running_api
from tests.integration.api.test_orchestrations import NOWHERE, error_of
from tests.support.eventually import eventually

SHOWN = ("", "/tasks", "/stats")


@dataclass(frozen=True)
class Answer:
    path: str
    stamp: str
    body: bytes


async def asked(api: Running, path: str, at: str | None = None) -> Answer:
    response = await api.http.get(path, params={} if at is None else {"at": at})
    assert response.status_code == 200, response.text
    return Answer(path, response.headers["X-As-Of"], response.content)


async def answers(api: Running, orchestration_id: str) -> list[Answer]:
    return [await asked(api, f"/api/orchestrations/{orchestration_id}{rest}") for rest in SHOWN]


@asynccontextmanager
async def without_database(api: Running) -> AsyncIterator[None]:
    """Inside, nothing of what this api shows comes from Postgres."""

    async def away(*_: Any, **__: Any) -> Any:
        raise psycopg.OperationalError("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queries, "orchestration", away)
        patch.setattr(api.parts.history, "_archived", away)
        yield


async def recorded_life(api: Running) -> list[Answer]:
    """Every answer, from the rows and from the log, after each commit of a life."""
    created = await api.create(tasks=TASKS, metadata=ODD, executionMode="sequential", failurePolicy="continue")
    recorded = await answers(api, created["id"])
    async for _ in live(api.dispatcher, created):
        recorded += await answers(api, created["id"])
        async with without_database(api):
            recorded.append(await asked(api, recorded[-3].path))
    return recorded


async def ask_again(api: Running, recorded: list[Answer]) -> None:
    for begin in range(0, len(recorded), 10):
        some = recorded[begin : begin + 10]
        again = await asyncio.gather(*(asked(api, answer.path, answer.stamp) for answer in some))
        assert list(again) == some


async def test_every_answer_is_given_again_byte_for_byte(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url) as api:
        recorded = await recorded_life(api)
        assert len({answer.stamp.split(",")[0] for answer in recorded}) == 25
        await ask_again(api, recorded)
        await api.create()
        await ask_again(api, recorded[::-4])
    async with running_api(nats_url, database_url, prepared=True) as restarted:
        await ask_again(restarted, recorded[::7])
        async with (
            running_api(nats_url, database_url, prepared=True, run_projector=False) as other,
            without_database(other),
        ):
            await ask_again(other, recorded[::3])


@pytest.mark.long
async def test_an_answer_of_one_replica_is_given_by_another_at_once(nats_url: str, database_url: str) -> None:
    """Also before the other has heard of the commit, and while nobody writes rows."""
    async with (
        running_api(nats_url, database_url, run_projector=False, visible_seconds=0.01) as one,
        running_api(
            nats_url, database_url, prepared=True, run_projector=False, dispatching=False, visible_seconds=0.01
        ) as other,
    ):
        created = await one.create(tasks=TASKS)
        async for _ in live(one.dispatcher, created):
            for answer in await eventually_seen(one, created["id"]):
                assert await asked(other, answer.path, answer.stamp) == answer


async def eventually_seen(api: Running, orchestration_id: str) -> list[Answer]:
    last = await api.parts.reader.fold("default", orchestration_id)
    assert last is not None
    api.parts.reader._newest.note("default", orchestration_id, last.sequence)
    return await answers(api, orchestration_id)


@dataclass(frozen=True)
class Moment:
    sequence: int
    time: datetime


async def moments(api: Running, orchestration_id: str) -> list[Moment]:
    """The commits of an orchestration."""
    history = api.parts.history.commits("default", orchestration_id)
    found = [kept.decoded() async for kept in history]
    return [Moment(stored.sequence, stored.commit.recorded_at) for stored in found]


async def test_a_sequence_or_a_time_shows_what_was_there_by_then(api: Running) -> None:
    created = await api.create()
    await api.create(name="another, so that sequences have gaps")
    path = f"/api/orchestrations/{created['id']}"
    await api.http.post(f"{path}/activate")
    first, second = await moments(api, created["id"])
    assert second.sequence == first.sequence + 2

    async def status(at: str) -> tuple[str, int]:
        found = (await api.http.get(path, params={"at": at})).json()
        return found["orchestration"]["status"], found["statistics"]["duration"]

    for at in (first.sequence, first.sequence + 1):
        assert await status(str(at)) == ("PENDING", 0)
    assert await status(str(second.sequence)) == ("ACTIVE", 0)
    assert await status(first.time.isoformat()) == ("PENDING", 0)
    assert await status(second.time.isoformat().replace("+00:00", "Z")) == ("ACTIVE", 0)
    just_before = (second.time - timedelta(microseconds=1)).isoformat()
    assert await status(just_before) == ("PENDING", 0)
    elsewhere = second.time.astimezone(tz=datetime.fromisoformat("2026-01-01T00:00:00+05:30").tzinfo)
    assert await status(elsewhere.isoformat()) == ("ACTIVE", 0)
    later = second.time + timedelta(milliseconds=1234)
    assert await status(f"{second.sequence},{later.isoformat()}") == ("ACTIVE", 1234)
    assert await status(f"{first.sequence},{later.isoformat()}") == ("PENDING", 0)


async def test_what_was_asked_for_by_time_is_stamped_for_good(api: Running) -> None:
    created = await api.create(activate=True)
    path = f"/api/orchestrations/{created['id']}"
    (only,) = await moments(api, created["id"])
    await eventually(lambda: datetime.now(UTC) > only.time + timedelta(milliseconds=5))
    moment = (only.time + timedelta(milliseconds=5)).isoformat()
    answer = await asked(api, path, moment)
    assert answer.stamp == f"{only.sequence},{moment.replace('+00:00', 'Z')}"
    assert await asked(api, path, answer.stamp) == answer


async def test_before_it_existed_it_is_not_found(api: Running) -> None:
    created = await api.create()
    (only,) = await moments(api, created["id"])
    for rest in SHOWN:
        path = f"/api/orchestrations/{created['id']}{rest}"
        for at in ("0", str(only.sequence - 1), (only.time - timedelta(seconds=1)).isoformat()):
            error = error_of(await api.http.get(path, params={"at": at}), 404)
            assert error["code"] == "ORCHESTRATION_NOT_FOUND"
    nowhere = await api.http.get(f"/api/orchestrations/{NOWHERE}", params={"at": only.sequence})
    assert error_of(nowhere, 404)["code"] == "ORCHESTRATION_NOT_FOUND"


async def test_what_is_no_moment_of_the_past_is_refused(api: Running) -> None:
    created = await api.create()
    (only,) = await moments(api, created["id"])
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for rest in SHOWN:
        for at in (
            "",
            "nonsense",
            "-1",
            "1.5",
            "²",
            "9" * 30,
            str(only.sequence + 1000),
            soon,
            f"{only.sequence},{soon}",
            f"{only.sequence},",
            f",{only.time.isoformat()}",
            f"{only.time.isoformat()},{only.sequence}",
            "2026-11-01T12:00:00",
            "2026-11-01",
            "1" * 101,
        ):
            response = await api.http.get(f"/api/orchestrations/{created['id']}{rest}", params={"at": at})
            assert [field["field"] for field in error_of(response, 400)["metadata"]["fields"]] == ["at"], at
    typo = await api.http.get(f"/api/orchestrations/{created['id']}", params={"At": "1"})
    assert error_of(typo, 400)["metadata"]["fields"][0]["field"] == "At"


async def test_what_was_deleted_has_no_past(api: Running) -> None:
    created = await api.create()
    path = f"/api/orchestrations/{created['id']}"
    stamp = (await asked(api, path)).stamp
    await api.dispatcher.decide(created["id"], cmd.DeleteOrchestration())

    async def gone() -> bool:
        return (await api.http.get(path)).status_code == 404

    await eventually(gone)
    for rest in (*SHOWN, "/events", "/logs"):
        params = {"at": stamp} if rest in SHOWN else {}
        response = await api.http.get(path + rest, params=params)
        assert error_of(response, 404)["code"] == "ORCHESTRATION_NOT_FOUND"

"""A sweep that is asked for is answered, with its report or with the reason why there is none."""

from typing import cast

import psycopg
import pytest
from nats.aio.client import Client

from services.monitor.asked import AskedSweeps
from shared.cursor.errors import ProviderError
from shared.jetstream.errors import PublishUnavailableError
from shared.sweeping import Orphan, Settled, SweepAnswer, SweepReport, SweepRequest
from tests.unit.dispatcher.scripted import UNAVAILABLE
from tests.unit.monitor.sweeping import Sweeping, sweeping

LOOK = SweepRequest(team=None, dry_run=True).encode()


def asked(s: Sweeping) -> AskedSweeps:
    return AskedSweeps(cast(Client, None), s.sweeper)


async def test_the_report_is_the_answer() -> None:
    async with sweeping() as s:
        await s.give_up()
        agent_id = s.show()
        answer = SweepAnswer.decode((await asked(s).answer(LOOK)).encode())
        assert answer.report is not None
        assert [(orphan.agent_id, orphan.action) for orphan in answer.report.orphans] == [(agent_id, "would_stop")]
        assert answer.error_code is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.OperationalError("away, at 10.0.0.1"), "SERVICE_UNAVAILABLE"),
        (PublishUnavailableError("away, at 10.0.0.1"), "SERVICE_UNAVAILABLE"),
        (ProviderError("timeout", "no answer from 10.0.0.1"), "CURSOR_API_ERROR"),
        (RuntimeError("a defect at 10.0.0.1"), "INTERNAL_ERROR"),
    ],
)
async def test_what_went_wrong_is_said_without_what_is_nobodys_business(error: Exception, code: str) -> None:
    async with sweeping() as s:
        s.show()
        s.rows.error = error
        answer = await asked(s).answer(LOOK)
        assert (answer.report, answer.error_code) == (None, code)
        assert answer.error_message
        assert "10.0.0.1" not in answer.error_message


async def test_a_provider_that_refuses_the_list_is_named() -> None:
    async with sweeping() as s:
        s.provider.on_list = [UNAVAILABLE]
        answer = await asked(s).answer(LOOK)
        assert answer.error_message == "the list of agents could not be read (upstream_error)"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"team":7,"dry_run":true}', b'{"team":null,"dry_run":1}', b"\xff"]
)
async def test_a_request_that_is_none_starts_no_sweep(body: bytes) -> None:
    async with sweeping() as s:
        answer = await asked(s).answer(body)
        assert answer.error_code == "INTERNAL_ERROR"
        assert s.provider.pages == 0


def test_requests_and_answers_come_through_as_they_were_sent_also_with_more_in_them() -> None:
    for request in (SweepRequest("red", False), SweepRequest(None, True)):
        assert SweepRequest.decode(request.encode().replace(b"{", b'{"of_a_newer_release":1,', 1)) == request
    orphan = Orphan("bc-1", None, "RUNNING", "o", "a", "left")
    report = SweepReport(3, 2, 1, (orphan,), (Settled("a", "o", None, "put_back"),), dry_run=False)
    for answer in (SweepAnswer(report), SweepAnswer(None, "INTERNAL_ERROR", "no")):
        assert SweepAnswer.decode(answer.encode().replace(b"{", b'{"of_a_newer_release":1,')) == answer
    for body in (b"[]", b"{}", b'{"report":{},"error_code":null,"error_message":null}'):
        with pytest.raises(ValueError, match="not an answer"):
            SweepAnswer.decode(body)

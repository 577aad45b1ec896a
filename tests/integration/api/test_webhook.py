"""Webhooks of the provider: checked, stored, answered."""

import asyncio
import hashlib
import hmac
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from deploy.local.nats import NatsServer
from services.api import middleware
from services.api.routes import webhook
from shared.jetstream.topology import RECEIPTS
from shared.messages import Receipt
from shared.webhooks import WebhookKeys
from tests.integration.api.system import SECRET, Running, running_api
from tests.support.eventually import eventually

KEYS = WebhookKeys([SECRET])
BODY = b'{"event":"statusChange","id":"bc-1","status":"FINISHED", "summary":"\xc3\xbc"}'
PATH = "/api/cloud-agents/webhook"


def signature(body: bytes, attempt: str = "a1", keys: WebhookKeys = KEYS) -> str:
    return "sha256=" + hmac.new(keys.secret_for(attempt).encode(), body, hashlib.sha256).hexdigest()


async def post(
    api: Running,
    body: bytes = BODY,
    *,
    headers: dict[str, str] | None = None,
    attempt: str = "a1",
    keys: WebhookKeys = KEYS,
) -> httpx.Response:
    """As the provider does: with no key of ours."""
    sent = {"X-Webhook-Signature": signature(body)} if headers is None else headers
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, verify=False, timeout=60) as provider:
        token = keys.token_for("default", "o1", attempt)
        return await provider.post(PATH, params={"attempt": token}, content=body, headers=sent)


EVENT = {"X-Webhook-Event": "statusChange"}


def counted(status: str) -> float:
    """How many webhooks of this kind the metrics tell of."""
    return REGISTRY.get_sample_value("webhooks_received_total", {"event": "statusChange", "status": status}) or 0.0


async def receipts(api: Running) -> int:
    return (await api.runtime.nc.jsm().stream_info(RECEIPTS)).state.messages


async def test_a_signed_webhook_is_stored_as_it_came(api: Running) -> None:
    headers = {
        "X-Webhook-Signature": signature(BODY), "X-Webhook-ID": "d-1", "X-Webhook-Event": "statusChange",
        "Authorization": "Bearer something",
    }  # fmt: skip
    response = await post(api, headers=headers)
    assert (response.status_code, response.json()) == (202, {"received": True})
    stored = await api.runtime.nc.jsm().get_last_msg(RECEIPTS, "receipt.cursor")
    receipt = Receipt.decode(stored.data or b"")
    assert (receipt.team, receipt.orchestration_id, receipt.attempt_id) == ("default", "o1", "a1")
    assert receipt.body.encode() == BODY
    assert receipt.headers == {"x-webhook-id": "d-1", "x-webhook-event": "statusChange"}


async def test_the_older_header_is_taken_where_the_newer_one_is_absent(api: Running) -> None:
    assert (await post(api, headers={"X-Cursor-Signature": signature(BODY)})).status_code == 202
    both = {"X-Cursor-Signature": signature(BODY), "X-Webhook-Signature": "sha256=" + "0" * 64}
    assert (await post(api, headers=both)).status_code == 401


async def test_the_same_content_is_stored_once_whatever_its_delivery_id(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, webhooks_per_minute=60, webhook_burst=20) as api:
        before = counted("received")
        for index in range(100):
            headers = {"X-Webhook-Signature": signature(BODY), "X-Webhook-ID": f"d-{index}", **EVENT}
            assert (await post(api, headers=headers)).status_code == 202
        assert await receipts(api) == 1
        assert counted("received") - before == 100


async def test_the_same_content_for_another_attempt_is_another_webhook(api: Running) -> None:
    for attempt in ("a1", "a2"):
        headers = {"X-Webhook-Signature": signature(BODY, attempt)}
        assert (await post(api, headers=headers, attempt=attempt)).status_code == 202
    assert await receipts(api) == 2


async def test_everything_unsigned_gets_the_same_answer_and_is_not_stored(api: Running) -> None:
    answers: list[dict[str, Any]] = []
    good = signature(BODY)
    for headers in (
        {},
        {"X-Webhook-Signature": ""},
        {"X-Webhook-Signature": "sha256="},
        {"X-Webhook-Signature": good[:-1]},
        {"X-Webhook-Signature": good[7:]},
        {"X-Webhook-Signature": good.upper()},
        {"X-Webhook-Signature": signature(BODY, "a2")},
        {"X-Webhook-Signature": signature(BODY + b" ")},
    ):
        response = await post(api, headers=headers)
        assert response.status_code == 401
        answers.append(response.json()["error"])
    answers.append((await post(api, attempt="a2")).json()["error"])
    answers.append((await post(api, keys=WebhookKeys(["another-secret-that-is-long-enough-too"]))).json()["error"])
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, verify=False, timeout=60) as stranger:
        for query in ("", "?attempt=", "?attempt=nonsense"):
            response = await stranger.post(PATH + query, content=BODY, headers={"X-Webhook-Signature": good})
            assert response.status_code == 401
            answers.append(response.json()["error"])
    for answer in answers:
        answer["metadata"].pop("requestId")
        assert answer == {
            "code": "INVALID_SIGNATURE", "message": "the signature is not valid", "statusCode": 401, "metadata": {},
        }  # fmt: skip
    assert await receipts(api) == 0


@pytest.mark.parametrize("known", [True, False], ids=["with the address of an attempt", "without"])
async def test_who_sends_what_is_refused_waits_and_the_provider_does_not(
    nats_url: str, database_url: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    stranger, provider = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "203.0.113.9"}
    keys = KEYS if known else WebhookKeys(["another-secret-that-is-long-enough-too"])
    async with running_api(nats_url, database_url, webhooks_per_minute=1, webhook_burst=5) as api:
        before = counted("limited")
        sent = [
            post(api, headers={"X-Webhook-Signature": "sha256=0", **EVENT, **stranger}, keys=keys) for _ in range(8)
        ]
        answers = [await answer for answer in sent]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
        assert answers[-1].json()["error"]["code"] == "RATE_LIMIT_EXCEEDED"
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        assert counted("limited") - before == 3
        signed = {"X-Webhook-Signature": signature(BODY)}
        assert (await post(api, headers={**signed, **provider})).status_code == 202
        other = {"X-Webhook-Signature": signature(BODY, "a2"), **stranger}
        assert (await post(api, headers=other, attempt="a2")).status_code == 202


async def test_no_single_changed_byte_passes(api: Running) -> None:
    good = signature(BODY)
    for place in range(0, len(BODY), 7):
        changed = bytearray(BODY)
        changed[place] ^= 1
        assert (await post(api, bytes(changed), headers={"X-Webhook-Signature": good})).status_code == 401


async def test_a_webhook_may_have_a_quarter_of_a_mebibyte(api: Running) -> None:
    assert (await post(api, b"x" * 256 * 1024)).status_code == 202
    assert (await post(api, b"x" * (256 * 1024 + 1))).status_code == 413


async def begin(api: Running, head: str, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A webhook that is sent part by part, and never to its end."""
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    token = KEYS.token_for("default", "o1", "a1")
    writer.write(f"POST {PATH}?attempt={token} HTTP/1.1\r\nHost: api\r\n{head}\r\n\r\n".encode())
    for part in parts:
        writer.write(part)
    await writer.drain()
    return reader, writer


async def raw_answer(api: Running, head: str, *parts: bytes) -> int:
    """The status that is answered to such a webhook."""
    reader, writer = await begin(api, head, *parts)
    try:
        async with asyncio.timeout(30):
            return int((await reader.readuntil(b"\r\n")).split()[1])
    finally:
        writer.close()


async def test_one_that_tells_no_length_may_have_no_more_and_is_not_read_to_its_end(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_DRAIN_SECONDS", 0.1)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    status = await raw_answer(api, "Transfer-Encoding: chunked", *[chunk] * 4, b"1\r\nx\r\n")
    assert status == 413


async def test_one_that_tells_too_large_a_length_is_refused_before_it_comes(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_DRAIN_SECONDS", 0.1)
    status = await raw_answer(api, f"Content-Length: {256 * 1024 + 1}", b"x")
    assert status == 413


async def test_one_that_trickles_is_given_up(api: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_READ_SECONDS", 0.1)
    assert await raw_answer(api, "Content-Length: 10", b"{") == 408


async def test_who_leaves_before_the_end_counts_like_who_is_refused_and_is_no_failure_of_ours(
    nats_url: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_api(nats_url, database_url, webhooks_per_minute=1, webhook_burst=1) as api:
        before = counted("refused"), counted("failed")
        _, writer = await begin(api, "X-Webhook-Event: statusChange\r\nContent-Length: 10", b"{")
        writer.close()
        await eventually(lambda: counted("refused") == before[0] + 1)
        assert counted("failed") == before[1]
        assert "crashed" not in caplog.text
        assert (await post(api)).status_code == 429


async def test_a_secret_can_be_changed_while_agents_run(nats_url: str, database_url: str) -> None:
    new = "a-new-secret-for-tests-that-is-long-enough"
    async with running_api(nats_url, database_url, webhook_secret=new, webhook_secret_previous=SECRET) as api:
        assert (await post(api)).status_code == 202
        keys = WebhookKeys([new])
        response = await post(api, headers={"X-Webhook-Signature": signature(BODY, keys=keys)}, keys=keys)
        assert response.status_code == 202


async def test_what_cannot_be_stored_is_not_said_to_be_received(
    nats_url: str, database_url: str, nats: NatsServer
) -> None:
    async with running_api(nats_url, database_url, publish_seconds=0.5) as api:
        nats.kill()
        response = await post(api)
        assert response.status_code == 503
        assert "Retry-After" in response.headers
        nats.start()

        async def taken() -> bool:
            return (await post(api)).status_code == 202

        await eventually(taken)
        assert await receipts(api) == 1


async def test_a_webhook_waits_no_longer_for_the_broker_than_the_provider_does(
    nats_url: str, database_url: str, nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert webhook._STORE_SECONDS < 5
    monkeypatch.setattr(webhook, "_STORE_SECONDS", 0.3)
    async with running_api(nats_url, database_url, publish_seconds=60) as api:
        before = counted("failed")
        nats.kill()
        async with asyncio.timeout(20):
            response = await post(api, headers={"X-Webhook-Signature": signature(BODY), **EVENT})
        assert response.status_code == 503
        assert "Retry-After" in response.headers
        assert counted("failed") - before == 1
        nats.start()

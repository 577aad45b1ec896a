"""Webhooks of the provider: checked, stored, answered."""

import hashlib
import hmac
from typing import Any

import httpx

from deploy.local.nats import NatsServer
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
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as provider:
        token = keys.token_for("default", "o1", attempt)
        return await provider.post(PATH, params={"attempt": token}, content=body, headers=sent)


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


async def test_the_same_content_is_stored_once_whatever_its_delivery_id(api: Running) -> None:
    for index in range(20):
        headers = {"X-Webhook-Signature": signature(BODY), "X-Webhook-ID": f"d-{index}"}
        assert (await post(api, headers=headers)).status_code == 202
    assert await receipts(api) == 1


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
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as stranger:
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


async def test_no_single_changed_byte_passes(api: Running) -> None:
    good = signature(BODY)
    for place in range(0, len(BODY), 7):
        changed = bytearray(BODY)
        changed[place] ^= 1
        assert (await post(api, bytes(changed), headers={"X-Webhook-Signature": good})).status_code == 401


async def test_a_webhook_may_have_a_quarter_of_a_mebibyte(api: Running) -> None:
    assert (await post(api, b"x" * 256 * 1024)).status_code == 202
    assert (await post(api, b"x" * (256 * 1024 + 1))).status_code == 413


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

        await eventually(taken, timeout=20)
        assert await receipts(api) == 1

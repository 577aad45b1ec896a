"""What an error answer of the provider means, in each of the shapes it comes in."""

from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cursor.errors import ProviderError
from shared.cursor.refusals import is_gone, refusal
from tests.unit.cursor.scripted import (
    AGENT_ID,
    KEY,
    REQUEST,
    RUN_ID,
    SECRET,
    UNHURRIED,
    WITH_WEBHOOK,
    Script,
    Version,
    answer,
    error,
    provider,
    raw,
)

NOW = datetime(2026, 11, 5, 10, 30, tzinfo=UTC)
BOTH = pytest.mark.parametrize("version", ["v0", "v1"])


@dataclass(frozen=True)
class Row:
    """One row of what a create can be answered with, and what becomes of it."""

    status: int
    code: str
    message: str = "no"
    becomes: str | None = None
    retryable: bool = False
    outcome_known: bool = True
    billing: bool = False


ROWS = [
    *(
        Row(400, code)
        for code in (
            "validation_error",
            "missing_body",
            "invalid_model",
            "invalid_branch_name",
            "repository_required",
            "pr_resolution_failed",
        )
    ),
    Row(400, "validation_error", "Invalid model 'gpt-1'", becomes="invalid_model"),
    Row(400, "unknown_thing", "The models are fine"),
    Row(
        400,
        "validation_error",
        "Failed to verify existence of branch 'main'",
        becomes="repository_access",
    ),
    Row(400, "usage_limit_exceeded", "Usage-based pricing required", billing=True),
    Row(400, "validation_error", "Usage-based pricing required to go on", billing=True),
    Row(401, "unauthorized"),
    Row(401, "error", "Invalid User API Key", becomes="unauthorized"),
    Row(402, "unknown", "Payment required", becomes="usage_limit_exceeded", billing=True),
    Row(403, "plan_required", billing=True),
    Row(403, "unknown", "You reached your usage limit", becomes="usage_limit_exceeded", billing=True),
    Row(403, "unknown", "Your plan does not include this.", becomes="usage_limit_exceeded", billing=True),
    *(
        Row(403, code)
        for code in (
            "role_forbidden",
            "feature_unavailable",
            "repository_access",
            "service_account_required",
            "integration_not_connected",
        )
    ),
    Row(404, "agent_not_found"),
    Row(404, "run_not_found"),
    Row(404, "artifact_not_found"),
    Row(408, "unknown", retryable=True, outcome_known=False),
    Row(409, "agent_busy", retryable=True),
    Row(409, "agent_archived"),
    Row(409, "run_not_cancellable"),
    Row(410, "stream_expired"),
    Row(429, "rate_limit_exceeded", retryable=True),
    Row(429, "rate_limit_exceeded", "API usage limit of 10 a minute", retryable=True),
    Row(
        429,
        "rate_limit_exceeded",
        "You've used all included Cloud Agent usage",
        becomes="usage_limit_exceeded",
        billing=True,
    ),
    Row(
        429,
        "rate_limit_exceeded",
        "You’ve used all of your included usage",
        becomes="usage_limit_exceeded",
        billing=True,
    ),
    *(
        Row(status, code, retryable=True, outcome_known=False)
        for status, code in ((500, "internal_error"), (502, "upstream_error"), (503, "unknown"))
    ),
    Row(501, "not_implemented"),
    Row(307, "unknown", outcome_known=False),
]


@BOTH
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status}-{row.code}-{row.message[:20]}")
async def test_every_error_of_a_create_says_what_may_be_done_about_it(row: Row, version: Version) -> None:
    script = Script(error(row.status, row.code, row.message))

    refused = await refused_create(version, script)

    assert refused.status == row.status
    assert refused.code == (row.becomes or row.code)
    assert row.message in refused.message
    assert refused.retryable is row.retryable
    assert refused.outcome_known is row.outcome_known
    assert refused.billing is row.billing
    assert len(script.requests) == 1


async def refused_create(version: Version, script: Script) -> ProviderError:
    request = WITH_WEBHOOK if version == "v0" else REQUEST
    with pytest.raises(ProviderError) as caught:
        await provider(version, script).create(request)
    return caught.value


@BOTH
@pytest.mark.parametrize(
    ("response", "code", "message"),
    [
        (answer({"error": {"code": "role_forbidden", "message": "no"}}, 403), "role_forbidden", "no"),
        (answer({"error": "Too Many Requests", "message": "slow down"}, 429), None, "slow down"),
        (answer({"error": "Forbidden", "message": "not you"}, 403), "unknown", "not you"),
        (answer({"error": "some text"}, 400), "unknown", "some text"),
        (answer({"code": "error", "message": "Invalid User API Key"}, 401), "unauthorized", "Invalid User"),
        (answer({"code": "plan_required", "message": "flat"}, 403), "plan_required", "flat"),
        (answer({"error": "unauthorized"}, 401), "unauthorized", "unauthorized"),
        (answer("just a text", 400), "unknown", "just a text"),
        (answer(["a", "list"], 400), "unknown", "HTTP 400"),
        (answer(None, 400), "unknown", "HTTP 400"),
        (answer({"error": None}, 400), "unknown", "HTTP 400"),
        (answer({"error": {"code": 7, "message": ["x"]}}, 400), "unknown", "HTTP 400"),
        (answer({"error": {"code": "x y", "message": "odd code"}}, 400), "unknown", "odd code"),
        (raw(b"<html>Bad gateway</html>", 403), "unknown", "<html>Bad gateway</html>"),
        (raw(b"", 401), "unauthorized", "HTTP 401"),
        (raw(b"\xff\xfe\x00", 403), "unknown", "�"),
        (raw(b'{"error":{"code":"trunc', 403), "unknown", "trunc"),
        (raw(b"[" * 100_000, 403), "unknown", "[["),
    ],
    ids=str,
)
async def test_every_shape_of_an_error_is_read(
    response: httpx.Response, code: str | None, message: str, version: Version
) -> None:
    refused = await refused_create(version, Script(response))

    assert refused.code == (code or "rate_limit_exceeded")
    assert message in refused.message
    assert refused.outcome_known


async def test_the_link_that_helps_is_part_of_the_message() -> None:
    body = {
        "error": {
            "code": "integration_not_connected",
            "message": "Connect GitHub",
            "helpUrl": "https://cursor.com/dashboard",
            "provider": "github",
        }
    }

    refused = await refused_create("v1", Script(answer(body, 403)))

    assert refused.message == "Connect GitHub (see https://cursor.com/dashboard)"


async def test_a_missing_agent_is_told_as_such_whatever_the_answer_says() -> None:
    for body in (raw(b"gone", 404), error(404, "not_found"), error(404, "agent_not_found")):
        with pytest.raises(ProviderError) as caught:
            await provider("v1", Script(body)).get("bc-1", RUN_ID)
        assert (caught.value.code, caught.value.status) == ("agent_not_found", 404)


@BOTH
async def test_no_error_repeats_the_key_or_the_secret_of_a_webhook(version: Version) -> None:
    said = f"bad value {SECRET} from {KEY}"
    for response in (error(400, "validation_error", said), raw(said.encode(), 500)):
        refused = await refused_create(version, Script(response))
        assert KEY not in str(refused)
        if version == "v0":
            assert SECRET not in str(refused)
            assert "bad value *** from ***" in refused.message


async def test_a_long_message_is_cut_and_put_on_one_line() -> None:
    refused = await refused_create("v1", Script(error(400, "validation_error", "line\nbreak\x1b[31m" * 500)))

    assert len(refused.message) <= 500
    assert refused.message.isprintable()


async def test_a_throttle_tells_how_long_to_wait_but_a_billing_refusal_does_not() -> None:
    throttled = await refused_create("v1", Script(error(429, "rate_limit_exceeded", Retry_After="12")))
    for_a_day = await refused_create("v1", Script(error(429, "rate_limit_exceeded", Retry_After="86400")))
    used_up = await refused_create("v1", Script(error(429, "x_y", "You've used all included usage", Retry_After="12")))

    assert throttled.retry_after == 12.0
    assert for_a_day.retry_after == 900.0
    assert used_up.retry_after is None


@BOTH
@pytest.mark.parametrize("status", [404, 410])
async def test_an_agent_that_is_gone_is_known_by_the_status_alone(status: int, version: Version) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider(version, Script(raw(b"<html>Gone</html>", status))).get(AGENT_ID, None)

    assert is_gone(caught.value)


@UNHURRIED
@given(
    status=st.integers(300, 599),
    body=st.binary() | st.text().map(str.encode),
    header=st.text(),
    changes=st.booleans(),
)
def test_no_error_answer_is_beyond_understanding(status: int, body: bytes, header: str, changes: bool) -> None:
    refused = refusal(status, body, {"retry-after": header}, changes=changes, now=NOW)

    assert refused.status == status
    assert refused.message
    assert not (refused.billing and refused.retryable)
    assert refused.outcome_known or changes

"""What is done around every call: who asks, how long it may take, what is tried again, who is told."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.factory import connect
from tests.unit.cursor.scripted import (
    AGENT_ID,
    KEY,
    REQUEST,
    RUN_ID,
    Broken,
    Script,
    Version,
    answer,
    created,
    error,
    found,
    provider,
)

BOTH = pytest.mark.parametrize("version", ["v0", "v1"])


@dataclass
class Limiter:
    """Lets every call through until it is told not to, and keeps what it heard."""

    acquired: list[str] = field(default_factory=list)
    throttles: list[tuple[str, float]] = field(default_factory=list)
    refuses: bool = False

    async def acquire(self, endpoint: str) -> None:
        self.acquired.append(endpoint)
        if self.refuses:
            raise ProviderError("rate_limit_exceeded", "later", retryable=True, retry_after=60.0)

    async def throttled(self, endpoint: str, retry_after: float) -> None:
        self.throttles.append((endpoint, retry_after))


@BOTH
async def test_the_key_is_the_user_of_basic_authentication(version: Version) -> None:
    script = Script(found(version))

    await provider(version, script).get(AGENT_ID, RUN_ID)

    token = base64.b64encode(f"{KEY}:".encode()).decode()
    assert script.requests[0].headers["authorization"] == f"Basic {token}"


@pytest.mark.parametrize("key", ["", " ", "key\n", "a:b", "ключ", "a b"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        connect("v1", "https://api.cursor.example", key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        *("", "api.cursor.com", "ftp://api.cursor.com", "https://", "https://a:b@c", "http://[", "http://a:99999"),
        *("https://a?x=1", "https://a#b", "https://a b", "https://a/\n", " https://a"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        connect("v1", address, KEY)


@BOTH
async def test_an_address_may_end_in_a_slash_and_an_id_cannot_leave_its_place(version: Version) -> None:
    script = Script(found(version))
    client = connect(version, "https://proxy.example/cursor/", KEY, transport=httpx.MockTransport(script))

    await client.get("../me?x=/y", None if version == "v0" else RUN_ID)

    path = script.requests[0].url.raw_path.decode()
    assert path.startswith(f"/cursor/{version}/agents/..%2Fme%3Fx%3D%2Fy")


@BOTH
async def test_a_create_is_waited_for_long_enough_and_a_read_is_not(version: Version) -> None:
    script = Script(created(version), found(version))
    client = provider(version, script)

    await client.create(REQUEST)
    await client.get(AGENT_ID, RUN_ID)

    create, read = (request.extensions["timeout"] for request in script.requests)
    assert (create["connect"], read["connect"]) == (5.0, 5.0)
    assert create["read"] >= 120.0
    assert read["read"] == 30.0


NEVER_SENT = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout(""),
    httpx.PoolTimeout(""),
    httpx.ProxyError(""),
]
MAYBE_SENT = [
    httpx.ReadTimeout(""),
    httpx.WriteTimeout(""),
    httpx.ReadError(""),
    httpx.WriteError(""),
    httpx.CloseError(""),
    httpx.RemoteProtocolError("Server disconnected"),
    httpx.LocalProtocolError("Illegal header value b'Basic a2V5'"),
    ConnectionResetError(104, "reset"),
    TimeoutError(),
]


@BOTH
@pytest.mark.parametrize("failure", NEVER_SENT, ids=repr)
async def test_a_create_that_found_no_connection_made_nothing(failure: Exception, version: Version) -> None:
    refused = await failed_create(version, Script(failure))

    assert refused.outcome_known
    assert refused.retryable


@BOTH
@pytest.mark.parametrize("failure", MAYBE_SENT, ids=repr)
async def test_a_create_that_was_sent_and_not_answered_leaves_its_outcome_open(
    failure: Exception, version: Version
) -> None:
    script = Script(failure)

    refused = await failed_create(version, script)

    assert not refused.outcome_known
    assert refused.retryable
    assert len(script.requests) == 1


@pytest.mark.parametrize("failure", [*NEVER_SENT, *MAYBE_SENT], ids=repr)
async def test_what_broke_is_named_even_where_it_has_no_text_and_no_header_is_quoted(
    failure: Exception,
) -> None:
    refused = await failed_create("v1", Script(failure))

    is_timeout = isinstance(failure, httpx.TimeoutException | TimeoutError)
    assert refused.code == ("timeout" if is_timeout else "network_error")
    assert refused.message.startswith(f"{type(failure).__name__} in create_agent")
    shown = f"{refused} {refused.__cause__}"
    assert "Basic" not in shown
    assert "a2V5" not in shown


async def failed_create(version: Version, script: Script) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider(version, script).create(REQUEST)
    return caught.value


@BOTH
async def test_a_create_that_is_never_answered_ends_by_itself(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("shared.cursor.http._CREATE_TOTAL", 0.01)
    client = connect(version, "https://api.cursor.example", KEY, transport=httpx.MockTransport(never))

    with pytest.raises(ProviderError) as caught:
        await client.create(REQUEST)

    assert (caught.value.code, caught.value.outcome_known) == ("timeout", False)


@BOTH
async def test_a_read_with_all_its_tries_has_one_limit(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def never(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("shared.cursor.http._TOTAL", 0.01)
    client = connect(version, "https://api.cursor.example", KEY, transport=httpx.MockTransport(never))

    with pytest.raises(ProviderError) as caught:
        await client.get(AGENT_ID, RUN_ID)

    assert (caught.value.code, caught.value.retryable, asked) == ("timeout", True, 1)


@BOTH
@pytest.mark.parametrize(
    "trouble",
    [
        lambda: error(500, "internal_error"),
        lambda: error(503, "upstream_error"),
        lambda: httpx.ReadTimeout(""),
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.Response(200, stream=Broken(b'{"id"', httpx.ReadError("reset"))),
    ],
)
async def test_a_read_is_tried_three_times_with_growing_waits(
    trouble: Callable[[], httpx.Response | Exception], version: Version
) -> None:
    recovers = Script(trouble(), trouble(), found(version))
    await provider(version, recovers).get(AGENT_ID, RUN_ID)
    assert len(recovers.requests) == 3
    assert 0 <= recovers.waits[0] <= 0.5
    assert 0 <= recovers.waits[1] <= 1.0

    stays = Script(trouble(), trouble(), trouble())
    with pytest.raises(ProviderError) as caught:
        await provider(version, stays).get(AGENT_ID, RUN_ID)
    assert len(stays.requests) == 3
    assert caught.value.retryable
    assert caught.value.outcome_known


@BOTH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 429, 501])
async def test_a_read_that_was_refused_is_not_tried_again(status: int, version: Version) -> None:
    code = "not_implemented" if status == 501 else "no_matter"
    script = Script(error(status, code))

    with pytest.raises(ProviderError):
        await provider(version, script).get(AGENT_ID, RUN_ID)

    assert script.waits == []


async def test_a_wait_that_the_provider_asks_for_is_kept_if_short_and_left_to_the_caller_if_long() -> None:
    short = Script(error(503, "upstream_error", Retry_After="2"), found("v1"))
    await provider("v1", short).get(AGENT_ID, RUN_ID)
    assert short.waits == [2.0]

    long = Script(error(503, "upstream_error", Retry_After="30"))
    with pytest.raises(ProviderError) as caught:
        await provider("v1", long).get(AGENT_ID, RUN_ID)
    assert caught.value.retry_after == 30.0


@BOTH
async def test_a_stop_is_sent_once(version: Version) -> None:
    script = Script(error(500, "internal_error"))

    with pytest.raises(ProviderError) as caught:
        await provider(version, script).stop(AGENT_ID, RUN_ID)

    assert (caught.value.retryable, caught.value.outcome_known) == (True, False)


@BOTH
async def test_the_limiter_is_asked_before_every_exchange_and_told_of_every_throttle(
    version: Version,
) -> None:
    limiter = Limiter()
    script = Script(
        error(429, "rate_limit_exceeded", Retry_After="7"),
        error(503, "upstream_error"),
        error(429, "rate_limit_exceeded"),
        error(429, "rate_limit_exceeded", "You've used all included Cloud Agent usage"),
    )
    client = provider(version, script, limiter=limiter)

    for call in (client.create(REQUEST), client.get(AGENT_ID, RUN_ID), client.create(REQUEST)):
        with pytest.raises(ProviderError):
            await call

    assert limiter.acquired == ["create", "get", "get", "create"]
    assert limiter.throttles == [("create", 7.0), ("get", 5.0)]


async def test_too_many_streams_hold_back_streams_and_no_reads() -> None:
    limiter = Limiter()
    client = provider("v1", Script(error(429, "rate_limit_exceeded", Retry_After="60")), limiter=limiter)
    with pytest.raises(ProviderError):
        await anext(client.stream(AGENT_ID, RUN_ID))
    assert (limiter.acquired, limiter.throttles) == (["get"], [("stream", 60.0)])


async def test_the_limiter_is_asked_by_the_class_of_the_call() -> None:
    limiter = Limiter()
    stream = httpx.Response(200, headers={"Content-Type": "text/event-stream"})
    v1 = provider("v1", Script(stream, answer({})), limiter=limiter)
    v0 = provider("v0", Script(answer({"agents": []})), limiter=limiter)

    assert [event async for event in v1.stream(AGENT_ID, RUN_ID)] == []
    await v1.stop(AGENT_ID, RUN_ID)
    await v0.find(REQUEST, since=datetime.now(UTC))

    assert limiter.acquired == ["get", "get", "list"]


@BOTH
async def test_nothing_is_sent_without_permission(version: Version) -> None:
    script = Script()
    client = provider(version, script, limiter=Limiter(refuses=True))

    for call in (client.create(REQUEST), client.get(AGENT_ID, RUN_ID), client.stop(AGENT_ID, RUN_ID)):
        with pytest.raises(ProviderError) as caught:
            await call
        assert caught.value.retry_after == 60.0
        assert caught.value.outcome_known


async def test_every_exchange_is_observed_by_a_name_that_holds_no_id() -> None:
    seen: list[tuple[str, int | str]] = []

    def observe(endpoint: str, status: int | str, seconds: float) -> None:
        assert seconds >= 0
        seen.append((endpoint, status))

    models = answer({"items": []})
    script = Script(created("v1"), error(503, "x_y"), httpx.ReadTimeout(""), found("v1"), error(409, "x_y"), models)
    client = provider("v1", script, observe=observe)

    await client.create(REQUEST)
    await client.get(AGENT_ID, RUN_ID)
    with pytest.raises(ProviderError):
        await client.stop(AGENT_ID, RUN_ID)
    await client.models()

    assert seen == [
        ("create_agent", 201),
        ("get_agent", 503),
        ("get_agent", "timeout"),
        ("get_agent", 200),
        ("stop_agent", 409),
        ("models", 200),
    ]

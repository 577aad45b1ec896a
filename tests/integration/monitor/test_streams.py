"""Streams on a real broker and the simulated provider: one to each agent, open from its launch, and told at once."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from deploy.local.nats import NatsServer
from services.monitor.claims import BrokerClaims
from services.monitor.crowd import Crowd
from shared.domain.events import AgentStatusChanged, OrchestrationStatus
from shared.envelope import encode
from shared.jetstream.connection import close, connect
from shared.jetstream.event_log import JetStreamEventLog
from shared.messages import Progress
from tests.integration.dispatcher.system import NO_POLLS, TEAM, System, system, task
from tests.simulator.serving import FOREVER
from tests.support.eventually import eventually

STREAM = "GET /v1/agents/{id}/runs/{runId}/stream"
LIST = "GET /v1/agents"
READ = "GET /v1/agents/{id}/runs/{runId}"


async def calls(s: System, name: str) -> int:
    return int((await s.stats())["calls"].get(name, 0))


async def told_by(s: System, orchestration: str) -> list[str]:
    """How each end of an agent was learned of."""
    events = await s.events(orchestration)
    return [e.source for e in events if isinstance(e, AgentStatusChanged) and e.status.is_terminal]


async def test_an_end_is_seen_at_once_without_a_poll(nats: NatsServer) -> None:
    async with system(nats, monitor=NO_POLLS, duration_seconds=1) as s:
        orchestration = await s.submit(task("a"))
        assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED
        assert await told_by(s, orchestration) == ["stream"]
        attempt = (await s.state(orchestration)).tasks["a"].attempts[-1]
        assert attempt.started_at is not None
        assert attempt.ended_at is not None
        # The run takes a second; what is beyond that is mostly the load of the machine.
        assert attempt.ended_at - attempt.started_at < timedelta(seconds=15)
        assert await calls(s, STREAM) == 1


@pytest.mark.parametrize("fault", ["stream_unavailable=3", "stream_cut=2"])
async def test_a_stream_that_is_not_there_yet_or_breaks_is_opened_again_and_tells_the_end(
    nats: NatsServer, fault: str
) -> None:
    async with system(nats, monitor=NO_POLLS, duration_seconds=3) as s:
        orchestration = await s.submit(task("a", marker=f"[[sim:{fault}]]"))
        assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED
        assert await told_by(s, orchestration) == ["stream"]
        assert await calls(s, STREAM) == int(fault[-1]) + 1


@pytest.mark.parametrize("fault", ["stream_expired", "stream_silent"])
async def test_where_a_stream_tells_nothing_the_poll_sees_the_end(nats: NatsServer, fault: str) -> None:
    async with system(nats, monitor={"poll_interval_seconds": 0.3}) as s:
        orchestration = await s.submit(task("a", marker=f"[[sim:{fault}]] {FOREVER}"))
        await eventually(lambda: is_followed(s, 1))
        polled = await calls(s, READ)
        await eventually(lambda: was_polled(s, polled + 3))
        await s.finish((await s.state(orchestration)).tasks["a"].attempts[-1].agent_id or "")
        assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED
        assert await told_by(s, orchestration) == ["poll"]
        assert await calls(s, STREAM) == 1


@pytest.fixture
def patient_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still for some seconds is not taken for one that follows nothing."""
    monkeypatch.setattr("services.monitor.claims._ANSWER_SECONDS", 15)


@pytest.mark.usefixtures("patient_claims")
async def test_an_agent_has_one_stream_however_many_monitors_there_are(nats: NatsServer) -> None:
    async with system(nats, monitors=3, monitor={"poll_interval_seconds": 0.1}) as s:
        await s.submit(task("a", marker="[[sim:slow=600]]"))

        async def was_polled_by_all_of_them() -> bool:
            return await calls(s, READ) >= 20

        await eventually(was_polled_by_all_of_them, timeout=30)
        assert await calls(s, STREAM) < 3  # two at most: where a machine is so slow that both asked at the same moment


async def test_streams_and_polls_keep_to_the_limit_that_all_share(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polls have room for one agent and not for three: the list of agents tells whom to look at."""
    monkeypatch.setattr("services.monitor.app.Crowd", partial(Crowd, every=0.1))
    async with system(nats, monitor={"get_rate_per_minute": 400}) as s:
        tasks = [task(f"t{number}", number, marker="[[sim:slow=600]]") for number in range(3)]
        await s.submit(*tasks, execution_mode="parallel", max_parallel=3)

        async def were_followed() -> None:
            assert await calls(s, STREAM) == 3
            assert await calls(s, LIST) > 0

        await eventually(were_followed, timeout=30)
        assert float((await s.nc.jsm().get_last_msg("KV_limits", "$KV.limits.stream")).data or b"") > 0


@pytest.mark.usefixtures("patient_claims")
async def test_a_stream_goes_to_another_monitor_when_the_one_that_follows_it_is_killed(nats: NatsServer) -> None:
    async with system(nats, monitors=0) as s, a_monitor_of_its_own(s) as follower:
        await s.submit(task("a", marker="[[sim:slow=600]]"))
        await eventually(lambda: is_followed(s, 1), timeout=90)
        async with s.monitor():
            polled = await calls(s, READ)
            await eventually(lambda: was_polled(s, polled + 5), timeout=30)
            assert await calls(s, STREAM) == 1
            follower.kill()
            await eventually(lambda: is_followed(s, 2), timeout=90)


async def is_followed(s: System, times: int) -> bool:
    return await calls(s, STREAM) == times


async def was_polled(s: System, times: int) -> bool:
    return await calls(s, READ) >= times


@asynccontextmanager
async def a_monitor_of_its_own(s: System) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that can be killed."""
    environment = {
        **os.environ,
        "NATS_URL": s.nats.url,
        "ALLOW_WEAK_DURABILITY": "true",
        "CURSOR_API_URL": str(s.provider.base_url).rstrip("/"),
        "CURSOR_API_KEY": "key",
        "POLL_INTERVAL_SECONDS": "0.3",
        "GET_RATE_PER_MINUTE": "0",
        "HEALTH_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.monitor", env=environment)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_what_an_agent_is_at_is_told_as_it_goes_and_is_kept_nowhere(nats: NatsServer) -> None:
    async with system(nats, monitor=NO_POLLS, duration_seconds=40) as s:
        heard: list[tuple[str, Progress]] = []

        async def on_progress(message: Msg) -> None:
            heard.append((message.subject, Progress.decode(message.data)))

        await s.nc.subscribe("progress.>", cb=on_progress)
        orchestration = await s.submit(task("a"))
        await eventually(lambda: heard)
        attempt = (await s.state(orchestration)).tasks["a"].attempts[-1]
        await s.finish(attempt.agent_id or "")
        await s.ended(orchestration)
        assert {subject for subject, _ in heard} == {f"progress.{TEAM}.{orchestration}"}
        assert {progress.attempt_id for _, progress in heard} == {attempt.attempt_id}
        assert all(progress.tool or progress.text for _, progress in heard)
        log = await JetStreamEventLog(s.nc).read(TEAM, orchestration)
        words = {word for _, progress in heard for word in (progress.tool, progress.text) if word}
        told = [orjson.dumps(word)[1:-1] for word in words]
        assert not [stored for stored in log for word in told if word in encode(stored.commit)]


@asynccontextmanager
async def connection(nats: NatsServer) -> AsyncIterator[Client]:
    nc = await connect(nats.url, "test", within=10)
    try:
        yield nc
    finally:
        await close(nc)


async def is_free(claim: str, nc: Client) -> bool:
    async with BrokerClaims(nc).held(claim) as is_ours:
        return is_ours


async def is_claimed(claim: str, nc: Client) -> bool:
    return not await is_free(claim, nc)


@pytest.mark.usefixtures("patient_claims")
async def test_a_claim_is_one_process_s_until_it_gives_it_back(nats: NatsServer) -> None:
    async with connection(nats) as ours, connection(nats) as theirs:
        async with BrokerClaims(ours).held("a") as is_ours, BrokerClaims(ours).held("b") as is_ours_too:
            assert (is_ours, is_ours_too) == (True, True)
            # What one connection has told the broker is known to another a moment later.
            await eventually(lambda: is_claimed("b", theirs))
            for claim in ("a", "b", "a"):
                assert await is_claimed(claim, theirs)
            assert await is_free("c", theirs)
        await ours.flush()  # or the broker would still ask there
        await eventually(lambda: is_free("a", theirs))


async def test_a_claim_goes_with_the_process_that_had_it(nats: NatsServer) -> None:
    async with connection(nats) as survivor:
        async with connection(nats) as doomed:
            held = BrokerClaims(doomed).held("a")
            assert await held.__aenter__()
            await eventually(lambda: is_claimed("a", survivor))
        await eventually(lambda: is_free("a", survivor))


async def test_a_claim_of_a_process_that_stands_still_is_none(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitor.claims._ANSWER_SECONDS", 0.05)
    async with connection(nats) as stuck, connection(nats) as other:
        asked = []

        async def take_no_notice(message: Msg) -> None:
            asked.append(message.subject)

        await stuck.subscribe("monitor.follows.a", cb=take_no_notice)

        async def is_free_though_somebody_was_asked() -> bool:
            return await is_free("a", other) and bool(asked)

        await eventually(is_free_though_somebody_was_asked)


async def test_a_claim_that_is_left_while_the_broker_is_away_does_not_come_back_with_it(nats: NatsServer) -> None:
    """Else nobody would open the stream again: its own process would still answer that it does."""
    async with connection(nats) as nc:
        async with BrokerClaims(nc).held("a") as is_ours:
            assert is_ours
            nats.kill()
            await eventually(lambda: not nc.is_connected)
        await asyncio.to_thread(nats.start)
        await eventually(lambda: nc.is_connected, timeout=30)
        await eventually(lambda: is_free("a", nc))


async def test_nothing_can_be_claimed_while_nobody_can_be_asked(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever loses the broker for a moment would follow what others do, and go on with it."""
    monkeypatch.setattr("services.monitor.claims._ANSWER_SECONDS", 0.05)
    async with connection(nats) as nc:
        nats.kill()
        await eventually(lambda: not nc.is_connected)
        assert await is_claimed("a", nc)
        await asyncio.to_thread(nats.start)
        await eventually(lambda: nc.is_connected, timeout=30)
        assert await is_free("a", nc)

"""A provider that is down for a while: it is left alone, and when it is back every attempt gets its one agent."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from deploy.local.nats import NatsServer
from deploy.local.simulator import SimulatorSettings, create_app
from shared.cursor.provider import ApiVersion
from shared.domain.commands import CancelOrchestration
from shared.domain.events import OrchestrationStatus
from tests.integration.dispatcher.system import System, system, task
from tests.simulator.serving import QUICK, bound_socket, client_of, faults, serving, struck
from tests.support.eventually import eventually

both = pytest.mark.parametrize("version", ["v0", "v1"])

TASKS = 16
ALL_AT_ONCE: dict[str, Any] = {"execution_mode": "parallel", "failure_policy": "continue"}
LEFT_ALONE_SECONDS = 0.5
DISPATCHER: dict[str, Any] = {"max_concurrent_agents": TASKS, "cursor_breaker_seconds": LEFT_ALONE_SECONDS}


def is_left_alone() -> bool:
    """As the dispatcher has it, which was made last."""
    return bool(REGISTRY.get_sample_value("cursor_api_breaker_open"))


def creates_sent() -> float:
    calls = REGISTRY.collect()
    samples = (sample for metric in calls if metric.name == "cursor_api_calls" for sample in metric.samples)
    return sum(s.value for s in samples if s.name.endswith("_total") and s.labels["endpoint"] == "create_agent")


async def each_attempt_got_its_agent(s: System, orchestration: str) -> None:
    state = await s.ended(orchestration)
    assert state.status is OrchestrationStatus.COMPLETED
    assert [len(found.attempts) for found in state.tasks.values()] == [1] * TASKS
    assert [found.retry_count for found in state.tasks.values()] == [0] * TASKS
    assert sorted((await s.stats())["creates_by_attempt"].values()) == [1] * TASKS
    await s.at_rest()


@asynccontextmanager
async def away_at_first(nats: NatsServer, version: ApiVersion) -> AsyncIterator[tuple[System, Any]]:
    """A system whose provider is served once what comes with it is entered."""
    bound = bound_socket()
    there = {"cursor_api_url": f"http://127.0.0.1:{bound.getsockname()[1]}"}
    async with system(nats, version, dispatcher={**DISPATCHER, **there}, monitor=there) as s:
        yield s, serving(create_app(SimulatorSettings(**QUICK)), bound)


@both
async def test_who_finds_nobody_there_leaves_it_at_a_few_tries_and_fails_nothing(
    nats: NatsServer, version: ApiVersion
) -> None:
    async with away_at_first(nats, version) as (s, provider):
        before, began = creates_sent(), time.monotonic()
        orchestration = await s.submit(*(task(f"{version}-{n}", n) for n in range(TASKS)), **ALL_AT_ONCE)
        await eventually(is_left_alone)
        seen = creates_sent()
        await eventually(lambda: creates_sent() >= seen + 2, interval=0.005)  # trials
        assert creates_sent() - before <= TASKS + (time.monotonic() - began) / LEFT_ALONE_SECONDS
        with provider as url:
            async with client_of(url) as s.provider:
                await each_attempt_got_its_agent(s, orchestration)
        assert not is_left_alone()


async def test_one_that_answers_with_errors_sees_few_requests(nats: NatsServer) -> None:
    async with system(nats, "v1", dispatcher=DISPATCHER) as s:
        await faults(s.provider, create_error_before=True)
        began = time.monotonic()
        orchestration = await s.submit(*(task(f"failing-{n}", n) for n in range(TASKS)), **ALL_AT_ONCE)
        await eventually(is_left_alone)
        seen = (await struck(s.provider))["create_error_before"]

        async def trials() -> None:
            assert (await struck(s.provider))["create_error_before"] >= seen + 2

        await eventually(trials)
        most = TASKS + (time.monotonic() - began) / LEFT_ALONE_SECONDS
        assert (await struck(s.provider))["create_error_before"] <= most
        await faults(s.provider)
        await each_attempt_got_its_agent(s, orchestration)
        assert not is_left_alone()


@both
async def test_an_agent_that_is_to_stop_is_told_so_when_the_provider_is_back(
    nats: NatsServer, version: ApiVersion
) -> None:
    async with system(nats, version) as s:
        orchestration = await s.submit(task(f"stopped-{version}", marker="[[sim:slow=600]]"))

        async def runs() -> None:
            assert (await s.stats())["running"] == 1
            assert (await s.state(orchestration)).tasks[f"stopped-{version}"].attempts[-1].status == "RUNNING"

        await eventually(runs)
        await faults(s.provider, read_error=True, stop_error_before=True)
        await s.do(orchestration, CancelOrchestration())

        async def many() -> None:
            assert sum((await struck(s.provider)).values()) >= 7

        await eventually(many)
        assert (await s.state(orchestration)).status is OrchestrationStatus.CANCELLING
        await faults(s.provider)
        assert (await s.ended(orchestration)).status is OrchestrationStatus.CANCELLED
        assert (await s.stats())["running"] == 0
        await s.at_rest()

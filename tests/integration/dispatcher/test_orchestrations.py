"""Orchestrations from the command to the end: real broker, real services, simulated provider."""

import asyncio
import uuid

import pytest

from deploy.local.nats import NatsServer
from shared.cursor.provider import ApiVersion
from shared.domain.events import AgentStatusChanged, OrchestrationStatus, TaskStatus
from tests.integration.dispatcher.system import NO_POLLS, System, system, task
from tests.simulator.serving import json_of
from tests.support.eventually import eventually

both: pytest.MarkDecorator = pytest.mark.parametrize("version", ["v0", "v1"])
C, F, X = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED


def unique(name: str) -> str:
    """Ids of tasks are unique over all orchestrations."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


async def creates(s: System) -> list[int]:
    """How many agents each task got."""
    return sorted((await s.stats())["creates_by_prompt"].values())


@both
async def test_three_tasks_run_to_the_end_one_after_the_other(nats: NatsServer, version: ApiVersion) -> None:
    async with system(nats, version) as s:
        state = await s.ended(await s.submit(*(task(name, place) for place, name in enumerate("abc"))))
        assert state.status is OrchestrationStatus.COMPLETED
        assert state.summary == "All 3 tasks completed successfully"
        for found in state.tasks.values():
            assert found.status is C
            assert found.result is not None
            assert found.result.branch
            assert found.result.summary
        assert await creates(s) == [1, 1, 1]
        assert (await s.stats())["max_running"] == 1
        await s.at_rest()


async def test_on_v1_an_end_is_seen_by_the_stream_without_a_poll(nats: NatsServer) -> None:
    async with system(nats, "v1", monitor=NO_POLLS) as s:
        orchestration = await s.submit(task("a"))
        state = await s.ended(orchestration)
        assert state.status is OrchestrationStatus.COMPLETED
        ends = [e for e in await s.events(orchestration) if isinstance(e, AgentStatusChanged) and e.status.is_terminal]
        assert [end.source for end in ends] == ["stream"]


@both
async def test_an_agent_that_fails_is_tried_again_when_its_timer_fires(nats: NatsServer, version: ApiVersion) -> None:
    async with system(nats, version) as s:
        state = await s.ended(await s.submit(task("a", marker="[[sim:fail=1]]"), task("b", 1)))
        assert state.status is OrchestrationStatus.COMPLETED
        assert state.tasks["a"].retry_count == 1
        assert [attempt.number for attempt in state.tasks["a"].attempts] == [1, 2]
        assert await creates(s) == [1, 2]
        await s.at_rest()


async def test_retries_that_are_due_at_different_times_all_come(nats: NatsServer) -> None:
    async with system(nats, "v1") as s:
        tasks = [task(f"t{n}", n, marker=f"[[sim:fail={n % 4}]]") for n in range(8)]
        spec = {"execution_mode": "parallel", "failure_policy": "continue"}
        state = await s.ended(await s.submit(*tasks, **spec))
        assert state.status is OrchestrationStatus.COMPLETED
        assert await creates(s) == sorted(n % 4 + 1 for n in range(8))
        await s.at_rest()


@both
async def test_under_fail_fast_what_runs_is_stopped_and_the_rest_is_cancelled(
    nats: NatsServer, version: ApiVersion
) -> None:
    async with system(nats, version) as s:
        state = await s.ended(
            await s.submit(
                task("fails", 0, marker="[[sim:fail]]", max_retries=0),
                task("runs", 1, marker="[[sim:slow=600]]"),
                task("waits", 2, depends_on=("runs",)),
                execution_mode="parallel",
                failure_policy="fail_fast",
            )
        )
        assert state.status is OrchestrationStatus.FAILED
        assert [found.status for found in state.tasks.values()] == [F, X, X]
        assert (await s.stats())["running"] == 0
        assert await creates(s) == [1, 1]
        await s.at_rest()


async def test_under_continue_the_others_go_on(nats: NatsServer) -> None:
    async with system(nats, "v1") as s:
        state = await s.ended(
            await s.submit(
                task("fails", 0, marker="[[sim:fail]]", max_retries=1),
                task("never", 1, depends_on=("fails",)),
                task("goes on", 2),
                failure_policy="continue",
            )
        )
        assert state.status is OrchestrationStatus.PARTIAL_COMPLETED
        assert [found.status for found in state.tasks.values()] == [F, X, C]
        assert await creates(s) == [1, 2]
        await s.at_rest()


@both
@pytest.mark.parametrize(
    ("code", "failure"),
    [("usage_limit_exceeded", "QUOTA_EXCEEDED"), ("invalid_model", "INVALID_MODEL")],
)
async def test_a_refusal_ends_the_orchestration_at_once(
    nats: NatsServer, version: ApiVersion, code: str, failure: str
) -> None:
    async with system(nats, version) as s:
        state = await s.ended(await s.submit(task("a", marker=f"[[sim:refuse={code}]]"), task("b", 1)))
        assert state.status is OrchestrationStatus.FAILED
        assert state.tasks["a"].failure is not None
        assert state.tasks["a"].failure.code == failure
        assert (await s.stats())["creates"] == 0
        await s.at_rest()


@both
async def test_two_dispatchers_and_two_monitors_make_one_agent_for_each_attempt(
    nats: NatsServer, version: ApiVersion
) -> None:
    size = {"max_concurrent_agents": 4}
    async with system(nats, version, dispatchers=2, monitors=2, dispatcher=size) as s:
        spec = {"execution_mode": "parallel", "failure_policy": "continue"}
        orchestrations = await asyncio.gather(
            *(
                s.submit(*(task(unique("t"), n, marker="[[sim:fail=1]]" if n == 3 else "") for n in range(6)), **spec)
                for _ in range(3)
            )
        )
        for orchestration in orchestrations:
            state = await s.ended(orchestration)
            assert state.status is OrchestrationStatus.COMPLETED
            started = [event.type for event in await s.events(orchestration)].count("attempt.started")
            assert started == sum(len(found.attempts) for found in state.tasks.values())
        attempts = [len(t.attempts) for o in orchestrations for t in (await s.state(o)).tasks.values()]
        stats = await s.stats()
        assert stats["creates"] == sum(attempts)
        assert stats["max_running"] <= 4
        await s.at_rest()


async def test_no_more_agents_run_than_there_are_slots_over_all_orchestrations(nats: NatsServer) -> None:
    first_two_stay = {"slow": {"count": 2, "seconds": 600}}
    size = {"max_concurrent_agents": 2}
    async with system(nats, dispatchers=2, dispatcher=size, duration_seconds=0.2, faults=first_two_stay) as s:
        orchestrations = await asyncio.gather(
            *(s.submit(*(task(unique("t"), n) for n in range(4)), execution_mode="parallel") for _ in range(4))
        )

        async def two_are_at_work() -> None:
            assert (await s.stats())["running"] == 2

        await eventually(two_are_at_work)
        for agent in json_of(await s.provider.get("/_sim/agents"))["agents"]:
            await s.finish(agent["id"])
        for orchestration in orchestrations:
            assert (await s.ended(orchestration)).status is OrchestrationStatus.COMPLETED
        stats = await s.stats()
        assert stats["creates"] == 16
        assert stats["max_running"] == 2
        await s.at_rest()


@both
async def test_a_dispatcher_that_ends_in_the_middle_of_a_create_leaves_no_second_agent_behind(
    nats: NatsServer, version: ApiVersion
) -> None:
    ending = {"stop_seconds": 0.1, "create_settle_seconds": 5}
    async with system(nats, version, dispatchers=0, dispatcher=ending, duration_seconds=3) as s:
        async with s.dispatcher():
            orchestration = await s.submit(task("a", marker="[[sim:create_hang=1]]"))

            async def under_way() -> bool:
                return bool((await s.stats())["creates"] == 1)

            await eventually(under_way)
        assert [event.type for event in await s.events(orchestration)].count("agent.created") == 0
        async with s.dispatcher():
            state = await s.ended(orchestration)
        assert state.status is OrchestrationStatus.COMPLETED
        assert len(state.tasks["a"].attempts) == 1
        assert await creates(s) == [1]


async def test_an_orchestration_is_created_once(nats: NatsServer) -> None:
    async with system(nats, "v1") as s:
        orchestration = await s.submit(task("a"))
        await s.ended(orchestration)
        before = await s.events(orchestration)
        answer = await s.ask(orchestration, task("a"))
        assert answer.error_code == "INVALID_STATE_TRANSITION"
        assert await s.events(orchestration) == before

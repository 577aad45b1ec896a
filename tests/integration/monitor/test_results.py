"""What comes late is found, what never comes is not waited for ever, and who is gone is given up: on a real broker."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.local.nats import NatsServer
from services.monitor.crowd import Crowd
from shared.cursor.provider import ApiVersion
from shared.domain.events import AttemptResultAwaited, OrchestrationStatus, TaskStatus
from shared.ending import end
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.connection import close, connect
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.topology import WATCH, TopologySettings, watch_subject
from tests.integration.dispatcher.system import System, system, task
from tests.support.eventually import eventually


@pytest.fixture(params=["v0", "v1"])
async def s(request: pytest.FixtureRequest, nats: NatsServer) -> AsyncIterator[System]:
    """The poll comes too rarely to find anything in time: a message of its own looks for what is missing."""
    version: ApiVersion = request.param
    monitor = {"result_grace_seconds": 3, "lost_after_seconds": 0.6, "poll_first_seconds": 0.4}
    async with system(nats, version, monitor=monitor) as running_system:
        yield running_system


async def test_an_agent_s_task_is_judged_by_what_it_leaves_behind_in_the_end(s: System) -> None:
    orchestration = await s.submit(
        task("late", marker="[[sim:pr_late=1]] [[sim:usage_late=1]]"),
        task("never", 1, marker="[[sim:nochange]]", max_retries=0),
        task("gone", 2, marker="[[sim:vanish=0]] [[sim:slow=600]]", max_retries=0),
        execution_mode="parallel",
        failure_policy="continue",
        deliverable="pr",
    )
    state = await s.ended(orchestration)
    assert state.status is OrchestrationStatus.PARTIAL_COMPLETED
    late = state.tasks["late"]
    assert late.result is not None
    assert (late.status, late.result.pr_url is not None, late.retry_count) == (TaskStatus.COMPLETED, True, 0)
    assert (late.attempts[0].usage is not None) == (s.version == "v1")
    codes = {name: task.failure.code for name, task in state.tasks.items() if task.failure}
    assert codes == {"never": "DELIVERABLE_MISSING", "gone": "AGENT_LOST"}
    awaited = [e.task_id for e in await s.events(orchestration) if isinstance(e, AttemptResultAwaited)]
    assert "never" in awaited
    await s.at_rest()


async def test_the_crowd_is_as_many_as_are_watched(nats: NatsServer) -> None:
    nc = await connect(nats.url, "test", within=10)
    await bootstrap(nc, TopologySettings())
    crowd = Crowd(nc, every=0.05)
    counting = asyncio.create_task(crowd.keep_counting())
    for number in range(3):
        subject = watch_subject("v1", f"attempt-{number}")
        await JetStreamPublisher(nc).publish(subject, b"{}", stream=WATCH, msg_id=subject)
    await eventually(lambda: crowd.size == 3)
    await end(counting)
    await close(nc)

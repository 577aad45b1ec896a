"""What the provider refuses and what it keeps, met by real services: models, accounts, agents that are put away."""

import uuid

import pytest

from deploy.local.nats import NatsServer
from shared.cursor.provider import ApiVersion
from shared.domain.commands import FollowUp
from shared.domain.events import OrchestrationStatus, TaskStatus
from tests.integration.dispatcher.system import System, system, task
from tests.support.eventually import eventually

both: pytest.MarkDecorator = pytest.mark.parametrize("version", ["v0", "v1"])


MODEL_IS_GONE = ["[[sim:model_gone]]", "[[sim:model_gone_as_validation]]"]
REFUSED = [
    ("[[sim:usage_limit_exceeded]]", "QUOTA_EXCEEDED"),
    ("[[sim:plan_required]]", "QUOTA_EXCEEDED"),
    ("[[sim:included_usage_spent]]", "QUOTA_EXCEEDED"),
    ("[[sim:branch_unverified]]", "INVALID_REPOSITORY"),
    ("[[sim:refuse=integration_not_connected]]", "INVALID_REPOSITORY"),
    ("[[sim:refuse=role_forbidden]]", "FORBIDDEN"),
]


def unique(name: str) -> str:
    """Ids of tasks are unique over all orchestrations."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


async def word_of(s: System, agent_id: str) -> str:
    """What the provider says of the agent, `gone` if it has none."""
    answer = await s.provider.get(f"/v1/agents/{agent_id}")
    return "gone" if answer.status_code == 404 else str(answer.json()["status"])


async def agent_of(s: System, orchestration: str) -> str:
    agent_id = (await s.state(orchestration)).tasks["a"].attempts[-1].agent_id
    assert agent_id is not None
    return agent_id


async def until_archived(s: System, orchestration: str, times: int) -> None:
    """Until the log says so, which it does after the provider."""

    async def is_so() -> None:
        assert [event.type for event in await s.events(orchestration)].count("agent.archived") == times

    await eventually(is_so)


@both
async def test_a_model_that_is_gone_costs_one_refusal_and_no_task(nats: NatsServer, version: ApiVersion) -> None:
    async with system(nats, version) as s:
        state = await s.ended(await s.submit(task("a", model="a-model-of-long-ago")))
        assert state.status is OrchestrationStatus.COMPLETED
        assert state.tasks["a"].attempts[0].model is None
        assert "a-model-of-long-ago" in state.warnings[0]
        assert (await s.stats())["creates"] == 1


async def test_however_a_refusal_is_put_it_is_understood(nats: NatsServer) -> None:
    """Each by its marker in the prompt: a model that is gone, an account without money, a repository without access."""
    async with system(nats, "v1", dispatcher={"max_concurrent_agents": 10}) as s:
        gone = [await s.submit(task(unique("a"), marker=marker, model="o3")) for marker in MODEL_IS_GONE]
        refused = [(await s.submit(task(unique("a"), marker=marker)), code) for marker, code in REFUSED]
        for orchestration in gone:
            state = await s.ended(orchestration)
            assert (state.status, len(state.warnings)) == (OrchestrationStatus.COMPLETED, 1)
        for orchestration, code in refused:
            state = await s.ended(orchestration)
            assert state.failure is not None
            assert (state.status, state.failure.code) == (OrchestrationStatus.FAILED, code)
        assert (await s.stats())["creates"] == len(MODEL_IS_GONE)
        await s.at_rest()


async def test_under_continue_a_billing_refusal_is_met_once(nats: NatsServer) -> None:
    async with system(nats, "v1") as s:
        wall = "[[sim:refuse=usage_limit_exceeded]]"
        tasks = [task(name, place, marker=wall) for place, name in enumerate("abcde")]
        state = await s.ended(await s.submit(*tasks, failure_policy="continue"))
        assert state.status is OrchestrationStatus.FAILED
        assert state.failure is not None
        assert state.failure.code == "QUOTA_EXCEEDED"
        assert [len(found.attempts) for found in state.tasks.values()] == [1, 0, 0, 0, 0]
        assert state.tasks["e"].status is TaskStatus.CANCELLED
        await s.at_rest()


async def test_an_archived_agent_goes_on_when_the_user_asks_and_is_archived_again(nats: NatsServer) -> None:
    async with system(nats, "v1", dispatcher={"agent_cleanup": "archive"}) as s:
        orchestration = await s.submit(task("a"))
        await s.ended(orchestration)
        agent_id = await agent_of(s, orchestration)
        await until_archived(s, orchestration, 1)
        assert await word_of(s, agent_id) == "ARCHIVED"

        first = (await s.state(orchestration)).tasks["a"].attempts[0]
        await s.do(orchestration, FollowUp(attempt_id=first.attempt_id, prompt="More"))

        async def gone_on() -> None:
            state = await s.state(orchestration)
            assert state.status is OrchestrationStatus.COMPLETED
            assert len(state.tasks["a"].attempts) == 2

        await eventually(gone_on)
        assert await agent_of(s, orchestration) == agent_id
        await until_archived(s, orchestration, 2)
        assert await word_of(s, agent_id) == "ARCHIVED"


@both
async def test_where_agents_are_deleted_none_is_left_when_its_task_has_ended(
    nats: NatsServer, version: ApiVersion
) -> None:
    async with system(nats, version, dispatcher={"agent_cleanup": "delete"}) as s:
        orchestration = await s.submit(task("a"), task("b", 1))
        await s.ended(orchestration)

        async def none_is_left() -> None:
            assert (await s.stats())["deletes"] == 2

        await eventually(none_is_left)
        assert await word_of(s, await agent_of(s, orchestration)) == "gone"
        await s.at_rest()


async def test_version_0_keeps_its_agents_where_they_were_to_be_archived_and_says_so_once(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with system(nats, "v0", dispatcher={"agent_cleanup": "archive"}) as s:
        orchestration = await s.submit(task("a"), task("b", 1))
        await s.ended(orchestration)
        await s.at_rest()
        assert await word_of(s, await agent_of(s, orchestration)) != "ARCHIVED"
    assert len([record for record in caplog.records if "AGENT_CLEANUP=archive" in record.message]) == 1
    assert not [record for record in caplog.records if "refuses to archive" in record.message]

"""Orphans: agents that come up when the attempt which asked for them has been given up, and are at work for nobody."""

import asyncio
import uuid
from dataclasses import replace
from typing import Any

from shared.command_handler import Cause, CommandHandler
from shared.domain.commands import AnyCommand, CreateOrchestration, RejectAttempt, StartAttempt
from shared.domain.events import Failure, OrchestrationSpec, TaskSpec
from shared.domain.state import Attempt
from shared.envelope import Commit
from shared.jetstream.event_log import JetStreamEventLog
from shared.memory import MemoryEventLog
from shared.system import RandomIds, SystemClock
from tests.chaos.points.world import World

_TEAM = "default"
_REPOSITORY = "https://github.com/acme/shop"
_LOOK_SECONDS = 0.3


async def give_up(world: World) -> Attempt:
    """An attempt that has asked for its agent and ended without a trace of it.

    All of it is one commit: nobody else has an attempt under way in between, to launch it.
    """
    memory, ids, orchestration_id, task_id = MemoryEventLog(), RandomIds(), str(uuid.uuid4()), str(uuid.uuid4())
    handler = CommandHandler(memory, SystemClock(), ids)

    async def do(command: AnyCommand) -> Attempt:
        decided = await handler.handle(_TEAM, orchestration_id, command, Cause(ids.new(), "sweep", "sweep"))
        assert decided.state is not None
        return decided.state.tasks[task_id].attempts[-1]

    attempt = await do(
        CreateOrchestration(
            orchestration_id=orchestration_id,
            team=_TEAM,
            created_by="sweep",
            spec=OrchestrationSpec(repository=_REPOSITORY),
            tasks=(TaskSpec(task_id=task_id, title="Orphan", description="Change one line.", max_retries=0),),
            activate=True,
        )
    )
    await do(
        StartAttempt(
            attempt_id=attempt.attempt_id,
            agent_id=f"bc-{uuid.uuid4()}",
            api_version=world.version,
            branch_name=f"cursor/{attempt.attempt_id}",
        )
    )
    failure = Failure(code="NETWORK_ERROR", message="no trace")
    attempt = await do(RejectAttempt(attempt_id=attempt.attempt_id, failure=failure))
    commits = [stored.commit for stored in await memory.read(_TEAM, orchestration_id)]
    await JetStreamEventLog(world.nc).append(_as_one(commits), expected=0)
    return attempt


def _as_one(commits: list[Commit]) -> Commit:
    return replace(commits[0], events=tuple(event for commit in commits for event in commit.events))


async def come_up(world: World, attempt: Attempt) -> str:
    """The agent that the attempt had asked for is there after all, and works; gives its id."""
    body: dict[str, Any] = {"prompt": {"text": "Orphan [[sim:slow=600]]"}}
    if world.version == "v1":
        body |= {"agentId": attempt.agent_id, "repos": [{"url": _REPOSITORY}]}
    else:
        body |= {"source": {"repository": _REPOSITORY}, "target": {"branchName": attempt.branch_name}}
    answer = await world.provider.post(f"/{world.version}/agents", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return str(made["agent"]["id"] if world.version == "v1" else made["id"])


async def is_stopped(world: World, agent_id: str) -> None:
    """Wait until the provider shows the agent, of either version, as stopped."""
    while True:
        answer = await world.provider.get(f"/v0/agents/{agent_id}")
        if answer.is_success and answer.json()["status"] == "STOPPED":
            return
        await asyncio.sleep(_LOOK_SECONDS)

"""Orphans: agents that come up when the attempt which asked for them has been given up, and are at work for nobody."""

import uuid
from dataclasses import replace
from typing import Any

import httpx
from nats.aio.client import Client

from shared.command_handler import Cause, CommandHandler
from shared.cursor.provider import ApiVersion
from shared.domain.commands import AnyCommand, CreateOrchestration, RejectAttempt, StartAttempt
from shared.domain.events import Failure, OrchestrationSpec, TaskSpec
from shared.domain.state import Attempt
from shared.envelope import Commit
from shared.jetstream.event_log import JetStreamEventLog
from shared.memory import MemoryEventLog
from shared.system import RandomIds, SystemClock
from tests.simulator.serving import FOREVER

REPOSITORY = "https://github.com/acme/shop"


async def give_up(nc: Client, version: ApiVersion, team: str = "default") -> Attempt:
    """An attempt that has asked for its agent and ended without a trace of it.

    All of it is one commit: nobody else has an attempt under way in between, to launch it.
    """
    memory, ids, orchestration_id, task_id = MemoryEventLog(), RandomIds(), str(uuid.uuid4()), str(uuid.uuid4())
    handler = CommandHandler(memory, SystemClock(), ids)

    async def do(command: AnyCommand) -> Attempt:
        decided = await handler.handle(team, orchestration_id, command, Cause(ids.new(), "test", "test"))
        assert decided.state is not None
        return decided.state.tasks[task_id].attempts[-1]

    attempt = await do(
        CreateOrchestration(
            orchestration_id=orchestration_id,
            team=team,
            created_by="ann",
            spec=OrchestrationSpec(repository=REPOSITORY),
            tasks=(TaskSpec(task_id=task_id, title="Orphan", description="Change one line.", max_retries=0),),
            activate=True,
        )
    )
    await do(
        StartAttempt(
            attempt_id=attempt.attempt_id,
            agent_id=f"bc-{uuid.uuid4()}",
            api_version=version,
            branch_name=f"cursor/{attempt.attempt_id}",
        )
    )
    failure = Failure(code="NETWORK_ERROR", message="no trace")
    attempt = await do(RejectAttempt(attempt_id=attempt.attempt_id, failure=failure))
    commits = [stored.commit for stored in await memory.read(team, orchestration_id)]
    await JetStreamEventLog(nc).append(_as_one(commits), expected=0)
    return attempt


def _as_one(commits: list[Commit]) -> Commit:
    return replace(commits[0], events=tuple(event for commit in commits for event in commit.events))


async def come_up(provider: httpx.AsyncClient, version: ApiVersion, attempt: Attempt | None = None) -> str:
    """An agent at work that is made now: the one that the attempt had asked for, else somebody else's. Gives its id."""
    body: dict[str, Any] = {"prompt": {"text": f"Orphan {FOREVER}"}}
    if version == "v1":
        body |= {"repos": [{"url": REPOSITORY}], **({"agentId": attempt.agent_id} if attempt else {})}
    else:
        target = {"target": {"branchName": attempt.branch_name}} if attempt else {}
        body |= {"source": {"repository": REPOSITORY}, **target}
    answer = await provider.post(f"/{version}/agents", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return str(made["agent"]["id"] if version == "v1" else made["id"])


async def status_of(provider: httpx.AsyncClient, agent_id: str) -> str:
    """As v0 shows it, which shows the agents of both versions."""
    return str((await provider.get(f"/v0/agents/{agent_id}")).json()["status"])

"""What orchestrations go through while their services are killed, and how each must end all the same."""

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.domain.state import Attempt, Orchestration, Phase
from tests.chaos.points.world import World
from tests.support.eventually import eventually
from tests.support.orphans import come_up, give_up, status_of

_LONG = "[[sim:slow=600]]"
# At work for longer than the dispatcher waits between two audits of its slots.
_AUDITED = "[[sim:slow=4]]"
_ASK_SECONDS = 60.0
# Before an agent is known to be there an attempt may be given up (v0), which must not be what ends a task.
_MANY_RETRIES = 10


@dataclass
class Tale:
    """One orchestration on its way through a story. `told` are the events that its receiver must hear of."""

    world: World
    title: str
    id: str = ""
    told: list[str] = field(default_factory=list)

    async def create(self, marker: str = "", *, hook: str = "take", tasks: int = 1) -> None:
        """Create and activate it, with `marker` for its agents and `hook` for who is told."""
        titles = [f"{self.title} {number}" for number in range(1, tasks + 1)]
        body = {
            "repository": "acme/shop",
            "webhookUrl": f"{self.world.receiver.url}/{hook}",
            "activate": True,
            "tasks": [
                {"title": title, "description": f"Change one line. {marker}", "maxRetries": _MANY_RETRIES}
                for title in titles
            ],
        }
        answer = await self._ask("POST", "/api/orchestrations", headers={"Idempotency-Key": self.title}, json=body)
        self.id = answer["id"]

    async def act(self, action: str) -> None:
        await self._ask("POST", f"/api/orchestrations/{self.id}/{action}")

    async def follow_up(self) -> None:
        """Tell the agent more, and wait until that has come to something."""
        agent_id, runs = _last_attempt(self.world.states[self.id]).agent_id, self._attempts
        body = {"prompt": "And now the other line."}
        headers = {"Idempotency-Key": f"{self.title} more"}
        await self._ask("POST", f"/api/cloud-agents/{agent_id}/followup", json=body, headers=headers)
        await self.until(lambda state: self._attempts > runs)

    @property
    def _attempts(self) -> int:
        return sum(len(task.attempts) for task in self.world.states[self.id].tasks.values())

    async def delete_agent(self) -> None:
        agent_id = _last_attempt(self.world.states[self.id]).agent_id
        await self._ask("DELETE", f"/api/cloud-agents/{agent_id}")
        await self.until(lambda state: _last_attempt(state).agent_deletion == "DONE")

    async def until(self, reached: Callable[[Orchestration], bool]) -> Orchestration:
        return await self.world.until(self.id, reached)

    async def at_work(self) -> None:
        await self.until(lambda state: any(a.phase is Phase.CREATED for _, a in state.active_attempts()))

    async def becomes(self, status: str, event: str | None = None) -> None:
        await self.until(lambda state: state.status == status and not list(state.active_attempts()))
        if event is not None:
            self.told.append(event)

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        """The answer, once it is one: while nobody decides, or the rows are late, it is asked again."""

        async def answered() -> Any:
            try:
                answer = await self.world.api.request(method, path, **request)
            except httpx.TransportError:
                return None
            assert answer.is_success, f"{answer.status_code} {answer.text}"
            return answer.json()

        return await eventually(answered, timeout=_ASK_SECONDS, interval=0.3)


def _last_attempt(state: Orchestration) -> Attempt:
    return list(state.tasks.values())[-1].attempts[-1]


@dataclass(frozen=True)
class Story:
    """`play` raises what is not as it should be; it has no limit of time of its own."""

    name: str
    play: Callable[[Tale], Coroutine[Any, Any, None]]


async def _smooth(tale: Tale) -> None:
    await tale.create()
    await tale.becomes("COMPLETED", "orchestration.completed")


async def _two_tasks(tale: Tale) -> None:
    await tale.create(tasks=2, hook="later")
    await tale.becomes("COMPLETED", "orchestration.completed")


async def _audited(tale: Tale) -> None:
    await tale.create(_AUDITED)
    await tale.becomes("COMPLETED", "orchestration.completed")


async def _failing_once(tale: Tale) -> None:
    await tale.create("[[sim:fail=1]]")
    await tale.becomes("COMPLETED", "orchestration.completed")


async def _refused(tale: Tale) -> None:
    await tale.create("[[sim:refuse=plan_required]]", hook="gone")
    await tale.becomes("FAILED", "orchestration.failed")


async def _cancelled(tale: Tale) -> None:
    await tale.create(_LONG)
    await tale.at_work()
    await tale.act("cancel")
    await tale.becomes("CANCELLED", "orchestration.cancelled")


async def _paused(tale: Tale) -> None:
    await tale.create(_LONG)
    await tale.at_work()
    await tale.act("pause")
    await tale.becomes("PAUSED", "orchestration.paused")
    await tale.act("resume")
    await tale.at_work()
    await tale.act("cancel")
    await tale.becomes("CANCELLED", "orchestration.cancelled")


async def _told_more(tale: Tale) -> None:
    await tale.create()
    await tale.becomes("COMPLETED", "orchestration.completed")
    await tale.follow_up()
    await tale.becomes("COMPLETED", "orchestration.completed")


async def _deleted_agent(tale: Tale) -> None:
    await tale.create()
    await tale.becomes("COMPLETED", "orchestration.completed")
    await tale.delete_agent()


async def _orphaned(tale: Tale) -> None:
    world = tale.world
    agent_id = await come_up(world.provider, world.version, await give_up(world.nc, world.version))

    async def stopped() -> bool:
        return await status_of(world.provider, agent_id) == "STOPPED"

    await eventually(stopped, timeout=math.inf, interval=0.3)


ORPHANED = Story("orphaned", _orphaned)
"""Not of an orchestration under way: it leads to the sweep of the account's agents, and nowhere else."""

SMOOTH = Story("smooth", _smooth)
STORIES = (
    SMOOTH,
    Story("two tasks", _two_tasks),
    Story("audited", _audited),
    Story("failing once", _failing_once),
    Story("refused", _refused),
    Story("cancelled", _cancelled),
    Story("paused", _paused),
    Story("told more", _told_more),
    Story("agent deleted", _deleted_agent),
    ORPHANED,
)

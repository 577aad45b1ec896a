"""Agents that end while every webhook is lost, or no stream can be opened: how soon the polls see it."""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

from tests.shows.work import run_tasks
from tests.support.stack import RunningSystem, running_system

# What may tell of an end besides the polls, per version.
SILENCED: dict[str, dict[str, Any]] = {"v0": {"webhook_lost": True}, "v1": {"stream_unavailable": True}}

TABLE = """| version | agents | running at once | `POLL_INTERVAL_SECONDS` | p50 | p95 | max |
| --- | --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Detection:
    """`seconds` from the moment an agent ended at the provider until the log has it, for each agent; sorted."""

    version: str
    poll_interval: float
    running_at_once: int
    seconds: list[float]

    def within(self, share: float) -> float:
        """What this share of the agents was seen within."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    @property
    def longest(self) -> float:
        return self.seconds[-1]

    def line(self) -> str:
        figures = " | ".join(f"{value:.1f} s" for value in (self.within(0.5), self.within(0.95), self.longest))
        return f"| {self.version} | {len(self.seconds)} | {self.running_at_once} | {self.poll_interval:g} | {figures} |"


async def run_detection(
    version: str, agents: int, *, poll_interval: float, ends: tuple[float, float], timeout: float
) -> Detection:
    """All agents run at once and end one after the other, from `ends[0]` to `ends[1]` seconds after they began."""
    settings = {
        "CURSOR_API_VERSION": version,
        "MAX_CONCURRENT_AGENTS": str(agents),
        # The longer pause of an agent's first hour from the first minute on.
        "POLL_FIRST_SECONDS": f"{poll_interval:g}",
        "POLL_INTERVAL_SECONDS": f"{poll_interval:g}",
        # As many reads as that takes, of which polls may use up two thirds.
        "GET_RATE_PER_MINUTE": str(ceil(agents * 60 / poll_interval * 1.5)),
        "RESULT_GRACE_SECONDS": "10",
        "REQUESTS_PER_MINUTE": "0",
        "SIMULATOR_FAULTS": json.dumps(SILENCED[version]),
    }
    first, last = ends
    durations = [first + (last - first) * place / max(1, agents - 1) for place in range(agents)]
    async with running_system(**settings) as system:
        tasks = await run_tasks(system, [f"[[sim:slow={seconds:.2f}]]" for seconds in durations], timeout=timeout)
        seconds, saw = await seconds_until_seen(system, tasks), await system.simulator()
    assert {one["status"] for one in tasks} == {"COMPLETED"}
    assert saw["creates"] == len(seconds) == agents
    [silenced] = SILENCED[version]
    assert saw["faults"][silenced] >= agents
    assert saw["webhooks"]["attempts"] == 0
    return Detection(version, poll_interval, saw["max_running"], seconds)


async def seconds_until_seen(system: RunningSystem, tasks: list[dict[str, Any]]) -> list[float]:
    """For each agent that finished, how long the log did not know it; sorted."""
    ended, seen = await asyncio.gather(_ends(system), _seen(system, tasks))
    return sorted((seen[agent_id] - ended[agent_id]).total_seconds() for agent_id in seen)


async def _ends(system: RunningSystem) -> dict[str, datetime]:
    """When each agent ended at the provider."""
    journal = (await system.simulator("agents"))["agents"]
    return {
        agent["id"]: datetime.fromisoformat(change["at"])
        for agent in journal
        for run in agent["runs"]
        for change in run["changes"]
        if change["status"] == "FINISHED"
    }


async def _seen(system: RunningSystem, tasks: list[dict[str, Any]]) -> dict[str, datetime]:
    """When the log had it of each agent that it was at its end."""
    found: dict[str, datetime] = {}
    for orchestration_id in {one["orchestration_id"] for one in tasks}:
        async for event in system.events(orchestration_id):
            if event["type"] == "agent.status_changed" and event["data"]["status"] == "FINISHED":
                found[event["data"]["agent_id"]] = datetime.fromisoformat(event["occurred_at"])
    return found

"""Attempts whose creates take effect and are often not answered: each has one agent, never two, never none."""

import json
from dataclasses import dataclass
from typing import Any

from tests.shows.work import run_tasks
from tests.support.stack import running_system

LOST_REPLIES: dict[str, Any] = {"create_reset_after": 0.3}
_AT_ONCE = 40

TABLE = """| version | attempts | replies dropped | agents | most agents of one attempt | running at once |
| --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Drops:
    """What a run has shown; `most` is how many agents one attempt had at most."""

    version: str
    attempts: int
    dropped: int
    agents: int
    most: int
    running_at_once: int

    def line(self) -> str:
        return (
            f"| {self.version} | {self.attempts:,} | {self.dropped} | {self.agents:,} | {self.most} "
            f"| {self.running_at_once} |"
        )


async def run_drops(version: str, attempts: int, *, timeout: float) -> Drops:
    """Raises AssertionError if an attempt had another number of agents than one, at the end or at any moment."""
    settings = {
        "CURSOR_API_VERSION": version,
        "MAX_CONCURRENT_AGENTS": str(_AT_ONCE),
        "REQUESTS_PER_MINUTE": "0",
        "SIMULATOR_FAULTS": json.dumps(LOST_REPLIES),
    }
    async with running_system(**settings) as system:
        tasks = await run_tasks(system, [""] * attempts, timeout=timeout)
        return judge_drops(version, tasks, await system.simulator())


def judge_drops(version: str, tasks: list[dict[str, Any]], saw: dict[str, Any]) -> Drops:
    """From the tasks, all of which had an agent of their own, and the provider's statistics. Raises as `run_drops`."""
    assert {one["status"] for one in tasks} == {"COMPLETED"}
    assert [len(one["attempts"]) for one in tasks] == [1] * len(tasks)
    attempts, most = saw["creates_by_attempt"], max(saw["max_running_by_attempt"].values())
    assert saw["creates"] == len(attempts) == len(tasks)
    assert (most, max(attempts.values()), saw["running"]) == (1, 1, 0)
    dropped = saw["faults"]["create_reset_after"]
    assert dropped > 0
    return Drops(version, len(tasks), dropped, saw["creates"], most, saw["max_running"])

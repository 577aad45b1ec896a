"""The files of docs/examples do what they say: run one by one as a newcomer does, on one running system."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
WAIT = 120.0


class Newcomer:
    """Somebody who has read the page of examples. `used` are the files that were run."""

    def __init__(self, system: RunningSystem) -> None:
        self.system = system
        self.used: set[str] = set()
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "ORCHESTRATOR_URL": system.url,
            "ORCHESTRATOR_API_KEY": system.api.headers["X-API-Key"],
        }

    async def start(self, *command: str, **environment: str) -> Process:
        """Python with these arguments; a bare name of an example stands for its path."""
        examples = {word for word in command if "/" not in word and (EXAMPLES / word).is_file()}
        self.used |= examples
        words = [str(EXAMPLES / word) if word in examples else word for word in command]
        return await asyncio.create_subprocess_exec(
            sys.executable, *words, env={**self._environment, **environment}, cwd=ROOT, stdout=PIPE, stderr=PIPE
        )

    async def run(self, *command: str, **environment: str) -> str:
        """What it prints; it must end well."""
        process = await self.start(*command, **environment)
        try:
            async with asyncio.timeout(WAIT):
                out, said = await process.communicate()
        finally:
            _end(process)
        assert process.returncode == 0, f"{command}: {process.returncode}\n{out.decode()}\n{said.decode()}"
        return out.decode()

    async def orchestrate(self, file: str) -> dict[str, Any]:
        """`orchestrator run FILE --watch`: the orchestration at its end."""
        first = json.loads((await self.run("-m", "cli", "run", file, "--watch", "--json")).splitlines()[0])
        return await self.system.get(first["data"]["orchestration"]["id"])


async def test_every_example_does_what_it_says_and_is_listed() -> None:
    async with running_system(MAX_CONCURRENT_AGENTS="5", SIMULATOR_CANCEL_SECONDS="0.3") as system:
        newcomer = Newcomer(system)
        async with asyncio.TaskGroup() as together:  # they wait more than they work
            for example in TOGETHER:
                together.create_task(example(newcomer))
        await _hotfix(newcomer)
        await _follow(newcomer)
        stats = await system.simulator()
        assert (stats["running"], stats["create_conflicts"]) == (0, 0)

    there = {file.name for file in EXAMPLES.iterdir() if file.suffix in (".yaml", ".py")}
    assert newcomer.used == there
    page = (EXAMPLES / "README.md").read_text()
    assert [name for name in sorted(there) if f"[{name}]({name})" not in page] == []


async def _sequential(newcomer: Newcomer) -> None:
    found = await newcomer.orchestrate("three-tasks.yaml")
    assert found["orchestration"]["summary"] == "All 3 tasks completed successfully"
    ends, starts = (
        [datetime.fromisoformat(one[name]) for one in found["tasks"]] for name in ("completed_at", "started_at")
    )
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


async def _parallel(newcomer: Newcomer) -> None:
    found = await newcomer.orchestrate("parallel.yaml")
    assert found["orchestration"]["status"] == "COMPLETED"
    *side_by_side, last = found["tasks"]
    assert all(one["completed_at"] <= last["started_at"] for one in side_by_side)


async def _retried(newcomer: Newcomer) -> None:
    found = await newcomer.orchestrate("retry.yaml")
    assert [(one["status"], one["retry_count"]) for one in found["tasks"]] == [("COMPLETED", 1), ("COMPLETED", 0)]


async def _bulk(newcomer: Newcomer) -> None:
    made = json.loads(await newcomer.run("-m", "cli", "bulk", "bulk.yaml", "--json"))
    assert (made["created"], made["failed"]) == (3, 0)
    legacy = made["items"][2]["orchestration"]
    assert (legacy["ref"], legacy["name"]) == ("master", "Pinned actions (legacy)")
    for item in made["items"]:
        ended = await newcomer.system.until_ended(item["orchestration"]["id"], timeout=WAIT)
        assert ended["orchestration"]["status"] == "COMPLETED"


async def _schedule(newcomer: Newcomer) -> None:
    made = json.loads(await newcomer.run("-m", "cli", "create", "schedule.yaml", "--json"))

    async def has_run() -> Any:
        found = (await newcomer.system.get(made["id"]))["orchestration"]
        return found if found["runs"]["count"] else None

    schedule = await eventually(has_run, timeout=WAIT, interval=0.2)
    assert schedule["status"] == "PENDING"
    await newcomer.run("-m", "cli", "cancel", made["id"])
    run = await newcomer.system.until_ended(schedule["runs"]["last_id"], timeout=WAIT)
    assert (run["orchestration"]["status"], run["orchestration"]["schedule_id"]) == ("COMPLETED", made["id"])


async def _webhook(newcomer: Newcomer) -> None:
    secret = (newcomer.system.folder / "webhook-secret").read_text().strip()
    whsec = await newcomer.run("-m", "services.notifier.signing", "default", WEBHOOK_SECRET=secret)
    async with _running(await newcomer.start("webhook_receiver.py", "0", WHSEC=whsec.strip())) as receiver:
        url = (await _line(receiver)).split()[-1]
        await _orchestrate_notified(newcomer, url)
        assert await _line(receiver) == "standard webhooks: True"
        assert await _line(receiver) == "plain HMAC: True"
        assert (await _line(receiver)).startswith("orchestration.completed ")
        async with httpx.AsyncClient(trust_env=False) as client:
            forged = await client.post(url, content=b"{}", headers={"webhook-id": "1", "webhook-signature": "v1,no"})
        assert forged.status_code == 401


async def _orchestrate_notified(newcomer: Newcomer, url: str) -> None:
    """As the file says, but for the receiver's port: the one in it may be taken here."""
    moved = newcomer.system.folder / "notified.yaml"
    moved.write_text((EXAMPLES / "notified.yaml").read_text().replace("http://127.0.0.1:8099/", url))
    newcomer.used.add("notified.yaml")
    await newcomer.orchestrate(str(moved))


async def _pause(newcomer: Newcomer) -> None:
    said = await newcomer.run("pause_and_resume.py")
    assert "the task is PENDING and waits for pause" in said
    assert "the task is COMPLETED with 0 retries" in said
    assert "same agent: True" in said


async def _retry_by_hand(newcomer: Newcomer) -> None:
    before, after = (await newcomer.run("retry_by_hand.py")).split("retry: Retried")
    assert "the orchestration is FAILED" in before
    assert "Remove the old guards: CANCELLED" in before
    assert "the orchestration is COMPLETED" in after
    assert after.count(": COMPLETED") == 2


async def _something_found(newcomer: Newcomer) -> None:
    said = await newcomer.run("conditional.py")
    assert "Find unsafe parsing: COMPLETED, DELIVERED" in said
    assert "added: Fuzz the parser" in said
    assert "COMPLETED {" in said


async def _nothing_found(newcomer: Newcomer) -> None:
    said = await newcomer.run("conditional.py", "nothing")
    assert "Find unsafe parsing: COMPLETED, NO_CHANGE" in said
    assert "CANCELLED {'Find unsafe parsing': 'COMPLETED', 'Upgrade the parser': 'CANCELLED'}" in said


async def _hotfix(newcomer: Newcomer) -> None:
    """All slots are taken while both files are run, so that nothing depends on how quickly that is done."""
    system = newcomer.system
    long = [task(f"Long {number}", "[[sim:slow=600]]") for number in range(5)]
    before = await system.create(long, executionMode="parallel", activate=True)
    await _until_all(system, before, lambda one: one["cloud_agent_status"] == "RUNNING")
    files = ("backlog.yaml", "hotfix.yaml")
    backlog, hotfix = [
        json.loads(await newcomer.run("-m", "cli", "run", file, "--json"))["orchestration"]["id"] for file in files
    ]
    for waiting in (backlog, hotfix):
        await _until_all(system, waiting, lambda one: one["waiting_for"] == "slot")
    assert (await system.api.post(f"/api/orchestrations/{before}/cancel")).status_code == 200
    fixed = (await system.until_ended(hotfix, timeout=WAIT))["tasks"][0]
    rest = (await system.until_ended(backlog, timeout=WAIT))["tasks"]
    # There are five slots: the seventh in the order of arrival would have been among the last two.
    assert sum(one["started_at"] > fixed["started_at"] for one in rest) >= 2


async def _follow(newcomer: Newcomer) -> None:
    """The API dies and comes back while it is followed."""
    system = newcomer.system
    followed = await system.create([task(f"Followed {number}", "[[sim:slow=1]]") for number in range(3)])
    async with _running(await newcomer.start("follow.py", followed)) as follower:
        lines = [await _line(follower)]
        assert (await system.api.post(f"/api/orchestrations/{followed}/activate")).status_code == 200
        lines.append(await _line(follower))
        system.kill("api")
        while "ended" not in lines[-1]:
            lines.append(await _line(follower))
        async with asyncio.timeout(WAIT):
            assert await follower.wait() == 0
    assert lines[0].endswith("it is PENDING")
    assert lines[-1].endswith("ended COMPLETED")
    told = [int(line.split()[0]) for line in lines]
    history = (await system.api.get(f"/api/orchestrations/{followed}/events", params={"limit": 100})).json()
    assert "nextCursor" not in history
    assert told == sorted(told)
    assert sorted(set(told)) == sorted({one["sequence"] for one in history["items"] if one["sequence"] >= told[0]})


async def _until_all(system: RunningSystem, orchestration_id: str, reached: Any) -> None:
    async def all_have() -> bool:
        return all(reached(one) for one in (await system.get(orchestration_id))["tasks"])

    await eventually(all_have, timeout=WAIT, interval=0.1)


@asynccontextmanager
async def _running(process: Process) -> AsyncIterator[Process]:
    try:
        yield process
    finally:
        _end(process)
        await process.communicate()


def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()


async def _line(process: Process) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    async with asyncio.timeout(WAIT):
        line = await process.stdout.readline()
    assert line, "it ended"
    return line.decode().rstrip()


TOGETHER = (
    *(_pause, _schedule, _webhook, _sequential, _parallel, _retried),
    *(_bulk, _retry_by_hand, _something_found, _nothing_found),
)

"""Two replicas of the API: each write goes to the one, and the other is asked at once whether it shows it.

    .venv/bin/python -m tests.e2e.two_replicas

starts a system of its own with a second api, makes some 200 writes of every kind, and prints how many of each there
were and how many the other replica did not show.
"""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.local.ports import free_port
from tests.support.eventually import eventually
from tests.support.stack import RunningSystem, running_system, task

ROUNDS = 10
AT_ONCE = 5
LONG = "[[sim:slow=600]]"
SETTINGS = {
    "REQUESTS_PER_MINUTE": "0",
    "MAX_CONCURRENT_AGENTS": "50",
    "SIMULATOR_CANCEL_SECONDS": "0.1",
}
_WAIT = 60.0

Json = dict[str, Any]
Shows = Callable[[httpx.Response], bool]


class Replicas:
    """What is written goes to `one`, what is read comes from `other`. `stale`: what the other did not show."""

    def __init__(self, one: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
        self.one = one
        self.other = other
        self.writes: Counter[str] = Counter()
        self.stale: list[str] = []

    def swapped(self) -> "Replicas":
        """The same the other way round, with the same counts."""
        swapped = Replicas(self.other, self.one)
        swapped.writes, swapped.stale = self.writes, self.stale
        return swapped

    async def write(
        self, kind: str, method: str, path: str, body: Any = None, *, see: str, shows: Shows, of: int = 200
    ) -> Json:
        """Write, and look; gives the answer to the write, whose status is `of`."""
        answer = await self.one.request(method, f"/api/{path}", json=body)
        found: Json = answer.json()
        if answer.status_code == 202 != of:  # nobody has decided yet, so there is nothing to be seen either
            raise AssertionError(f"{kind} was not decided in time: {found}")
        assert answer.status_code == of, f"{kind}: {answer.text}"
        seen = await self.other.get(f"/api/{see}")
        self.writes[kind] += 1
        if not shows(seen):
            self.stale.append(f"{kind}: {found} is not shown by {see}: {seen.text[:500]}")
        return found


async def write_and_look(replicas: Replicas, rounds: int = ROUNDS) -> None:
    """Every kind of write in each round. Half of the rounds write to the one replica, half to the other."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def play(number: int) -> None:
        async with limit:
            await _round(replicas.swapped() if number % 2 else replicas, number)

    async with asyncio.TaskGroup() as together:
        for number in range(rounds):
            together.create_task(play(number))
    # The queue is the team's, so these would be in each other's way.
    for number in range(rounds):
        await _hold_the_queue(replicas.swapped() if number % 2 else replicas)


async def _round(replicas: Replicas, number: int) -> None:
    orchestration_id = await _change_it(replicas, f"round{number}")
    await _steer_it(replicas, orchestration_id)
    await _steer_an_agent(replicas, number)
    await _run_again(replicas, number)
    await _make_many_and_delete(replicas, number)
    await _keys(replicas, number)


async def _change_it(replicas: Replicas, name: str) -> str:
    order = {"repository": "acme/shop", "name": name, "tasks": [task("At work", LONG), task("Later")]}
    created = await replicas.write(
        *("create", "POST", "orchestrations", order),
        of=201,
        see=f"orchestrations?q={name}",
        shows=lambda seen: [one["name"] for one in seen.json()["items"]] == [name],
    )
    here = f"orchestrations/{created['id']}"
    body = {"description": "Changed"}
    await replicas.write("change", "PATCH", here, body, see=here, shows=_has("orchestration", description="Changed"))
    added = await replicas.write(
        *("add a task", "POST", f"{here}/tasks", task("Added")),
        of=201,
        see=f"{here}/tasks",
        shows=lambda seen: [one["title"] for one in seen.json()["items"]] == ["At work", "Later", "Added"],
    )
    there = f"tasks/{added['id']}"
    await replicas.write(
        "change a task", "PATCH", there, {"priority": "high"}, see=there, shows=_has(priority="high", title="Added")
    )
    await replicas.write("skip", "POST", f"{there}/skip", see=there, shows=_has(status="SKIPPED"))
    await replicas.write("restart", "POST", f"{there}/restart", see=there, shows=_has(status="PENDING"))
    return str(created["id"])


async def _steer_it(replicas: Replicas, orchestration_id: str) -> None:
    here = f"orchestrations/{orchestration_id}"
    for command, status in (("activate", "ACTIVE"), ("pause", "PAUSED"), ("resume", "ACTIVE")):
        await replicas.write(
            command, "POST", f"{here}/{command}", see=here, shows=_has("orchestration", status=(status,))
        )
    over = _has("orchestration", status=("CANCELLING", "CANCELLED"))
    await replicas.write("cancel", "POST", f"{here}/cancel", see=here, shows=over)


async def _steer_an_agent(replicas: Replicas, number: int) -> None:
    """Told more, stopped while it does that, and deleted."""
    here, agent = await _one_task(replicas, f"Agent {number}", "")
    await replicas.write(
        *("follow up", "POST", f"cloud-agents/{agent}/followup", {"prompt": f"More. {LONG}"}),
        see=here,
        shows=lambda seen: len(seen.json()["tasks"][0]["attempts"]) == 2,
    )
    await _until(replicas, here, lambda one: one["cloud_agent_status"] == "RUNNING")
    events = f"{here}/events?limit=100"
    await replicas.write(
        "stop an agent",
        "POST",
        f"cloud-agents/{agent}/stop",
        of=202,
        see=events,
        shows=_tells("attempt.stop_requested"),
    )
    await _until(replicas, here, lambda one: one["status"] == "FAILED")
    await replicas.write(
        "delete an agent", "DELETE", f"cloud-agents/{agent}", of=202, see=events, shows=_tells("agent.delete_requested")
    )


async def _run_again(replicas: Replicas, number: int) -> None:
    here, _ = await _one_task(replicas, f"Fails {number}", "[[sim:fail]]", status="FAILED")
    failed = (await replicas.one.get(f"/api/{here}")).json()["tasks"][0]["id"]
    again = f"tasks/{failed}"
    await replicas.write(
        "retry", "POST", f"{again}/retry", see=again, shows=lambda seen: len(seen.json()["attempts"]) == 2
    )


async def _make_many_and_delete(replicas: Replicas, number: int) -> None:
    order = {"repositories": ["acme/one", "acme/two"], "tasks": [task("Everywhere")], "name": f"bulk{number}"}
    made = await replicas.write(
        *("bulk", "POST", "orchestrations/bulk", order),
        see=f"orchestrations?q=bulk{number}",
        shows=lambda seen: len(seen.json()["items"]) == 2,
    )
    here = f"orchestrations/{made['items'][0]['orchestration']['id']}"
    await replicas.write("delete", "DELETE", here, see=here, shows=lambda seen: seen.status_code == 404)


async def _keys(replicas: Replicas, number: int) -> None:
    wanted = {"name": f"key {number}", "permissions": ["orchestrations:read"]}
    made = await replicas.write(
        *("make a key", "POST", "keys", wanted),
        of=201,
        see="keys?limit=100",
        shows=lambda seen: f"key {number}" in [one["name"] for one in seen.json()["items"]],
    )
    let_in = await replicas.other.get("/api/orchestrations?limit=1", headers={"X-API-Key": made["key"]})
    assert let_in.status_code == 200, let_in.text
    here = f"keys/{made['id']}"
    await replicas.write("revoke a key", "DELETE", here, see=here, shows=lambda seen: bool(seen.json()["revoked_at"]))


async def _hold_the_queue(replicas: Replicas) -> None:
    for command, held in (("pause", True), ("resume", False)):
        await replicas.write(
            f"{command} the queue", "POST", f"queue/{command}", see="queue/stats", shows=_has(held=held)
        )


async def _one_task(replicas: Replicas, title: str, marker: str, *, status: str = "COMPLETED") -> tuple[str, str]:
    """Where an orchestration of one task is that has ended so, and the id of its agent."""
    tasks = [{**task(title, marker), "maxRetries": 0}]
    order = {"repository": "acme/shop", "tasks": tasks, "activate": True}
    answer = await replicas.one.post("/api/orchestrations", json=order)
    assert answer.status_code == 201, answer.text
    here = f"orchestrations/{answer.json()['id']}"
    ended = await _until(replicas, here, lambda one: one["status"] == status)
    return here, ended["cloud_agent_id"]


async def _until(replicas: Replicas, here: str, reached: Callable[[Json], bool]) -> Json:
    """The orchestration's first task once it is so."""

    async def look() -> Json | None:
        first: Json = (await replicas.one.get(f"/api/{here}")).json()["tasks"][0]
        return first if reached(first) else None

    found = await eventually(look, timeout=_WAIT, interval=0.2)
    assert found is not None
    return found


def _has(part: str | None = None, **wanted: Any) -> Shows:
    """Whether these fields, of a part of what is shown, have the value, or one of those in a tuple."""

    def shows(seen: httpx.Response) -> bool:
        found = seen.json() if part is None else seen.json().get(part, {})
        return all(
            found.get(name) in (value if isinstance(value, tuple) else (value,)) for name, value in wanted.items()
        )

    return shows


def _tells(event: str) -> Shows:
    return lambda seen: event in [one["type"] for one in seen.json()["items"]]


@asynccontextmanager
async def second_api(system: RunningSystem) -> AsyncIterator[httpx.AsyncClient]:
    """Another replica of the API of a running system: the same settings, another port."""
    port = free_port()
    with (system.folder / "logs" / "api-2.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.api"),
            env={**_settings(system), "API_PORT": str(port)},
            stdout=log,
            stderr=log,
        )
    try:
        url, headers = f"http://127.0.0.1:{port}", dict(system.api.headers)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:

            async def is_ready() -> bool:
                try:
                    return (await client.get("/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_ready, timeout=_WAIT, interval=0.2)
            yield client
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


def _settings(system: RunningSystem) -> dict[str, str]:
    """What the api that runs was given."""
    environment = Path("/proc", str(system.record()["api"]["pid"]), "environ").read_bytes().decode()
    return dict(pair.partition("=")[::2] for pair in environment.split("\0") if pair)


async def main() -> int:
    async with running_system(**SETTINGS) as system, second_api(system) as other:
        replicas = Replicas(system.api, other)
        await write_and_look(replicas)
    for kind, count in sorted(replicas.writes.items()):
        print(f"{count:5} {kind}")
    print(f"{replicas.writes.total():5} writes in all; not shown at once by the other replica: {len(replicas.stale)}")
    for line in replicas.stale:
        print(line)
    return 1 if replicas.stale else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

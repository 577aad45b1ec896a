"""The whole system as a child process on free ports, and a client of its API."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.local.ports import COUNTER
from tests.support.eventually import eventually
from tests.support.servers import temporary_folder

_READY_SECONDS = 150.0
_STOP_SECONDS = 90.0
ENDED = ("COMPLETED", "PARTIAL_COMPLETED", "FAILED", "CANCELLED")


@dataclass(frozen=True)
class RunningSystem:
    """`orchestrator up`, with its data in `folder`."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    api: httpx.AsyncClient

    def record(self) -> dict[str, Any]:
        """What the supervisor says of each process."""
        found: dict[str, Any] = json.loads((self.folder / "processes.json").read_text())["processes"]
        return found

    def kill(self, name: str) -> None:
        """Kill one process of it for good; the supervisor starts another."""
        os.kill(self.record()[name]["pid"], signal.SIGKILL)

    async def simulator(self, what: str = "stats") -> dict[str, Any]:
        """What the provider saw; `what` is the name of another page of its control."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            found: dict[str, Any] = (await client.get(f"{self._control}/{what}")).json()
            return found

    async def switch(self, **faults: Any) -> None:
        """Turn these faults of the provider on or off, and leave the others."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            (await client.patch(f"{self._control}/faults", json=faults)).raise_for_status()

    async def finish(self, agent_id: str) -> None:
        """Have the agent finish its work now."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.post(f"{self._control}/agents/{agent_id}", json={"status": "FINISHED"})
            answer.raise_for_status()

    @property
    def _control(self) -> str:
        return f"http://127.0.0.1:{self.record()['simulator']['port']}/_sim"

    async def create(self, tasks: list[dict[str, Any]], **fields: Any) -> str:
        """A new orchestration; gives its id."""
        answer = await self.api.post("/api/orchestrations", json={"repository": "acme/shop", "tasks": tasks, **fields})
        assert answer.status_code == 201, answer.text
        orchestration_id: str = answer.json()["id"]
        return orchestration_id

    async def get(self, orchestration_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/api/orchestrations/{orchestration_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def events(self, orchestration_id: str) -> AsyncIterator[dict[str, Any]]:
        """The whole history of the orchestration."""
        query = {"limit": "100"}
        while True:
            page = (await self.api.get(f"/api/orchestrations/{orchestration_id}/events", params=query)).json()
            for event in page["items"]:
                yield event
            if "nextCursor" not in page:
                return
            query["cursor"] = page["nextCursor"]

    async def until_ended(self, orchestration_id: str, *, timeout: float = 120.0) -> dict[str, Any]:
        """The orchestration once it has ended; the api may be away meanwhile."""

        async def ended() -> Any:
            try:
                found = await self.get(orchestration_id)
            except httpx.TransportError:
                return None
            return found if found["orchestration"]["status"] in ENDED else None

        found: dict[str, Any] = await eventually(ended, timeout=timeout, interval=0.2)
        return found


def task(title: str, marker: str = "") -> dict[str, Any]:
    """A task of a request; `marker` tells the simulator what becomes of its agent."""
    return {"title": title, "description": f"Change one line and leave the tests passing. {marker}".strip()}


@asynccontextmanager
async def running_system(**settings: str) -> AsyncIterator[RunningSystem]:
    """The system from an empty folder, ready for requests; stopped at the end, and it must stop cleanly."""
    with temporary_folder() as folder:
        process = await asyncio.to_thread(_start, folder / "data", settings)
        try:
            url = await asyncio.wait_for(asyncio.to_thread(_ready, process), _READY_SECONDS)
            headers = {"X-API-Key": (folder / "data" / "api-key").read_text().strip()}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as api:
                yield RunningSystem(url, folder / "data", process, api)
            process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(process.wait, _STOP_SECONDS)
            assert code == 0, f"the system ended with {code}"
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
            assert process.stdout is not None
            process.stdout.close()


def _start(folder: Path, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.environ["PATH"],
        COUNTER: os.environ.get(COUNTER, ""),
        "ORCHESTRATOR_DATA_DIR": str(folder),
        "API_PORT": "0",
        "SIMULATOR_PORT": "0",
        "SIMULATOR_DURATION_SECONDS": "0.2",
        # On a slow machine, too, what is asked for is to be decided before it is answered.
        "REPLY_SECONDS": "30",
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "up"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _ready(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line.startswith("ready http://"), line
    return line.split()[1]

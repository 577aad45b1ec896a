"""The projector as a process of its own."""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path

import nats as nats_client

from deploy.local.nats import NatsServer
from deploy.local.ports import free_port
from shared.jetstream.bootstrap import bootstrap
from shared.jetstream.topology import TopologySettings
from tests.integration.projector.logs import append, dump, shown
from tests.support.eventually import eventually
from tests.unit.projections.histories import every_event


async def test_it_projects_tells_that_it_is_ready_and_ends_in_order(dsn: str, nats: NatsServer, tmp_path: Path) -> None:
    client = await nats_client.connect(nats.url)
    await bootstrap(client, TopologySettings())
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "NATS_URL": nats.url,
        "NATS_MONITOR_URL": nats.monitor_url,
        "HEALTH_PORT": str(port),
    }
    log = tmp_path / "projector.log"
    process = await started(environment, log)
    try:
        await eventually(lambda: asyncio.to_thread(is_ready, port), timeout=90)
        await the_port_is_taken(environment, tmp_path)
        await shown(dsn, await append(client, every_event()))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await client.close()
    assert len(dump(dsn)["event_archive"]) == len(every_event())
    assert dsn.split(":")[2].split("@")[0] not in log.read_text()


async def started(environment: dict[str, str], log: Path) -> asyncio.subprocess.Process:
    with log.open("wb") as out:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.api.projector", env=environment, stderr=out
        )


async def the_port_is_taken(environment: dict[str, str], folder: Path) -> None:
    """Another one on the same port says so in a line, as of everything that keeps it from starting."""
    log = folder / "second.log"
    assert await asyncio.wait_for((await started(environment, log)).wait(), 90) == 1
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["message"].startswith("projector does not start: [Errno")
    assert environment["HEALTH_PORT"] in last["message"]


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

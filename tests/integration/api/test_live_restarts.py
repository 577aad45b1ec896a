"""Live updates through crashes: who follows sees every commit once, whatever is killed meanwhile."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from deploy.local.child import Child, ProcessSpec
from deploy.local.nats import NatsServer
from deploy.local.ports import free_port
from shared.command_handler import Cause, CommandHandler
from shared.domain import commands as cmd
from shared.domain.events import OrchestrationSpec, TaskSpec
from shared.ending import end
from shared.jetstream.connection import connect
from shared.jetstream.event_log import JetStreamEventLog
from shared.ports import ConflictError, LogUnavailableError
from shared.system import RandomIds, SystemClock
from tests.integration.api.live_clients import Seen, follow_sse, follow_websocket
from tests.integration.api.system import KEY, NOBODY, SECRET, prepare
from tests.support.eventually import eventually

TEAM = "default"


@pytest.fixture
def api(nats: NatsServer, database_url: str, tmp_path: Path) -> Iterator[Child]:
    """The api as a process of its own, to be killed; not started yet."""
    port = free_port()
    environment = {
        "NATS_URL": nats.url,
        "NATS_MONITOR_URL": nats.monitor_url,
        "DATABASE_URL": database_url,
        "API_PORT": str(port),
        "ORCHESTRATOR_API_KEY": KEY,
        "WEBHOOK_SECRET": SECRET,
        "CURSOR_API_KEY": "none",
        "CURSOR_API_URL": NOBODY,
        "EVENTS_MAX_BYTES": str(64 * 1024**2),
        "REQUESTS_PER_MINUTE": "0",
    }
    child = Child(
        ProcessSpec(
            name="api",
            argv=[sys.executable, "-m", "services.api"],
            log=tmp_path / "api.log",
            env=environment,
            probe=lambda: _is_ready(port),
            port=port,
        )
    )
    yield child
    child.kill()


def _is_ready(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False, timeout=1)
    except httpx.TransportError:
        return False
    return answer.status_code == 200


class Hand:
    """Commits to one orchestration all the time, past the api."""

    def __init__(self, log: JetStreamEventLog) -> None:
        self.orchestration_id = RandomIds().new()
        self.log = log
        self._handler = CommandHandler(log, SystemClock(), RandomIds())

    async def create(self) -> None:
        spec = OrchestrationSpec(repository="https://github.com/acme/shop")
        task = TaskSpec(task_id=RandomIds().new(), title="t", description="Do what is described.", order_index=0)
        await self.do(
            cmd.CreateOrchestration(
                orchestration_id=self.orchestration_id, team=TEAM, created_by="me", spec=spec, tasks=(task,)
            )
        )

    async def do(self, command: cmd.AnyCommand) -> None:
        cause = Cause(RandomIds().new(), "test", "test")
        while True:
            try:
                await self._handler.handle(TEAM, self.orchestration_id, command, cause)
            except (LogUnavailableError, ConflictError):
                continue  # the same command again is carried out once
            return

    async def work(self) -> None:
        number = 0
        while True:
            number += 1
            await self.do(cmd.UpdateOrchestration(changes={"name": f"name {number}"}))
            await asyncio.sleep(0.01)

    async def sequences(self) -> list[int]:
        return [stored.sequence for stored in await self.log.read(TEAM, self.orchestration_id)]


@asynccontextmanager
async def a_hand(nats: NatsServer) -> AsyncIterator[Hand]:
    nc = await connect(nats.url, "hand")
    try:
        yield Hand(JetStreamEventLog(nc))
    finally:
        await nc.close()


def start(api: Child) -> None:
    api.start()
    api.wait_ready(60)


@pytest.mark.chaos
@pytest.mark.long
async def test_every_commit_is_seen_once_through_kills_of_the_api_of_the_broker_and_of_both(
    nats: NatsServer, database_url: str, api: Child
) -> None:
    await prepare(nats.url, database_url)
    start(api)
    url = f"http://127.0.0.1:{api.spec.port}"
    sse, websocket = Seen(), Seen()

    async def more_is_seen() -> None:
        """By both, so that each kill comes into the middle of something."""
        marks = [len(seen.messages) + 20 for seen in (sse, websocket)]
        await eventually(
            lambda: [len(sse.messages) >= marks[0], len(websocket.messages) >= marks[1]] == [True] * 2, timeout=60
        )

    async with a_hand(nats) as hand:
        await hand.create()
        async with asyncio.TaskGroup() as group:
            for follow, seen in ((follow_sse, sse), (follow_websocket, websocket)):
                group.create_task(follow(url, hand.orchestration_id, seen))
            working = group.create_task(hand.work())
            await more_is_seen()

            api.kill()
            start(api)
            await more_is_seen()

            nats.kill()
            nats.start()
            await more_is_seen()

            nats.kill()
            api.kill()
            nats.start()
            start(api)
            await more_is_seen()

            await end(working)
            await hand.do(cmd.CancelOrchestration())
        expected = await hand.sequences()
    whole = Seen()
    await follow_sse(url, hand.orchestration_id, whole)
    assert whole.connections == 1
    for seen in (sse, websocket):
        assert seen.sequences == expected
        assert seen.messages == whole.messages
        assert seen.connections >= 3

"""The running api that the state machine drives, and the clock of its decisions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from deploy.local.postgres import PostgresServer
from shared.command_handler import CommandHandler
from shared.domain import commands as cmd
from shared.jetstream.event_log import JetStreamEventLog
from shared.system import RandomIds
from tests.integration.api.system import KEY, Running, running_api
from tests.support.servers import fresh_database, nats_server


class SlowClock:
    """Goes on by a millisecond each time it is looked at, and by hours when it is told to."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC) - timedelta(days=1000)

    def now(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def go_on(self, span: timedelta) -> None:
        self._now += span


@dataclass(frozen=True)
class World:
    """A running api, asked from outside of its loop."""

    api: Running
    portal: BlockingPortal
    http: httpx.Client
    clock: SlowClock

    def decide(self, orchestration_id: str, command: cmd.AnyCommand) -> None:
        """What a service asks for; whoever reads afterwards sees it."""

        async def decided() -> None:
            done = await self.api.dispatcher.decide(orchestration_id, command)
            await self.api.parts.reader.wait_visible("default", orchestration_id, done.sequence)

        self.portal.call(decided)


@contextmanager
def world(postgres: PostgresServer) -> Iterator[World]:
    with (
        nats_server() as nats,
        fresh_database(postgres) as database_url,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_api(nats.url, database_url)) as api,
        httpx.Client(base_url=api.url, headers={"X-API-Key": KEY}, timeout=30, trust_env=False) as http,
    ):
        clock = SlowClock()
        api.dispatcher.handler = CommandHandler(JetStreamEventLog(api.runtime.nc), clock, RandomIds())
        yield World(api, portal, http, clock)

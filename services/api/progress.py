"""What agents are at, as a live message: heard from the monitor, shown to who listens at that moment, and not kept."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.api.live import LiveHub
from shared.jetstream.topology import PROGRESS_SUBJECTS
from shared.messages import Progress

_log = logging.getLogger(__name__)

_MOST_WAITING: Final = 1000
"""Messages that this process has not looked at yet; more are lost, and nothing is by that."""


@asynccontextmanager
async def progress_heard(nc: Client, hub: LiveHub) -> AsyncIterator[None]:
    """What the monitor tells of agents reaches those who follow their orchestration, inside."""

    async def on_progress(message: Msg) -> None:
        _, team, orchestration_id = message.subject.split(".")
        try:
            progress = Progress.decode(message.data)
        except ValueError as exc:
            _log.warning("Passing over what is told of an agent: %s", exc)
            return
        hub.show((team, orchestration_id), progress)

    subscription = await nc.subscribe(PROGRESS_SUBJECTS, cb=on_progress, pending_msgs_limit=_MOST_WAITING)
    try:
        yield
    finally:
        if nc.is_connected:
            await subscription.unsubscribe()

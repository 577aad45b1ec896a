"""A notifier to be killed: `python -m tests.integration.notifier.child`, its settings in the environment."""

import asyncio

from services.notifier.app import build
from services.notifier.settings import NotifierSettings
from shared.jetstream.connection import connect
from shared.observability.health import Readiness
from shared.process import Runtime


async def main() -> None:
    settings = NotifierSettings.load()
    nc = await connect(settings.nats_url, "child")
    runtime = Runtime(nc=nc, readiness=Readiness(), stop=asyncio.Event())
    async with build(settings, runtime):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

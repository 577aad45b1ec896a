"""Connecting to a broker that is there, is not yet, or never will be."""

import asyncio

import pytest

from deploy.local.nats import NatsServer
from deploy.local.ports import free_port
from shared.jetstream.connection import StoppedError, connect
from tests.support.eventually import eventually


async def test_it_waits_for_a_broker_that_comes_later(nats: NatsServer) -> None:
    nats.stop()
    connecting = asyncio.create_task(connect(nats.url, "test"))
    await asyncio.sleep(0.3)
    assert not connecting.done()
    await asyncio.to_thread(nats.start)
    nc = await asyncio.wait_for(connecting, 30)
    assert nc.is_connected
    await nc.close()


async def test_a_stop_ends_the_wait() -> None:
    stop = asyncio.Event()
    connecting = asyncio.create_task(connect(f"nats://127.0.0.1:{free_port()}", "test", stop=stop))
    await asyncio.sleep(0.2)
    stop.set()
    with pytest.raises(StoppedError):
        await asyncio.wait_for(connecting, 30)


async def test_the_wait_can_be_bounded_and_the_error_tells_no_password() -> None:
    with pytest.raises(TimeoutError) as error:
        await connect(f"nats://user:secret@127.0.0.1:{free_port()}", "test", within=0.3)
    assert "127.0.0.1" in str(error.value)
    assert "secret" not in str(error.value)


async def test_the_connection_comes_back_with_the_broker(nats: NatsServer) -> None:
    nc = await connect(nats.url, "test", within=10)
    nats.kill()
    await eventually(lambda: not nc.is_connected)
    await asyncio.to_thread(nats.start)
    await eventually(lambda: nc.is_connected)
    await nc.close()

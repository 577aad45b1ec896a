"""One simulator for all tests of a module that leave nothing behind which another could see."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from pydantic import SecretStr

from deploy.local.simulator import SimulatorSettings, create_app
from tests.simulator.serving import QUICK, client_of, serving


@pytest.fixture(scope="module")
def shared_url() -> Iterator[str]:
    with serving(create_app(SimulatorSettings(**QUICK, api_key=SecretStr("secret")))) as url:
        yield url


@pytest.fixture
async def shared_client(shared_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(shared_url, "secret") as client:
        yield client


@pytest.fixture
async def client(shared_client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Of the shared simulator with no agents in it, and with no faults on afterwards."""
    await shared_client.post("/_sim/reset")
    yield shared_client
    await shared_client.delete("/_sim/faults")

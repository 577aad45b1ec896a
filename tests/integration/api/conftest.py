"""An api for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.api.system import Running, running_api


@pytest.fixture(name="api")
async def _api(nats_url: str, database_url: str) -> AsyncIterator[Running]:
    async with running_api(nats_url, database_url) as running:
        yield running

"""What was written through one replica of the API is read from the other at once."""

import pytest

from tests.e2e.two_replicas import SETTINGS, Replicas, second_api, write_and_look
from tests.support.stack import running_system

pytestmark = [pytest.mark.e2e, pytest.mark.long]


async def test_two_hundred_writes_of_every_kind_are_shown_at_once_by_the_other_replica() -> None:
    async with running_system(**SETTINGS) as system, second_api(system) as other:
        replicas = Replicas(system.api, other)
        await write_and_look(replicas)
    assert replicas.stale == []
    assert (replicas.writes.total(), len(replicas.writes)) == (200, 20)

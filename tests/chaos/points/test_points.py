"""Services are killed at their failpoints; `make chaos-points` does it twenty times at each."""

import re
from pathlib import Path

import pytest

from deploy.local.nats import NatsServer
from shared.cursor.provider import ApiVersion
from tests.chaos.points.run import sweep
from tests.chaos.points.stories import SMOOTH, STORIES

pytestmark = pytest.mark.chaos

# Of all failpoints those between which an agent could be created twice, or be forgotten: started, asked for, there.
_LAUNCH = re.compile(r"queue-medium/(log\.append\.after|create_agent\.(sent|after))")


@pytest.mark.timeout(180)
async def test_a_dispatcher_that_dies_while_it_launches_leaves_one_agent_and_nothing_behind(
    nats: NatsServer, database_url: str, tmp_path: Path
) -> None:
    outcome = await sweep("v1", tmp_path, nats, database_url, runs=1, only=_LAUNCH, stories=[SMOOTH])
    assert not outcome.violations, outcome.text()
    assert {row.point.rpartition("/")[2]: (row.kills, row.agents) for row in outcome.rows} == {
        "create_agent.after": (1, 1),
        "create_agent.sent": (1, 1),
        "log.append.after": (1, 1),
    }


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["v1", "v0"])
async def test_wherever_a_service_dies_everything_ends_as_it_should(
    version: ApiVersion, nats: NatsServer, database_url: str, tmp_path: Path
) -> None:
    outcome = await sweep(version, tmp_path, nats, database_url, runs=1, stories=STORIES)
    assert not outcome.violations, outcome.text()
    assert len(outcome.rows) > 100

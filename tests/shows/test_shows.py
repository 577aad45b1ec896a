"""The shows at a size that takes seconds, and each at its full size."""

import json

import pytest

from deploy.local.simulator.faults import FAULTS
from tests.shows.detection import SILENCED, run_detection, seconds_until_seen
from tests.shows.drops import LOST_REPLIES, judge_drops, run_drops
from tests.shows.every_fault import SCENES, play, run_every_fault
from tests.shows.work import run_tasks
from tests.support.stack import running_system

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BOTH = pytest.mark.parametrize("version", ["v1", "v0"])
ATTEMPTS = 20
FEW = ("read_error", "follow_up_reset_after", "stop_error_before", "pr_late", "included_usage_spent", "vanish")


@BOTH
async def test_each_attempt_has_one_agent_and_each_end_is_seen_whatever_is_lost(version: str) -> None:
    settings = {
        "CURSOR_API_VERSION": version,
        "MAX_CONCURRENT_AGENTS": "20",
        "LOST_AFTER_SECONDS": "2",
        "REPLY_SECONDS": "10",
        "SIMULATOR_CANCEL_SECONDS": "0.3",
        "SIMULATOR_FAULTS": json.dumps({**LOST_REPLIES, **SILENCED[version]}),
    }
    async with running_system(**settings) as system:
        tasks = await run_tasks(system, [""] * ATTEMPTS, timeout=120)
        saw = await system.simulator()
        assert judge_drops(version, tasks, saw).agents == ATTEMPTS
        assert saw["webhooks"]["attempts"] == 0
        # Polls come every second here. That all are seen is what counts; how soon, on a busy machine, is not.
        assert len(await seconds_until_seen(system, tasks)) == ATTEMPTS
        await system.switch(**dict.fromkeys(LOST_REPLIES))
        await play(system, [scene for scene in SCENES if scene.fault in FEW])
        saw = await system.simulator()
        assert set(saw["faults"]) >= set(FEW)
        assert set(saw["creates_by_attempt"].values()) == set(saw["max_running_by_attempt"].values()) == {1}


def test_no_fault_is_left_out() -> None:
    by_scene = {version: {scene.fault for scene in SCENES if version in scene.versions} for version in ("v0", "v1")}
    of_all = by_scene["v0"] | by_scene["v1"] | {"rate_limited"}
    assert of_all == FAULTS
    only_one = {name for name in FAULTS if name.startswith(("webhook_", "stream_", "archive_", "usage_una"))}
    assert by_scene["v0"] ^ by_scene["v1"] == only_one


@pytest.mark.long
@pytest.mark.timeout(1500)
@BOTH
async def test_a_thousand_attempts_have_a_thousand_agents_though_a_third_of_the_replies_is_lost(version: str) -> None:
    assert (await run_drops(version, 1000, timeout=1200)).agents == 1000


@pytest.mark.long
@pytest.mark.timeout(1200)
@BOTH
async def test_polls_alone_see_the_ends_of_five_hundred_agents_in_time(version: str) -> None:
    found = await run_detection(version, 500, poll_interval=30, ends=(120, 300), timeout=900)
    assert (found.within(0.95) <= 60, found.longest <= 90) == (True, True), found.line()


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_every_orchestration_ends_as_it_should_whichever_fault_it_meets() -> None:
    struck = [await run_every_fault(version) for version in ("v1", "v0")]
    assert {fault for one in struck for fault in one} == FAULTS

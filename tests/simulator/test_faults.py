"""The switches themselves: how they are written, and when they strike."""

import re
from pathlib import Path
from typing import Any

import pytest

from deploy.local.simulator import SimulatorSettings
from deploy.local.simulator.behaviour import read_markers
from deploy.local.simulator.board import Board
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.faults import CHANGES, FAULTS, lasts, read_switches
from deploy.local.simulator.stats import Stats
from tests.simulator.serving import create_v1, faults, in_process, json_of, refusal, stats, v0_body, v1_body


async def test_what_is_on_is_told_in_a_form_that_can_be_set_again() -> None:
    async with in_process() as client:
        switches = {
            "create_reset_after": 0.3,
            "stop_error_before": True,
            "webhook_late": 7,
            "refuse": {"code": "role_forbidden", "count": 2, "version": "v0"},
        }
        told = json_of(await client.put("/_sim/faults", json=switches))
        assert told == {
            "create_reset_after": {"probability": 0.3},
            "refuse": {"probability": 1.0, "count": 2, "version": "v0", "code": "role_forbidden"},
            "stop_error_before": {"probability": 1.0},
            "webhook_late": {"probability": 1.0, "seconds": 7.0},
        }
        assert json_of(await client.put("/_sim/faults", json=told)) == told
        assert json_of(await client.get("/_sim/faults")) == told


async def test_a_put_replaces_a_patch_adds_and_removes_and_a_delete_turns_everything_off() -> None:
    async with in_process() as client:
        await faults(client, read_error=True)
        await faults(client, fail=True)
        assert set(json_of(await client.patch("/_sim/faults", json={"expire": True}))) == {"fail", "expire"}
        assert set(json_of(await client.patch("/_sim/faults", json={"fail": None}))) == {"expire"}
        assert json_of(await client.patch("/_sim/faults", json={"expire": False})) == {}
        await faults(client, fail=True)
        assert json_of(await client.delete("/_sim/faults")) == {}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"create_resets": True}, "create_resets:"),
        ({"fail": {"often": 1}}, "fail.often:"),
        ({"fail": {"probability": 1.5}}, "fail.probability:"),
        ({"fail": 2}, "fail.probability:"),
        ({"fail": {"count": 0}}, "fail.count:"),
        ({"fail": {"count": True}}, "fail.count:"),
        ({"fail": {"seconds": 3}}, "fail.seconds:"),
        ({"fail": {"code": "role_forbidden"}}, "fail.code:"),
        ({"fail": {"version": "v2"}}, "fail.version:"),
        ({"fail": "always"}, "fail:"),
        ({"pr_late": -1}, "pr_late.seconds:"),
        ({"refuse": True}, "refuse.code:"),
        ({"refuse": {"code": "no_such"}}, "refuse.code:"),
        ([], "body:"),
    ],
)
async def test_what_is_wrong_with_a_switch_is_named_and_nothing_is_changed(body: Any, named: str) -> None:
    async with in_process() as client:
        await faults(client, expire=True)
        for method in ("PUT", "PATCH"):
            message = refusal(await client.request(method, "/_sim/faults", json=body), 400, "validation_error")
            assert named in message
        assert set(json_of(await client.get("/_sim/faults"))) == {"expire"}


async def test_all_that_is_wrong_is_named_at_once() -> None:
    async with in_process() as client:
        message = refusal(await client.put("/_sim/faults", json={"x": 1, "fail": 3}), 400, "validation_error")
        assert "x: no such fault" in message
        assert "fail.probability" in message
        refusal(await client.put("/_sim/faults"), 400, "missing_body")


def test_a_probability_strikes_about_so_often_and_the_same_seed_at_the_same_occasions() -> None:
    def strikes(seed: int) -> list[bool]:
        board = Board(seed, Stats())
        board.replace(read_switches({"create_reset_after": 0.3}))
        return [board.strikes("create_reset_after", "v1") is not None for _ in range(1000)]

    first = strikes(1)
    assert 250 < sum(first) < 350
    assert strikes(1) == first
    assert strikes(2) != first


async def test_a_reset_lets_the_same_occasions_strike_again() -> None:
    async with in_process(faults={"create_error_before": 0.5, "plan_required": {"count": 1}}) as client:
        rounds = []
        for _ in range(2):
            answers = [await client.post("/v1/agents", json=v1_body("A task")) for _ in range(20)]
            rounds.append([one.status_code for one in answers])
            await client.post("/_sim/reset")
        assert rounds[0] == rounds[1]
        assert rounds[0].count(403) == 1


async def test_a_count_strikes_so_often_and_then_no_more() -> None:
    async with in_process(faults={"create_error_before": {"count": 2}}) as client:
        codes = [(await client.post("/v1/agents", json=v1_body())).status_code for _ in range(4)]
        assert codes == [500, 500, 201, 201]


async def test_a_switch_can_be_meant_for_one_version_alone() -> None:
    async with in_process(faults={"create_error_before": {"version": "v0"}}) as client:
        await create_v1(client)
        refusal(await client.post("/v0/agents", json=v0_body()), 500, "internal_error")


async def test_markers_come_before_switches_and_count_the_occasions_of_their_task() -> None:
    async with in_process(faults={"plan_required": True}) as client:
        text = "Task: parser\n[[sim:plan_required=2]]"
        answers = [(await client.post("/v1/agents", json=v1_body(text))).status_code for _ in range(3)]
        assert answers == [403, 403, 201]
        other = v1_body("Task: lexer\n[[sim:plan_required=0]]")
        json_of(await client.post("/v1/agents", json=other), 201)
        refusal(await client.post("/v1/agents", json=v1_body("Task: lexer")), 403, "plan_required")


@pytest.mark.parametrize("name", sorted(FAULTS - {"fail", "expire", "nochange", "slow", "refuse"}))
def test_every_fault_has_a_marker(name: str) -> None:
    assert set(read_markers(f"[[sim:{name}]]").faults) == {name}
    assert read_markers(f"[[sim:{name}=2]]").faults == {name: 2}
    with pytest.raises(ApiError, match=name):
        read_markers(f"[[sim:{name}=x]]")


async def test_the_faults_of_the_start_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATOR_FAULTS", '{"read_error": 0.5, "pr_late": 3}')
    assert set(SimulatorSettings().switches()) == {"read_error", "pr_late"}
    monkeypatch.setenv("SIMULATOR_FAULTS", '{"reed_error": 0.5}')
    with pytest.raises(ValueError, match="reed_error: no such fault"):
        SimulatorSettings()


async def test_the_control_itself_is_never_struck_and_needs_no_key() -> None:
    async with in_process(faults={"read_error": True, "rate_limited": True}) as client:
        assert (await client.get("/_sim/stats", auth=None)).status_code == 200
        assert (await client.get("/_sim/faults", auth=None)).status_code == 200
        assert (await stats(client))["calls"] == {}


def test_the_page_has_every_fault_and_no_other_and_says_which_of_them_last() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    rows = page[page.index("| fault | what happens |") :].partition("\n\n")[0].splitlines()[2:]
    said = [found for row in rows for found in re.findall(r"`(\w+)`( \(s\))?", row.split(" | ")[0])]
    documented = {
        name.replace("CALL", call): bool(lasting)
        for name, lasting in said
        for call in (CHANGES if "CALL" in name else [""])
    }
    assert documented == {name: lasts(name) is not None for name in FAULTS}

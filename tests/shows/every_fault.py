"""Every fault of the simulator against the whole system: each orchestration ends as it should all the same."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.eventually import eventually
from tests.support.stack import ENDED, RunningSystem, running_system, task

_WAIT = 400.0  # the longest way: a create that hangs is given up after two minutes, and is then settled
_LONG = "[[sim:slow=600]]"

Play = Callable[[RunningSystem, "Scene"], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """One fault, brought about by `marker`; an agent, task or follow-up that meets it; and how the task ends.

    `fault` may have others beside it that it needs to show. `versions` are those of the API that it concerns.
    """

    fault: str
    marker: str
    play: Play
    ends: tuple[str, ...] = ("COMPLETED",)
    code: str | None = None
    versions: tuple[str, ...] = ("v0", "v1")
    fields: Sequence[tuple[str, Any]] = ()

    @property
    def title(self) -> str:
        return f"Meet {self.fault}"


async def _run(system: RunningSystem, scene: Scene) -> None:
    """The fault is met on the way, and the task ends as it should."""
    orchestration_id = await _activated(system, scene, scene.marker)
    await _ends_as_it_should(system, scene, orchestration_id)


async def _cancel(system: RunningSystem, scene: Scene) -> None:
    """The orchestration is cancelled while its agent is at work, or about to be."""
    orchestration_id = await _activated(system, scene, f"{scene.marker} {_LONG}")
    await _agent_of(system, orchestration_id)
    answer = await system.api.post(f"/api/orchestrations/{orchestration_id}/cancel")
    assert answer.status_code == 200, answer.text
    await _ends_as_it_should(system, scene, orchestration_id)


async def _follow_up(system: RunningSystem, scene: Scene) -> None:
    """The agent has finished, and is told to go on."""
    orchestration_id = await _activated(system, scene, "")
    await _ends_as_it_should(system, scene, orchestration_id)
    agent_id = await _agent_of(system, orchestration_id)
    answer = await system.api.post(f"/api/cloud-agents/{agent_id}/followup", json={"prompt": f"More. {scene.marker}"})
    assert answer.status_code == 200, answer.text

    async def went_on() -> None:
        [only] = (await system.get(orchestration_id))["tasks"]
        assert [attempt["ending"] for attempt in only["attempts"]] == ["COMPLETED", "COMPLETED"], scene
        assert only["cloud_agent_id"] == agent_id

    await eventually(went_on, timeout=_WAIT, interval=0.5)


async def _delete(system: RunningSystem, scene: Scene) -> None:
    """The agent has finished, and is deleted."""
    orchestration_id = await _activated(system, scene, scene.marker)
    await _ends_as_it_should(system, scene, orchestration_id)
    agent_id = await _agent_of(system, orchestration_id)
    answer = await system.api.delete(f"/api/cloud-agents/{agent_id}")
    assert answer.status_code in (200, 202), answer.text
    await eventually(lambda: _is_gone(system, agent_id), timeout=_WAIT, interval=0.5)


async def _archive(system: RunningSystem, scene: Scene) -> None:
    """The task has ended, and its agent is archived."""
    orchestration_id = await _activated(system, scene, scene.marker)
    await _ends_as_it_should(system, scene, orchestration_id)
    agent_id = await _agent_of(system, orchestration_id)
    await eventually(lambda: _is_archived(system, agent_id), timeout=_WAIT, interval=0.5)


async def _activated(system: RunningSystem, scene: Scene, marker: str) -> str:
    body = {**task(scene.title, marker), **dict(scene.fields)}
    return await system.create([body], activate=True)


async def _ends_as_it_should(system: RunningSystem, scene: Scene, orchestration_id: str) -> None:
    async def has_ended() -> None:
        found = await system.get(orchestration_id)
        [only] = found["tasks"]
        assert only["status"] in ("COMPLETED", "FAILED", "CANCELLED"), f"{scene.fault}: {only['status']}"
        assert found["orchestration"]["status"] in ENDED

    await eventually(has_ended, timeout=_WAIT, interval=0.5)
    [only] = (await system.get(orchestration_id))["tasks"]
    assert only["status"] in scene.ends, (only["status"], only["error_code"], only["error_message"])
    if only["status"] == "FAILED":
        assert only["error_code"] == scene.code, only["error_message"]


async def _agent_of(system: RunningSystem, orchestration_id: str) -> str:
    async def known() -> Any:
        [only] = (await system.get(orchestration_id))["tasks"]
        return only["cloud_agent_id"] if only["cloud_agent_status"] else None

    agent_id: str = await eventually(known, timeout=_WAIT, interval=0.2)
    return agent_id


async def _is_gone(system: RunningSystem, agent_id: str) -> bool:
    [agent] = [one for one in (await system.simulator("agents"))["agents"] if one["id"] == agent_id]
    return "gone_at" in agent


async def _is_archived(system: RunningSystem, agent_id: str) -> bool:
    [agent] = [one for one in (await system.simulator("agents"))["agents"] if one["id"] == agent_id]
    return bool(agent["archived"])


def _of_calls() -> list[Scene]:
    """What can go wrong with each kind of call."""
    plays: dict[str, tuple[Play, tuple[str, ...], str | None, tuple[str, ...]]] = {
        "create": (_run, ("COMPLETED",), None, ("v0", "v1")),
        "follow_up": (_follow_up, ("COMPLETED",), None, ("v0", "v1")),
        "stop": (_cancel, ("CANCELLED",), None, ("v0", "v1")),
        "delete": (_delete, ("COMPLETED",), None, ("v0", "v1")),
        # Only v1 has an archive.
        "archive": (_archive, ("COMPLETED",), None, ("v1",)),
        "read": (_run, ("COMPLETED",), None, ("v0", "v1")),
    }
    scenes = []
    for call, (play, ends, code, versions) in plays.items():
        kinds = ("reset", "error") if call == "read" else ("reset_before", "reset_after", "error_before", "error_after")
        for kind in (*kinds, "truncated"):
            scenes.append(Scene(f"{call}_{kind}", f"[[sim:{call}_{kind}=1]]", play, ends, code, versions))
        scenes.append(Scene(f"{call}_slow", f"[[sim:{call}_slow=1]]", play, ends, code, versions))
        # Only the time limit of the call ends it.
        hang = f"{call}_hang"
        scenes.append(Scene(hang, f"[[sim:{hang}=1]]", play, ends, code, versions))
    return scenes


_NAMES_A_MODEL = (("model", "composer-2"),)
_ONCE = (("maxRetries", 0),)
_A_MINUTE = (("timeoutMinutes", 1), ("maxRetries", 0))

SCENES = [
    *_of_calls(),
    Scene("rate_limited_bare", "[[sim:rate_limited_bare=1]]", _run),
    Scene("extra_fields", "[[sim:extra_fields]]", _run),
    *(
        Scene(shape, f"[[sim:refuse=feature_unavailable]] [[sim:{shape}]]", _run, ("FAILED",), "CURSOR_API_ERROR")
        for shape in ("errors_as_text", "errors_flat", "errors_not_json")
    ),
    *(
        Scene(billing, f"[[sim:{billing}]]", _run, ("FAILED",), "QUOTA_EXCEEDED")
        for billing in ("usage_limit_exceeded", "plan_required", "included_usage_spent")
    ),
    Scene("branch_unverified", "[[sim:branch_unverified]]", _run, ("FAILED",), "INVALID_REPOSITORY"),
    Scene("refuse", "[[sim:refuse=role_forbidden]]", _run, ("FAILED",), "FORBIDDEN"),
    Scene("model_gone", "[[sim:model_gone]]", _run, fields=_NAMES_A_MODEL),
    Scene("model_gone_as_validation", "[[sim:model_gone_as_validation]]", _run, fields=_NAMES_A_MODEL),
    Scene("fail", "[[sim:fail=1]]", _run),
    Scene("expire", "[[sim:expire]]", _run, ("FAILED",), "AGENT_EXPIRED", fields=_ONCE),
    Scene("nochange", "[[sim:nochange]]", _run),
    Scene("slow", "[[sim:slow=1.5]]", _run),
    Scene("creating_forever", "[[sim:creating_forever]]", _cancel, ("CANCELLED",)),
    Scene("vanish", "[[sim:vanish=0]] [[sim:slow=600]]", _run, ("FAILED",), "AGENT_LOST", fields=_ONCE),
    Scene("unknown_status", "[[sim:unknown_status]] [[sim:slow=1]]", _run),
    Scene("unknown_end", "[[sim:unknown_end]]", _run, ("FAILED",), "TIMEOUT", fields=_A_MINUTE),
    *(Scene(f"{what}_late", f"[[sim:{what}_late=1]]", _run) for what in ("branch", "pr", "summary", "usage")),
    Scene("usage_unavailable", "[[sim:usage_unavailable]]", _run, versions=("v1",)),
    Scene("stop_finishes", "[[sim:stop_finishes]]", _cancel, ("CANCELLED", "COMPLETED")),
    Scene("stop_late", "[[sim:stop_late=3]]", _cancel, ("CANCELLED",)),
    Scene("stop_ignored", "[[sim:stop_ignored=1]]", _cancel, ("CANCELLED",)),
    Scene("webhook_lost", "[[sim:webhook_lost]]", _run, versions=("v0",)),
    Scene("webhook_duplicated", "[[sim:webhook_duplicated]]", _run, versions=("v0",)),
    Scene("webhook_late", "[[sim:webhook_late=2]]", _run, versions=("v0",)),
    Scene("webhook_reordered", "[[sim:webhook_reordered]]", _run, versions=("v0",)),
    Scene("webhook_early", "[[sim:webhook_early]]", _run, versions=("v0",)),
    Scene("webhook_badly_signed", "[[sim:webhook_badly_signed]]", _run, versions=("v0",)),
    Scene("webhook_old_form", "[[sim:webhook_old_form]]", _run, versions=("v0",)),
    Scene("stream_unavailable", "[[sim:stream_unavailable=2]] [[sim:slow=2]]", _run, versions=("v1",)),
    Scene("stream_expired", "[[sim:stream_expired]] [[sim:slow=2]]", _run, versions=("v1",)),
    Scene("stream_cut", "[[sim:stream_cut=2]] [[sim:slow=2]]", _run, versions=("v1",)),
    Scene("stream_silent", "[[sim:stream_silent]] [[sim:slow=2]]", _run, versions=("v1",)),
]


async def run_every_fault(version: str) -> dict[str, int]:
    """Plays all scenes of this version side by side; gives how often each fault struck.

    Raises AssertionError where something did not end as it should, a fault did not strike, or an attempt had a second
    agent.
    """
    scenes = [one for one in SCENES if version in one.versions]
    settings = {
        "CURSOR_API_VERSION": version,
        "MAX_CONCURRENT_AGENTS": "200",
        "REQUESTS_PER_MINUTE": "0",
        "SIMULATOR_CANCEL_SECONDS": "0.3",
        "LOST_AFTER_SECONDS": "4",
        "AGENT_CLEANUP": "archive" if version == "v1" else "keep",
        # A throttle is the account's: it strikes whoever comes first.
        "SIMULATOR_FAULTS": json.dumps({"rate_limited": {"count": 3, "seconds": 1}}),
    }
    async with running_system(**settings) as system:
        await play(system, scenes)
        await eventually(lambda: _nothing_runs(system), timeout=_WAIT, interval=0.5)
        saw = await system.simulator()
    expected = {one.fault for one in scenes} | {"rate_limited"}
    struck: dict[str, int] = saw["faults"]
    assert expected <= set(struck), sorted(expected - set(struck))
    assert set(saw["creates_by_attempt"].values()) == set(saw["max_running_by_attempt"].values()) == {1}
    return struck


async def play(system: RunningSystem, scenes: list[Scene]) -> None:
    """Side by side, for they wait more than they work. Raises AssertionError for all that went wrong."""
    ways = await asyncio.gather(*(scene.play(system, scene) for scene in scenes), return_exceptions=True)
    went_wrong = [f"{scene.fault}: {way!r}" for scene, way in zip(scenes, ways, strict=True) if way is not None]
    assert not went_wrong, "\n".join(went_wrong)


async def _nothing_runs(system: RunningSystem) -> bool:
    return bool((await system.simulator())["running"] == 0)

"""The command as a shell sees it: what it prints where, and its exit code."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import HTMLResponse

from tests.integration.cli.fake_api import KEY, FakeApi, error, serving
from tests.support.eventually import eventually
from tests.unit.cli.story import ID, all_completed, failed

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "three-tasks.yaml"
COLLECTION = "/api/orchestrations"


@dataclass
class Ended:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving(FakeApi(all_completed())) as fake:
        yield fake


async def start(api: FakeApi | None, *arguments: str, stdin: bytes | None = None, **settings: str) -> Process:
    given = {} if api is None else {"ORCHESTRATOR_URL": api.url, "ORCHESTRATOR_API_KEY": KEY}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **given, **settings}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def output(process: Process, stdin: bytes | None = None) -> tuple[bytes, bytes]:
    """What it writes until its end, which comes in good time or by force."""
    try:
        async with asyncio.timeout(45):
            return await process.communicate(stdin)
    except TimeoutError:
        process.kill()
        raise


async def orchestrator(api: FakeApi | None, *arguments: str, stdin: bytes | None = None, **settings: str) -> Ended:
    process = await start(api, *arguments, stdin=stdin, **settings)
    out, err = await output(process, stdin)
    assert process.returncode is not None
    ended = Ended(process.returncode, out.decode(), err.decode())
    assert KEY not in ended.out + ended.err
    assert "Traceback" not in ended.err
    return ended


async def test_run_creates_activates_and_says_how_to_follow(api: FakeApi) -> None:
    ended = await orchestrator(api, "run", str(EXAMPLE))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{ID} is under way; `orchestrator watch {ID}` follows it\n"
    assert api.requests == [("POST", COLLECTION), ("POST", f"{COLLECTION}/{ID}/activate")]
    assert api.bodies[0]["tasks"][0]["title"] == "Add a rate limiter to the public API"


async def test_run_and_watch_prints_a_line_per_change_and_the_summary(api: FakeApi) -> None:
    ended = await orchestrator(api, "run", str(EXAMPLE), "--watch")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert any(line.endswith(f"orchestration {ID}: ACTIVE") for line in lines)
    assert any("task 2/3 Test the rate limiter: COMPLETED, attempt 2/4" in line for line in lines)
    assert lines[-2:] == ["COMPLETED  All 3 tasks completed successfully", "duration 10.0s, cost $0.0369"]
    assert "\x1b" not in ended.out


async def test_run_and_watch_as_json_is_a_line_per_change(api: FakeApi) -> None:
    ended = await orchestrator(api, "run", str(EXAMPLE), "--watch", "--json")
    assert ended.code == 0
    messages = ended.json_lines()
    assert messages[0]["type"] == "status"
    assert messages[1:] == [message for moment in api.story[2:] for message in moment.messages]


async def test_run_as_json_shows_the_orchestration_under_way(api: FakeApi) -> None:
    ended = await orchestrator(api, "run", str(EXAMPLE), "--json")
    assert ended.json()["orchestration"]["status"] == "ACTIVE"


async def test_run_waits_for_a_decision_that_is_late(api: FakeApi) -> None:
    api.undecided = 2
    ended = await orchestrator(api, "run", str(EXAMPLE))
    assert (ended.code, ended.err) == (0, "")
    assert api.requests[-1] == ("POST", f"{COLLECTION}/{ID}/activate")
    assert len(api.keys) == 3
    assert len(set(api.keys)) == 1, "asked again with the same key, it is created once"


async def test_an_orchestration_that_fails_ends_the_watch_with_1() -> None:
    async with serving(FakeApi(failed())) as api:
        ended = await orchestrator(api, "watch", ID)
    assert ended.code == 1
    assert "FAILED  0/3 tasks completed  AGENT_ERROR: the agent gave up" in ended.out


async def test_create_from_options_sends_what_is_given_and_no_more(api: FakeApi) -> None:
    options = ["--repository", "acme/shop", "--task", "One: do: this", "--task", "Two: do that", "--tag", "a"]
    ended = await orchestrator(api, "create", *options, "--max-cost", "2.5")
    assert (ended.code, ended.out) == (0, f"created {ID} with 3 tasks; `orchestrator activate {ID}` starts it\n")
    assert api.bodies == [
        {
            "repository": "acme/shop",
            "tasks": [{"title": "One", "description": "do: this"}, {"title": "Two", "description": "do that"}],
            "maxCost": 2.5,
            "tags": ["a"],
        }
    ]


async def test_create_from_standard_input(api: FakeApi) -> None:
    ended = await orchestrator(api, "create", "-", "--json", stdin=b"repository: a/b\n")
    assert (ended.code, ended.json()["id"]) == (0, ID)
    assert api.bodies == [{"repository": "a/b"}]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["create"], "give a file, or at least --repository and --task"),
        (["create", str(EXAMPLE), "--ref", "dev"], "give a file or options, not both: ref"),
        (["create", "--task", "no colon"], "a title, a colon, a space, a description"),
        (["run", "/no/such.yaml"], "cannot read /no/such.yaml"),
        (["show", ".."], "'..' is not the id of an orchestration"),
        (["list", "--url", "nonsense"], "'nonsense' is not an address of the API"),
        (["fly"], "No such command"),
    ],
)
async def test_wrong_usage_ends_with_2_and_asks_the_api_nothing(
    api: FakeApi, arguments: list[str], complaint: str
) -> None:
    ended = await orchestrator(api, *arguments)
    assert ended.code == 2
    assert complaint in ended.err.replace("\n", " ")
    assert api.requests == []


async def test_without_a_key_it_ends_with_2_and_says_where_keys_come_from(tmp_path: Path) -> None:
    ended = await orchestrator(None, "list", ORCHESTRATOR_DATA_DIR=str(tmp_path))
    assert ended.code == 2
    assert "ORCHESTRATOR_API_KEY is not set" in ended.err


async def test_the_key_file_of_a_local_system_opens_its_api(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text(KEY)
    ended = await orchestrator(api, "list", ORCHESTRATOR_API_KEY="", ORCHESTRATOR_DATA_DIR=str(tmp_path))
    assert ended.code == 0


async def test_an_api_that_is_not_there_ends_with_3(api: FakeApi) -> None:
    ended = await orchestrator(api, "list", "--url", "http://127.0.0.1:9")
    assert ended.code == 3
    assert ended.err.startswith("orchestrator: cannot reach the API at http://127.0.0.1:9: ")


async def test_another_site_than_the_api_ends_with_3(api: FakeApi) -> None:
    api.refuse = HTMLResponse("<h1>Welcome</h1>")
    ended = await orchestrator(api, "list")
    assert ended.code == 3
    assert "is that the orchestrator's API?" in ended.err


async def test_a_refusal_ends_with_4_and_names_every_bad_field(api: FakeApi) -> None:
    fields = [
        {"field": "repository", "message": "must be owner/repo"},
        {"field": "tasks[0].title", "message": "is missing"},
    ]
    api.refuse = error(400, "INVALID_REQUEST", "2 fields are wrong", fields=fields)
    ended = await orchestrator(api, "create", str(EXAMPLE))
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.splitlines() == [
        "orchestrator: INVALID_REQUEST: 2 fields are wrong",
        "  repository: must be owner/repo",
        "  tasks[0].title: is missing",
    ]


async def test_a_wrong_key_ends_with_4(api: FakeApi) -> None:
    ended = await orchestrator(api, "list", ORCHESTRATOR_API_KEY="wrong-one")
    assert (ended.code, ended.err) == (4, "orchestrator: INVALID_API_KEY: the key is not known\n")


async def test_a_refusal_of_something_before_the_api_ends_with_4(api: FakeApi) -> None:
    api.refuse = HTMLResponse("<h1>Bad Gateway</h1>", 502)
    ended = await orchestrator(api, "show", ID)
    assert ended.code == 4
    assert ended.err == f"orchestrator: HTTP_502: Bad Gateway ({COLLECTION}/{ID})\n"


async def test_activate_twice_is_fine(api: FakeApi) -> None:
    first = await orchestrator(api, "activate", ID)
    second = await orchestrator(api, "activate", ID, "--json")
    assert first.out == f"{ID}: Activated, ACTIVE\n"
    assert second.json() == {"id": ID, "status": "ACTIVE", "message": "Already active"}


async def test_list_show_and_events_for_people(api: FakeApi) -> None:
    api.position = len(api.story) - 1
    listed, shown, events = await asyncio.gather(
        orchestrator(api, "list"), orchestrator(api, "show", ID), orchestrator(api, "events", ID)
    )
    assert ID in listed.out
    assert "there are more" in listed.out
    assert "cursor/task-1" in shown.out
    assert [line.split()[-3] for line in events.out.splitlines() if "event." in line] == [
        f"event.{version}" for version in range(1, 7)
    ]


async def test_list_show_and_events_for_programs(api: FakeApi) -> None:
    listed, shown, events = await asyncio.gather(
        orchestrator(api, "list", "--json"),
        orchestrator(api, "show", ID, "--json"),
        orchestrator(api, "events", ID, "--json"),
    )
    assert listed.json()["items"][0]["id"] == ID
    assert shown.json() == api.story[0].view
    assert [event["version"] for event in events.json()["items"]] == [1, 2, 3, 4, 5, 6]


async def test_ctrl_c_ends_a_watch_with_130_and_without_noise(api: FakeApi) -> None:
    api.hold.clear()
    process = await start(api, "watch", ID)
    await eventually(lambda: bool(api.resumed_after))
    process.send_signal(signal.SIGINT)
    _, err = await output(process)
    assert (process.returncode, err) == (130, b"")


async def test_help_names_every_command_and_loads_none() -> None:
    ended = await orchestrator(None, "--help")
    for name in ("up", "demo", "run", "create", "activate", "list", "show", "watch", "events"):
        assert f"  {name} " in ended.out
    probe = "import sys, cli.main; sys.exit(any(m in sys.modules for m in ('httpx', 'rich', 'pydantic', 'deploy')))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", probe, cwd=ROOT)
    assert await process.wait() == 0

"""The command on a real API with its broker and its database."""

import asyncio
import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from deploy.local.postgres import PostgresServer
from tests.integration.api.system import KEY, Running, running_api
from tests.integration.cli.test_commands import output, start
from tests.support.eventually import eventually
from tests.support.servers import fresh_database, nats_server
from tests.unit.cli.stub_api import Ended, run_command

pytestmark = pytest.mark.asyncio(loop_scope="module")

TWO = """
repository: acme/shop
name: Two tasks
tasks:
  - {title: First, description: Do the first thing.}
  - {title: Second, description: Do the second thing.}
"""


@pytest_asyncio.fixture(name="api", scope="module", loop_scope="module")
async def _api(postgres: PostgresServer) -> AsyncIterator[Running]:
    with nats_server() as nats, fresh_database(postgres) as database_url:
        async with running_api(nats.url, database_url) as running:
            yield running


async def orchestrator(api: Running, *arguments: str, stdin: str | None = None, key: str = KEY) -> Ended:
    return await asyncio.to_thread(run_command, api.url, key, *arguments, stdin=stdin)


async def line_with(words: str, process: Process) -> str:
    """The next line that it prints with these words."""
    assert process.stdout is not None
    while words not in (line := (await process.stdout.readline()).decode()):
        assert line, f"it ended without {words}"
    return line


async def good(api: Running, *arguments: str, stdin: str | None = None) -> Any:
    ended = await orchestrator(api, *arguments, "--json", stdin=stdin)
    assert ended.code == 0, ended.err
    return ended.json()


async def test_from_creation_over_every_change_to_deletion(api: Running) -> None:
    created = await good(api, "create", "-", "--idempotency-key", "same", stdin=TWO)
    again = await good(api, "create", "-", "--idempotency-key", "same", stdin=TWO)
    assert again == created
    one = created["id"]
    added = await good(api, "add-task", one, "Third: Do the third thing.", "--depends-on", "2", "--priority", "high")
    assert added["depends_on"] == [created["tasks"][1]["id"]]
    changed = await good(api, "patch", one, "--name", "Three tasks", "--tag", "a", "--max-cost", "2.5")
    assert (changed["name"], changed["tags"], changed["max_cost"]) == ("Three tasks", ["a"], 2.5)
    assert (await good(api, "task", "patch", f"{one}#3", "--complexity", "simple"))["complexity"] == "simple"
    assert (await good(api, "skip", f"{one}#First"))["status"] == "SKIPPED"
    assert (await good(api, "activate", one))["status"] == "ACTIVE"
    assert (await good(api, "pause", one, "--drain"))["message"] == "Paused"
    assert (await good(api, "resume", one))["message"] == "Resumed"
    listed = await good(api, "list", "--tag", "a", "-q", "three", "--since", "1h")
    events, stats = await good(api, "events", one), await good(api, "stats", one)
    assert [item["id"] for item in listed["items"]] == [one]
    assert stats["totalTasks"] == 3
    past = await good(api, "show", one, "--at", str(events["items"][0]["sequence"]))
    assert len(past["tasks"]) == 2
    deleted = await orchestrator(api, "delete", one, "--yes", "--wait")
    assert (deleted.code, deleted.out) == (0, f"{one}: Deleted\n")
    gone = await orchestrator(api, "show", one)
    assert (gone.code, gone.err) == (
        4,
        "orchestrator: ORCHESTRATION_NOT_FOUND: there is no orchestration with this id\n",
    )


async def test_a_watch_and_a_log_go_on_to_the_end(api: Running) -> None:
    one = (await good(api, "run", "-", stdin=TWO))["orchestration"]["id"]
    watching = await start(None, "watch", one, "--json", ORCHESTRATOR_URL=api.url, ORCHESTRATOR_API_KEY=KEY)
    reading = await start(None, "logs", one, "--follow", ORCHESTRATOR_URL=api.url, ORCHESTRATOR_API_KEY=KEY)
    assert watching.stdout is not None
    async with asyncio.timeout(40):
        first = json.loads(await watching.stdout.readline())
        assert "created by" in await line_with("", reading)
    assert (first["type"], first["data"]["orchestration"]["id"]) == ("status", one)
    await eventually(lambda: api.parts.hub.listeners == 2, timeout=30)
    await good(api, "pause", one)
    async with asyncio.timeout(40):
        assert json.loads(await line_with('"PAUSED"', watching))["type"] == "orchestration_updated"
        assert "INFO" in await line_with("paused", reading)
    assert (await good(api, "cancel", one))["message"].startswith("Cancel")
    (messages, _), (lines, _) = await asyncio.gather(output(watching), output(reading))
    assert (watching.returncode, reading.returncode) == (1, 0)
    told = [json.loads(line) for line in messages.splitlines()]
    assert told[-1]["type"] == "orchestration_completed"
    assert told[-1]["data"]["status"] == "CANCELLED"
    assert "CANCELLED" in lines.decode()


async def test_a_key_that_was_made_opens_what_it_may_until_it_is_revoked(api: Running) -> None:
    made = await orchestrator(api, "keys", "create", "ci", "-p", "orchestrations:read")
    key = made.out.strip()
    assert (await orchestrator(api, "list", key=key)).code == 0
    assert "FORBIDDEN" in (await orchestrator(api, "bulk", "-", "--repositories", "a/b", stdin=TWO, key=key)).err
    listed = (await good(api, "keys", "list"))["items"]
    assert key not in json.dumps(listed)
    assert (await good(api, "keys", "revoke", listed[0]["id"]))["status"] == "REVOKED"


async def test_what_the_api_refuses_it_refuses_by_name(api: Running) -> None:
    some = await good(api, "create", "--repository", "acme/shop", "--task", "First: Do the first thing.")
    ended = await orchestrator(api, "patch", some["id"], "--max-cost", "-1", "--set", "colour=red")
    assert ended.code == 4
    assert "maxCost: " in ended.err
    assert "colour: is not a known field" in ended.err
    bulk = await orchestrator(api, "bulk", "-", "--repositories", "a/b,nonsense", stdin=TWO)
    assert bulk.code == 4
    assert "1 created, 1 refused" in bulk.out

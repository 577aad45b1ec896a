"""Runs schemathesis against an api at work."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.fuzz.things import Things, make_things
from tests.integration.api.system import KEY
from tests.integration.api.test_agents import Provided, provided
from tests.support.servers import temporary_folder

_FOLDER: Final = Path(__file__).parent
_PROJECT: Final = _FOLDER.parents[1]
_NO_LIMIT: Final = 1_000_000
_CASES: Final = re.compile(r"(\d[\d,]*) (?:test cases? )?generated")


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """How it went: what schemathesis printed, its exit status, and how many requests it made up."""

    output: str
    status: int
    cases: int


@dataclass(frozen=True, slots=True)
class Target:
    """An api at work, with things that requests can hit."""

    url: str
    things: Things

    async def fuzz(self, *options: str) -> Fuzzed:
        """Run schemathesis with these options; what it sends is the same each time with `--seed`."""
        environment = {
            **os.environ,
            "FUZZ_URL": self.url,
            "FUZZ_KEY": KEY,
            "FUZZ_THINGS": json.dumps(self.things.as_json()),
            "PYTHONPATH": str(_PROJECT),
            "PYTHONHASHSEED": "0",
        }
        command = ("-m", "schemathesis.cli", "--config-file", str(_FOLDER / "schemathesis.toml"), "run")
        with temporary_folder() as folder:  # for what it writes down between two runs
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *command, f"{self.url}/openapi.json", *options),
                cwd=folder,
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                printed, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        output = printed.decode(errors="replace")
        found = _CASES.search(output)
        return Fuzzed(output, process.returncode or 0, int(found[1].replace(",", "")) if found else 0)


@asynccontextmanager
async def target(nats_url: str, database_url: str) -> AsyncIterator[Target]:
    """An api with a provider behind it, an agent at work there, and all that `make_things` makes."""
    settings: dict[str, Any] = {
        "get_rate_per_minute": _NO_LIMIT,
        "list_rate_per_minute": _NO_LIMIT,
        # On a machine that is busy rows that are late are not to lead to a 503.
        "visible_seconds": 30.0,
    }
    async with provided(nats_url, database_url, **settings) as p:
        things = await make_things(p.api, database_url)
        _add_agent(things, p)
        yield Target(p.api.url, things)


def _add_agent(things: Things, p: Provided) -> None:
    """The one that the provider has, too, often enough among those that it has not."""
    things.orchestration_id.append(p.orchestration["id"])
    things.agent_id += [p.agent_id] * len(things.agent_id)

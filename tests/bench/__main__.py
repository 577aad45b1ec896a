"""`python -m tests.bench`: the whole system under load on this machine, against the simulator."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from deploy.local.settings import LocalSettings
from deploy.local.up import Stack, run_up
from tests.bench import streams
from tests.bench.load import Load, run_load
from tests.bench.report import print_report

# Nothing is to be measured but ourselves: agents end at once, and as many run as want to.
_NO_DELAY = {
    "SIMULATOR_DURATION_SECONDS": "0",
    "SIMULATOR_CREATE_SECONDS": "0",
    "API_PORT": "0",
    "SIMULATOR_PORT": "0",
    "LOG_LEVEL": "WARNING",
    "REQUESTS_PER_MINUTE": "0",
}


def main() -> int:
    if sys.argv[1:2] == ["streams"]:
        return streams.main(sys.argv[2:])
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("NATS_URL", "DATABASE_URL")},
            **_NO_DELAY,
            "MAX_CONCURRENT_AGENTS": str(arguments.agents),
            "CURSOR_API_VERSION": arguments.api,
            "ORCHESTRATOR_DATA_DIR": folder,
        }
        for name in ("CURSOR_API_KEY", "CURSOR_API_URL", "NATS_MONITOR_URL"):
            environment.pop(name, None)
        code, results = asyncio.run(_bench(LocalSettings.from_environment(environment), arguments))
    for result in results:
        print_report(result)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n")
    return code


async def _bench(settings: LocalSettings, arguments: argparse.Namespace) -> tuple[int, list[dict[str, Any]]]:
    stop = asyncio.Event()
    load = Load(arguments.orchestrations, arguments.clients, arguments.warmup, arguments.timeout)

    async def measure(stack: Stack) -> None:
        try:
            result = await run_load(stack, load)
        finally:
            stop.set()
        result |= {"api_version": arguments.api, "max_concurrent_agents": arguments.agents}
        results.append(result)

    results: list[dict[str, Any]] = []
    code = await run_up(settings, on_ready=measure, stop=stop)
    return code, results


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="N orchestrations of three tasks, C clients")
    parser.add_argument("-n", "--orchestrations", type=int, default=100)
    parser.add_argument("-c", "--clients", type=int, default=8)
    parser.add_argument("--agents", type=int, default=50, help="agents at once (MAX_CONCURRENT_AGENTS)")
    parser.add_argument("--api", choices=("v0", "v1"), default="v0", help="v0 ends by webhook, v1 by stream")
    parser.add_argument("--warmup", type=int, default=10, help="orchestrations before the measured ones")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for the whole load")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

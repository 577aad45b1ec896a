"""`python -m tests.chaos.points`: the sweep over all failpoints, on both versions of the provider's API.

Exit code 0: everything held. 1: something did not; the last lines say what.
"""

import argparse
import asyncio
import json
import logging
import re
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.chaos.points.run import sweep
from tests.support.servers import fresh_database, nats_server, postgres_server, temporary_folder


def main() -> int:
    asked = _arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("tests").setLevel(logging.INFO)
    began, violations, outcomes = time.monotonic(), 0, []
    for version in asked.api:
        with (
            nats_server() as nats,
            postgres_server() as server,
            fresh_database(server) as database,
            temporary_folder() as folder,
        ):
            outcome = asyncio.run(sweep(version, folder, nats, database, runs=asked.runs, only=re.compile(asked.only)))
            if asked.logs is not None:
                shutil.copytree(folder, asked.logs / version, dirs_exist_ok=True)
        print(outcome.text(), flush=True)
        outcomes.append(outcome)
        violations += len(outcome.violations)
    print(f"{violations} violations, {time.monotonic() - began:.0f} s")
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    return 1 if violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.points", description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=20, help="kills at each failpoint (20)")
    parser.add_argument("--api", nargs="+", choices=["v1", "v0"], default=["v1", "v0"], help="versions (both)")
    parser.add_argument("--only", default="", help="failpoints whose name matches this regular expression")
    parser.add_argument("--logs", type=Path, help="folder in which to leave what the services logged")
    parser.add_argument("--json", type=Path, help="file for the table and the violations")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.shows`: the whole system against a provider that misbehaves, at full size; prints the tables."""

import argparse
import asyncio
import sys

from tests.shows import detection, drops, every_fault

VERSIONS = ("v1", "v0")


def main() -> int:
    arguments = _arguments()
    versions = [arguments.api] if arguments.api else VERSIONS
    match arguments.show:
        case "drops":
            print(drops.TABLE)
            for version in versions:
                print(asyncio.run(drops.run_drops(version, arguments.number or 1000, timeout=1200)).line(), flush=True)
        case "detection":
            print(detection.TABLE)
            for version in versions:
                print(asyncio.run(_detection(version, arguments.number or 500)).line(), flush=True)
        case "faults":
            for version in versions:
                struck = asyncio.run(every_fault.run_every_fault(version))
                print(f"{version}: {len(struck)} faults struck, {sum(struck.values())} times; all ended as they should")
    return 0


async def _detection(version: str, agents: int) -> detection.Detection:
    found = await detection.run_detection(version, agents, poll_interval=30, ends=(120, 300), timeout=900)
    assert found.within(0.95) <= 60, f"p95 is {found.within(0.95):.1f} s"
    assert found.longest <= 90, f"the longest is {found.longest:.1f} s"
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.shows", description=__doc__)
    parser.add_argument("show", choices=("drops", "detection", "faults"))
    parser.add_argument("-n", "--number", type=int, help="attempts (1000), or agents (500)")
    parser.add_argument("--api", choices=VERSIONS, help="one version of the API instead of both")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

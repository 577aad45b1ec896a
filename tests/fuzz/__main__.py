"""`python -m tests.fuzz [OPTION…]`: many requests; the options are those of `schemathesis run`, such as `--seed`."""

import asyncio
import sys
from typing import Final

from tests.fuzz.fuzzing import Fuzzed, target
from tests.support.servers import fresh_database, nats_server, postgres_server

_LEAST: Final = 5000
_OPTIONS: Final = ("--max-examples", "70")
"""Of each operation and phase; together well over the least."""


async def fuzz(options: list[str]) -> Fuzzed:
    with nats_server() as nats, postgres_server() as postgres, fresh_database(postgres) as database_url:
        async with target(nats.url, database_url) as api:
            return await api.fuzz(*(options or _OPTIONS))


def main(options: list[str]) -> int:
    fuzzed = asyncio.run(fuzz(options))
    print(fuzzed.output)
    print(f"{fuzzed.cases} requests")
    too_few = not options and fuzzed.cases < _LEAST
    return fuzzed.status or int(too_few)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

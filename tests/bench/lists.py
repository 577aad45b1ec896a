"""`python -m tests.bench.lists`: what a page of a list costs at a thousand and at a million orchestrations.

Rows are made by the database itself, in the shape in which the projector writes them. Writes a table as Markdown.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from services.api.costs import CostQueries, GroupBy, Span
from services.api.listing import Listing, choose
from services.api.listing_plan import Wanted, make_plan
from shared.postgres.migrate import migrate
from shared.postgres.pool import Pool, make_pool
from tests.support.servers import fresh_database, postgres_server

TEAM: Final = "big"
_LIMIT: Final = 20
_REPOSITORY: Final = "https://github.com/acme/repo-"

# Seven of ten are the big team's. One in two says "deploy", one in 200 "invoice", 30 in all say "zanzibar"; "legacy" is
# only in the older half, and the other words are as uneven as words are. Of the tags one in three has "nightly", one in
# a hundred "hotfix", 20 "once". Nearly all are over: one in 1000 is ACTIVE.
_FILL: Final = """
CREATE TEMPORARY TABLE wanted AS
SELECT i, CASE WHEN random() < 0.7 THEN 'big' ELSE 'team-' || floor(random() * 30)::int END AS team_id,
       substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-8' || substr(h, 18, 3) || '-'
           || substr(h, 21, 12) AS id,
       timestamptz '2026-01-01' + i * interval '10 seconds' AS created_at,
       CASE WHEN r < 0.001 THEN 'ACTIVE' WHEN r < 0.002 THEN 'PAUSED' WHEN r < 0.1 THEN 'FAILED'
            WHEN r < 0.15 THEN 'CANCELLED' WHEN r < 0.2 THEN 'PARTIAL_COMPLETED' ELSE 'COMPLETED' END AS status,
       'https://github.com/acme/repo-' || floor(power(random(), 4) * 2000)::int AS repository,
       'person-' || floor(power(random(), 2) * 40)::int AS created_by,
       array_remove(ARRAY[CASE WHEN random() < 0.33 THEN 'nightly' END, CASE WHEN random() < 0.01 THEN 'hotfix' END,
                          CASE WHEN i %% greatest(%(n)s / 28, 1) = 0 THEN 'once' END], NULL) AS tags,
       ' ' || array_to_string(array_remove(ARRAY[
           CASE WHEN random() < 0.5 THEN 'deploy' END, CASE WHEN random() < 0.005 THEN 'invoice' END,
           CASE WHEN i %% greatest(%(n)s / 43, 1) = 1 THEN 'zanzibar' END,
           CASE WHEN i < %(n)s / 2 THEN 'legacy' END] || vocabulary.words, NULL), ' ') || ' ' AS words
FROM generate_series(1, %(n)s) AS i
CROSS JOIN LATERAL (SELECT md5('seed' || i) AS h, random() AS r) AS chance
CROSS JOIN LATERAL (
    SELECT array_agg('word' || to_hex((power(random(), 4) * 30000)::int + 0 * (i + k))) AS words
    FROM generate_series(1, 10) AS k
) AS vocabulary;

INSERT INTO orchestrations (team_id, id, seq, version, status, name, repository, ref, tags, created_by, created_at,
                            updated_at, completed_at, words, view)
SELECT team_id, id, i, 7, status, words, repository, 'main', tags, created_by, created_at,
       created_at + random() * interval '1 day', NULL, words,
       json_build_object('id', id, 'name', words, 'status', status, 'repository', repository, 'tags', tags,
                         'filler', repeat('x', 900))
FROM wanted ORDER BY i;

INSERT INTO orchestration_terms (team_id, term, created_at, id)
SELECT DISTINCT team_id, term COLLATE "C", created_at, id FROM (
    SELECT team_id, unnest(ARRAY['s:' || status, 'r:' || repository, 'c:' || created_by]
        || array(SELECT 't:' || tag FROM unnest(tags) AS tag)
        || array(SELECT 'w:' || word FROM unnest(string_to_array(trim(words), ' ')) AS word)) AS term, created_at, id
    FROM wanted
) AS named ORDER BY 1, 2, 3, 4;

INSERT INTO attempt_costs (team_id, attempt_id, task_id, orchestration_id, repository, model, ended_at, failed,
                           duration_ms, cost, seq)
SELECT team_id, id || '-a', id || '-t', id, repository, CASE WHEN random() < 0.5 THEN 'o3' END,
       created_at + interval '20 minutes', random() < 0.1, 1200000 * random(), random(), i
FROM wanted;
DROP TABLE wanted;
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of list; `deep` is measured a hundred pages from the beginning."""

    title: str
    wanted: Wanted
    deep: bool = False


_MIDDLE: Final = datetime(2026, 1, 1, 1, tzinfo=UTC)

CASES: Final = (
    Case("no filter", Wanted()),
    Case("no filter, oldest first", Wanted(sort="created_at")),
    Case("no filter, last changed first", Wanted(sort="-updated_at")),
    Case("no filter, 100 pages on", Wanted(), deep=True),
    Case("status COMPLETED (80 %)", Wanted(statuses=("COMPLETED",))),
    Case("status ACTIVE (0.1 %)", Wanted(statuses=("ACTIVE",))),
    Case("status ACTIVE or PAUSED", Wanted(statuses=("ACTIVE", "PAUSED"))),
    Case("status FAILED, CANCELLED, by change", Wanted(statuses=("FAILED", "CANCELLED"), sort="-updated_at")),
    Case("a large repository", Wanted(repository=f"{_REPOSITORY}0")),
    Case("a small repository", Wanted(repository=f"{_REPOSITORY}1900")),
    Case("a repository, last changed first", Wanted(repository=f"{_REPOSITORY}0", sort="-updated_at")),
    Case("created by one person", Wanted(created_by="person-7")),
    Case("nobody of this name", Wanted(created_by="nobody")),
    Case("tag nightly (33 %)", Wanted(tags=("nightly",))),
    Case("tag once (20 in all)", Wanted(tags=("once",))),
    Case("tags nightly and hotfix", Wanted(tags=("nightly", "hotfix"))),
    Case("tag hotfix, last changed first", Wanted(tags=("hotfix",), sort="-updated_at")),
    Case("a word in every second text", Wanted(search="deploy")),
    Case("a word in one of 200", Wanted(search="invoice")),
    Case("a word in 30 of all", Wanted(search="zanzibar")),
    Case("a word of the older half only", Wanted(search="legacy")),
    Case("a word that nobody wrote", Wanted(search="xyzzy")),
    Case("a beginning that many words have", Wanted(search="wor")),
    Case("two words, both frequent", Wanted(search="deploy legacy")),
    Case("a frequent and a rare word", Wanted(search="deploy zanzibar")),
    Case("a phrase", Wanted(search='"deploy invoice"')),
    Case("a word and not another", Wanted(search="invoice -deploy")),
    Case("a frequent word, last changed first", Wanted(search="deploy", sort="-updated_at")),
    Case("a rare word, last changed first", Wanted(search="zanzibar", sort="-updated_at")),
    Case("a frequent word, status ACTIVE", Wanted(search="deploy", statuses=("ACTIVE",))),
    Case("repository, tag, person, status, word", Wanted(
        statuses=("COMPLETED", "FAILED"), repository=f"{_REPOSITORY}0", tags=("nightly",), created_by="person-0",
        search="deploy",
    )),
    Case("one hour", Wanted(since=datetime(2026, 1, 1, tzinfo=UTC), until=_MIDDLE)),
    Case("one hour, last changed first", Wanted(
        since=datetime(2026, 1, 1, tzinfo=UTC), until=_MIDDLE, sort="-updated_at"
    )),
)  # fmt: skip


SUMS: Final[tuple[tuple[str, GroupBy | None, Span], ...]] = (
    ("costs in all", None, Span()),
    ("costs of one day", None, Span(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))),
    ("costs by month", "month", Span()),
    ("costs by repository, one page", "repository", Span()),
    ("costs by orchestration, one page", "orchestration", Span()),
)


def main() -> int:
    arguments = _arguments()
    with postgres_server() as server:
        measured = []
        for rows in arguments.rows:
            with fresh_database(server) as dsn:
                measured.append(asyncio.run(_measure(dsn, rows, arguments)))
    text = _table(arguments.rows, measured)
    print(text)
    if arguments.out:
        Path(arguments.out).write_text(text)
    return 0


async def _measure(dsn: str, rows: int, arguments: argparse.Namespace) -> list[list[Any]]:
    begin = time.monotonic()
    await asyncio.to_thread(fill, dsn, rows)
    print(f"{rows} rows made in {time.monotonic() - begin:.0f} s", file=sys.stderr)
    async with make_pool(dsn, name="bench", max_size=1) as pool:
        lists = [await _case(pool, case, arguments) for case in CASES]
        return lists + [await _sums(pool, by, span, arguments) for _, by, span in SUMS]


def fill(dsn: str, rows: int) -> None:
    """Make the schema and so many orchestrations in an empty database."""
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute("SET statement_timeout = 0")
        for statement in _FILL.replace("%(n)s", str(rows)).replace("%%", "%").split(";\n"):
            if statement.strip():
                connection.execute(statement.encode())
        connection.execute("VACUUM (ANALYZE)")


async def _case(pool: Pool, case: Case, arguments: argparse.Namespace) -> list[Any]:
    listing = Listing(pool)
    cursor, page = None, None
    for _ in range(100 if case.deep else 0):
        page = await listing.page(TEAM, case.wanted, limit=_LIMIT, cursor=cursor)
        cursor = page.next_cursor or cursor
    times = []
    for _ in range(arguments.repeat):
        begin = time.perf_counter()
        page = await listing.page(TEAM, case.wanted, limit=_LIMIT, cursor=cursor)
        times.append((time.perf_counter() - begin) * 1000)
    assert page is not None
    plan, buffers = await _explain(pool, case)
    if arguments.plans:
        print(f"--- {case.title}\n{plan}\n", file=sys.stderr)
    return [len(page.items), statistics.median(times), sorted(times)[round(len(times) * 0.99) - 1], buffers]


async def _sums(pool: Pool, by: GroupBy | None, span: Span, arguments: argparse.Namespace) -> list[Any]:
    queries, times, found = CostQueries(pool), [], 0
    for _ in range(max(3, arguments.repeat // 10)):
        begin = time.perf_counter()
        found = len((await queries.sums(TEAM, span, by=by, limit=_LIMIT)).groups)
        times.append((time.perf_counter() - begin) * 1000)
    return [found, statistics.median(times), max(times), None]


async def _explain(pool: Pool, case: Case) -> tuple[str, int]:
    """The plan of the first page with what it read, and how many blocks that were."""
    plan = make_plan(TEAM, case.wanted, _LIMIT, None)
    async with pool.connection() as connection:
        statement = await choose(connection, plan)
        await connection.execute("SET LOCAL jit = off")
        cursor = await connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}", plan.values)
        lines = [line for (line,) in await cursor.fetchall()]
    blocks = next((line for line in lines if "Buffers: shared" in line), "")
    return "\n".join(lines), sum(int(part.split("=")[1]) for part in blocks.split() if part[:4] in ("hit=", "read"))


def _table(rows: Iterable[int], measured: list[list[list[Any]]]) -> str:
    rows = list(rows)
    heads = ["list"] + [head for count in rows for head in (f"{count:,} rows: items", "p50 ms", "p99 ms", "blocks")]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    titles = [case.title for case in CASES] + [title for title, _, _ in SUMS]
    for place, title in enumerate(titles):
        cells = [title]
        for results in measured:
            items, p50, p99, blocks = results[place]
            cells.append(" | ".join([str(items), f"{p50:.1f}", f"{p99:.1f}", str(blocks or "")]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lists", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 1_000_000])
    parser.add_argument("--repeat", type=int, default=100, help="pages of each kind")
    parser.add_argument("--plans", action="store_true", help="print each plan on stderr")
    parser.add_argument("--out", metavar="FILE", help="write the table there too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

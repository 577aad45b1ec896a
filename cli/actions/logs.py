"""The log of an orchestration: what there is of it, and what comes."""

import asyncio
from contextlib import aclosing

from cli import formats, paths
from cli.client import Client, View
from cli.errors import ExitCode, RefusedError, UnreachableError
from cli.follow import follow
from cli.naming import task_id_within
from cli.output import json_line, plain_line

_PAGE = 500
_LAST_TRIES = 20
_LAST_WAIT_SECONDS = 0.5


async def logs(
    client: Client,
    orchestration_id: str,
    *,
    level: str | None,
    task: str | None,
    after: int | None,
    follow_on: bool,
    as_json: bool,
) -> int:
    """Prints each line of this level and above, and of this task if one is named; a JSON object per line for programs.

    With `follow_on` it goes on to the end of the orchestration, over an API that is away for a while.
    """
    wanted = await task_id_within(client, orchestration_id, task) if task is not None else None
    tail = _Tail(client, orchestration_id, level=level, task=wanted, after=after, as_json=as_json)
    await tail.print_news()
    if follow_on:
        await _follow(client, orchestration_id, tail)
    return ExitCode.FINE


async def _follow(client: Client, orchestration_id: str, tail: "_Tail") -> None:
    """Each whole commit that is told live may have led to lines."""
    deleted = False
    async with aclosing(follow(client, orchestration_id)) as snapshots:
        async for snapshot in snapshots:
            deleted = snapshot.deleted
            if snapshot.note is None and not deleted:
                await tail.try_news()
    if not deleted:
        await tail.print_last()


class _Tail:
    """Prints every line once."""

    def __init__(
        self,
        client: Client,
        orchestration_id: str,
        *,
        level: str | None,
        task: str | None,
        after: int | None,
        as_json: bool,
    ) -> None:
        self._client = client
        self._path = f"{paths.orchestration(orchestration_id)}/logs"
        self._filters = {"level": level, "task": task}
        self._after = after
        self._cursor: str | None = None
        """Of a page that could not be read: it may begin within a commit."""
        self._as_json = as_json

    async def print_news(self) -> None:
        """What has come since the last time. Lines of one commit come together, so its sequence is a place to go on."""
        while True:
            after = None if self._cursor else self._after
            wanted = {**self._filters, "limit": _PAGE, "cursor": self._cursor, "after": after}
            page = await self._client.get(self._path, wanted)
            for line in page.get("items", []):
                self._print(line)
                self._after = line["sequence"]
            self._cursor = page.get("nextCursor")
            if not self._cursor:
                return

    async def try_news(self) -> bool:
        """False where the API is away, or has no log any more: what is missed now comes with the next."""
        try:
            await self.print_news()
        except UnreachableError:
            return False
        except RefusedError as refusal:
            if not refusal.is_passing and refusal.status != 404:
                raise
            return refusal.status == 404
        return True

    async def print_last(self) -> None:
        for _ in range(_LAST_TRIES):
            if await self.try_news():
                return
            await asyncio.sleep(_LAST_WAIT_SECONDS)
        await self.print_news()

    def _print(self, line: View) -> None:
        if self._as_json:
            json_line(line)
        else:
            plain_line(_words(line))


def _words(line: View) -> str:
    level = str(line.get("level", "info")).upper()
    return f"{formats.date_and_time(line.get('time'))}  {level:<7}  {formats.clean(line.get('message', ''))}"

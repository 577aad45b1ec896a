"""Reading orchestrations: `list`, `show`, `stats`, `events`."""

from rich.console import Group, RenderableType
from rich.text import Text

from cli import formats, paths, render, tables
from cli.client import Client, Parameter
from cli.moments import moment
from cli.output import now, people, show
from cli.snapshot import Snapshot


async def list_all(
    client: Client,
    filters: dict[str, Parameter],
    *,
    since: str | None,
    until: str | None,
    limit: int | None,
    cursor: str | None,
    as_json: bool,
) -> int:
    """So many that pass the filters, all if `limit` is None."""
    span = {"since": moment(since, now()), "until": moment(until, now())}
    page = await client.pages(paths.ORCHESTRATIONS, {**filters, **span}, most=limit, cursor=cursor)

    def picture() -> RenderableType:
        rest = [Text("there are more: --limit or --all", style="dim")] if page.get("nextCursor") else []
        return Group(tables.orchestrations(page["items"]), *rest)

    return show(page, as_json=as_json, picture=picture)


async def show_one(client: Client, orchestration_id: str, *, at: str | None, as_json: bool) -> int:
    answer = await client.orchestration(orchestration_id, at=moment(at, now()))
    seen = formats.moment((answer.as_of or "").partition(",")[2]) or now()

    def picture() -> RenderableType:
        # The past is shown as it looked then: nothing goes on in it.
        as_of = [Text(f"as of {formats.clean(answer.as_of)}", style="dim")] if at else []
        moment_shown = seen if at else now()
        snapshot = Snapshot.of(answer.body, moment_shown)
        return Group(*as_of, render.detail(snapshot, moment_shown, width=people().width))

    return show(answer.body, as_json=as_json, picture=picture)


async def stats(client: Client, orchestration_id: str, *, at: str | None, as_json: bool) -> int:
    found = await client.get(f"{paths.orchestration(orchestration_id)}/stats", {"at": moment(at, now())})
    return show(found, as_json=as_json, picture=lambda: tables.statistics(found))


async def events(client: Client, orchestration_id: str, *, after: int | None, limit: int | None, as_json: bool) -> int:
    """The history, the oldest first; behind the sequence `after`."""
    path = f"{paths.orchestration(orchestration_id)}/events"
    page = await client.pages(path, {"after": after}, most=limit, page=500)
    return show(page, as_json=as_json, picture=lambda: tables.events(page["items"]))
